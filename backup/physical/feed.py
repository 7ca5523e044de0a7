"""Feeds the stored WAL to a recovering server: segments are fetched ahead, and its restore_command takes them.

PostgreSQL treats every exit code of that command from 1 to 125 as "the WAL ends here", and may then go into production
without the rest. So the command exits with 1 only for files that are not in the store's listing. It waits for every file
in the listing, and if one cannot be fetched, it exits with 255, which stops the server.
"""

import logging
import os
import secrets
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

# Number of files that are fetched at the same time, and that wait to be taken.
FETCHERS = 2
AHEAD = 8
# The server may ask again for a segment that it took while looking ahead; it then finds the file in its own pg_wal. It also
# asks twice for a history, and forgets the ancestors of its timeline if there is none the second time.
_HISTORY = ".history"
_SCRIPT = """\
case "$1" in *.history) ;; *) grep -qxF -- "$1" {taken} && exit 1 ;; esac
until test -e {folder}/ready/"$1"; do
  grep -qxF -- "$1" {folder}/promised || exit 1
  test ! -e {folder}/failed || exit 255
  sleep 0.02
done
cp -- {folder}/ready/"$1" "$2" || exit 255
case "$1" in *.history) ;; *) echo "$1" >> {taken} ;; esac
"""
# Bytes of the list of taken files that are read at a time.
_PIECE = 1 << 16
Fetch = Callable[[str, Path], None]
"""Writes the plain bytes of a file of the WAL, by its name, into a new file; raises if it cannot be fetched."""


class Feed:
    """The files of the WAL for one start of a server. Use as a context manager: it fetches while it is open.

    The server can run code of the base backup's. It copies the files and writes only the list of what it has taken,
    which we read through our own descriptor: with a link in place of a file, it could make us write anywhere.

    Args:
        folder: an existing folder that the server cannot write; while the feed is open, the files are in a subfolder.
        server: an existing folder that the server can write; None if the reader of the files does not take them.
        promised: names of the files that the store has, or would have without a gap, in the order in which they are needed.
        fetch: called from several threads.
        ahead: maximum number of files that wait to be taken; None: fetch all of them first.

    Attributes:
        folder: the subfolder, which the server must be able to read.
        failure: why a promised file could not be fetched; None if there was no failure.
    """

    def __init__(
        self,
        folder: Path,
        promised: Sequence[str],
        fetch: Fetch,
        *,
        server: Path | None = None,
        ahead: int | None = AHEAD,
    ) -> None:
        self.failure: BaseException | None = None
        self.folder = folder / f"feed-{secrets.token_hex(4)}"
        self._list = (server or self.folder) / f"taken-{secrets.token_hex(4)}"
        self._descriptor = -1
        self._read = 0
        self._taken: set[str] = set()
        self._promised = sorted(promised, key=lambda name: not name.endswith(_HISTORY))
        self._histories = sum(name.endswith(_HISTORY) for name in promised)
        self._fetch = fetch
        self._ahead = ahead
        self._next = 0
        self._closing = threading.Event()
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name="fetch the WAL", daemon=True) for _ in range(FETCHERS)
        ]

    @property
    def command(self) -> str:
        """The restore_command for ``postgresql.conf``."""
        script = shlex.quote(str(self.folder / "take.sh")).replace("%", "%%")
        return f'sh {script} "%f" "%p"'

    @property
    def ready(self) -> Path:
        """The folder of the files that wait to be taken."""
        return self.folder / "ready"

    def wait_for_all(self, check: Callable[[], None]) -> None:
        """Wait until every file is there; only without a limit ahead.

        Raises:
            OpsError: one cannot be fetched.
        """
        assert self._ahead is None
        while any(thread.is_alive() for thread in self._threads):
            check()
            self._threads[0].join(0.1)
            self._threads[-1].join(0.1)
        if self.failure is not None:
            raise self.failure

    def __enter__(self) -> Self:
        self.ready.mkdir(parents=True)
        self._descriptor = os.open(
            self._list, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        (self.folder / "promised").write_text("".join(f"{name}\n" for name in self._promised))
        (self.folder / "take.sh").write_text(
            _SCRIPT.format(folder=shlex.quote(str(self.folder)), taken=shlex.quote(str(self._list)))
        )
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        os.close(self._descriptor)
        with suppress(OSError):  # the server may have replaced it with anything
            self._list.unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _work(self) -> None:
        while (name := self._take_turn()) is not None:
            fetched = self.folder / f"{name}.part"
            try:
                self._fetch(name, fetched)
            except BaseException as error:
                self._fail(name, error)
                return
            fetched.rename(self.ready / name)

    def _take_turn(self) -> str | None:
        """The next file to fetch, as soon as there is room for it; None if nothing is left to do."""
        with self._turn:
            while not self._room():
                if self._closing.wait(0.02):
                    return None
            if self._closing.is_set() or self.failure is not None or self._next == len(self._promised):
                return None
            self._next += 1
            return self._promised[self._next - 1]

    def _room(self) -> bool:
        if self._ahead is None:
            return True
        self._look()
        # Histories come first and stay.
        histories = min(self._next, self._histories)
        return self._next < self._histories or self._next - histories - len(self._taken) < self._ahead

    def _look(self) -> None:
        """Remove what was taken."""
        data = os.pread(self._descriptor, _PIECE, self._read)
        whole = data.rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        new = {line.decode(errors="replace") for line in whole.split(b"\n")} - self._taken
        for name in new.intersection(self._promised[self._histories :]):
            self._taken.add(name)
            (self.ready / name).unlink(missing_ok=True)

    def _fail(self, name: str, error: BaseException) -> None:
        log.error("recovery stops at %s, which cannot be fetched: %s", name, error)
        if self.failure is None:
            self.failure = error
        (self.folder / "failed").touch()
