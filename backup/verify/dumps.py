"""Digests of an archive, and of the database that was restored from it."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from backup.cancellation import Check, carry
from backup.confinement import Confinement
from backup.errors import DumpError, PreflightError
from backup.pipeline import ChildSource
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.postgres.dump import THROUGH_ROOT
from backup.postgres.exclusion import exact_pattern
from backup.programs import Programs, clean_environment
from backup.progress import Progress, silent
from backup.verify import large_tables
from backup.verify.digests import Digests, Key, Known, Parser, routed_otherwise
from backup.verify.large_tables import Exchange, Large

# A third of the share of what restores: then it is done when a restore that uses all processors is.
NICENESS = 5
_HINT = "read the message; run: python -m backup doctor"


@dataclass(frozen=True)
class Restored:
    """A restored database.

    Attributes:
        folder: where the programs may write.
        progress: called with the bytes of what is read.
        exchange: how the server passes the rows of large tables; None if only a dump reads it.
        known: objects of the archive that were already read.
    """

    programs: Programs
    address: Address
    encoding: str
    folder: Path
    progress: Progress = silent
    exchange: Exchange | None = None
    known: Known = field(default_factory=Known)

    def digests(self, expected: Future[Digests], check: Check) -> Digests:
        """The digests of a new dump.

        Args:
            expected: those of the archive. A large table that differs from them in any way is dumped.
        """
        tables = self._large()
        apart = [f"--exclude-table-data={exact_pattern(each.name)}" for each in tables]
        failed = threading.Event()
        with ThreadPoolExecutor(1, thread_name_prefix="large tables") as pool:
            reading = pool.submit(carry(self._read, over=failed.is_set), tables, check, failed.is_set)
            try:
                found = self._dumped(["--create", *apart], check)
            except BaseException:
                failed.set()
                raise
            found |= reading.result()
        if differing := [each for each in tables if not _equal(each.key, expected.result(), found)]:
            for each in differing:
                found.pop(each.key, None)
            found |= self._again([each.key for each in differing], [each.name for each in differing], check)
        if rooted := routed_otherwise(expected.result(), found):
            found |= self._again(rooted, [key[1:] for key in rooted], check, THROUGH_ROOT)
        return found

    def _again(
        self, keys: Sequence[Key], names: Sequence[tuple[str, str]], check: Check, *options: str
    ) -> Digests:
        """The digests of some tables' rows, from a dump of these."""
        tables = (f"--table={exact_pattern(name)}" for name in names)
        again = self._dumped(["--data-only", *options, *tables], check)
        return {key: again[key] for key in keys if key in again}

    def _large(self) -> list[Large]:
        if self.exchange is None or self.encoding != "UTF8":
            return []
        if self.programs.major("postgres") < large_tables.FIRST_VERSION:
            return []
        return large_tables.large_tables(self.address, self.exchange.least)

    def _read(self, tables: Sequence[Large], check: Check, unwanted: Callable[[], bool]) -> Digests:
        """The digests of large tables; none if they cannot be read in this way, which a dump reports."""
        if self.exchange is None or not tables:
            return {}
        try:
            return large_tables.read(tables, self.address, self.exchange, check, self.progress, unwanted)
        except (DumpError, PreflightError, OSError):
            return {}

    def _dumped(self, options: Iterable[str], check: Check) -> Digests:
        command = [
            self.programs.path("pg_dump"),
            "--format=plain",
            f"--encoding={self.encoding}",
            "--no-tablespaces",
            "--no-password",
            *options,
            f"--dbname={self.address.conninfo}",
        ]
        confinement = Confinement(self.folder).connecting(self.address.public)
        parser = Parser(self.known)
        with (
            child_access(self.address) as (env, fds),
            ChildSource(
                command, env=env, pass_fds=fds, hint=_HINT, confinement=confinement, check=check
            ) as source,
        ):
            _feed(source, parser, self.progress)
        return parser.finish()


def _equal(key: Key, expected: Digests, found: Digests) -> bool:
    dumped, restored = expected.get(key), found.get(key)
    return dumped is not None and restored is not None and dumped.sha256 == restored.sha256


def archive_digests(
    programs: Programs, archive: Path, check: Check, known: Known, needed: threading.Event | None = None
) -> Digests:
    """Read an archive as text.

    Args:
        known: takes the objects that were read.
        needed: until it is set, the reading gives way to everything else.
    """
    command = [programs.path("pg_restore"), "--create", "--no-tablespaces", "--file=-", str(archive)]
    confinement = Confinement(archive.parent)
    parser = Parser(known)
    # The program itself does not give way, because its priority cannot be restored. It waits until its output is read.
    with ChildSource(
        command, env=clean_environment(), hint=_HINT, confinement=confinement, check=check
    ) as source:
        if needed is None or not _feed_slowly(source, parser, needed):
            _feed(source, parser)
    return parser.finish()


def _feed_slowly(source: ChildSource, parser: Parser, needed: threading.Event) -> bool:
    """Read at a low priority until the result is needed; returns whether all of it was read.

    A separate thread reads, because an ordinary user can lower a thread's priority but not raise it again. On a busy host,
    a low priority would delay the comparison.
    """

    def feed() -> bool:
        thread = threading.get_native_id()
        niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
        return _feed(source, parser, enough=needed.is_set)

    with ThreadPoolExecutor(1, thread_name_prefix="digest slowly") as pool:
        return pool.submit(feed).result()


def _feed(
    source: ChildSource, parser: Parser, progress: Progress = silent, enough: Callable[[], bool] = bool
) -> bool:
    """Read until the end, or until it is enough; returns whether the end was read."""
    while not enough():
        piece = source.read()
        if not piece:
            return True
        progress(len(piece))
        parser.feed(piece)
    return False
