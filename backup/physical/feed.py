"""Feeds the stored log to a recovering server: segments are fetched ahead, and its restore_command takes them.

PostgreSQL treats every exit code of that command from 1 to 125 as "the log ends here", and may then go into production
without the rest. So the command exits with 1 only for files that are not in the store's listing. It waits for every file
in the listing, and if one cannot be fetched, it exits with 255, which stops the server.
"""

import logging
import secrets
import shlex
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

log = logging.getLogger(__name__)

# Number of files that are fetched at the same time, and that wait to be taken.
FETCHERS = 2
AHEAD = 8
# The server may ask again for a file that it took while looking ahead; it then finds the file in its own pg_wal.
_SCRIPT = """\
grep -qxF -- "$1" {folder}/taken && exit 1
until mv -- {folder}/ready/"$1" "$2" 2>/dev/null; do
  grep -qxF -- "$1" {folder}/promised || exit 1
  test ! -e {folder}/failed || exit 255
  sleep 0.02
done
echo "$1" >> {folder}/taken
"""
Fetch = Callable[[str, Path], None]
"""Writes the plain bytes of a file of the log, by its name, into a new file; raises if it cannot be had."""


class Feed:
    """The files of the log for one start of a server. Use as a context manager: it fetches while it is open.

    Args:
        folder: an existing folder that server and command may write; while the feed is open, the files are in a subfolder.
        promised: names of the files that the store has, or would have without a gap, in the order in which they are needed.
        fetch: called from several threads.
        ahead: maximum number of files that wait to be taken; None: fetch all of them first.

    Attributes:
        failure: why a promised file could not be fetched; None if there was no failure.
    """

    def __init__(
        self, folder: Path, promised: Sequence[str], fetch: Fetch, *, ahead: int | None = AHEAD
    ) -> None:
        self.failure: BaseException | None = None
        self._folder = folder / f"feed-{secrets.token_hex(4)}"
        self._promised = list(promised)
        self._fetch = fetch
        self._ahead = ahead
        self._next = 0
        self._closing = threading.Event()
        self._turn = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name="fetch the log", daemon=True) for _ in range(FETCHERS)
        ]

    @property
    def command(self) -> str:
        """The restore_command for ``postgresql.conf``."""
        script = shlex.quote(str(self._folder / "take.sh")).replace("%", "%%")
        return f'sh {script} "%f" "%p"'

    @property
    def ready(self) -> Path:
        """The folder of the files that wait to be taken."""
        return self._folder / "ready"

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
        (self._folder / "taken").touch()
        (self._folder / "promised").write_text("".join(f"{name}\n" for name in self._promised))
        (self._folder / "take.sh").write_text(_SCRIPT.format(folder=shlex.quote(str(self._folder))))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._folder)

    def _work(self) -> None:
        while (name := self._take_turn()) is not None:
            fetched = self._folder / f"{name}.part"
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
        taken = (self._folder / "taken").read_text().count("\n")
        return self._next - taken < self._ahead

    def _fail(self, name: str, error: BaseException) -> None:
        log.error("recovery stops at %s, which cannot be had: %s", name, error)
        if self.failure is None:
            self.failure = error
        (self._folder / "failed").touch()
