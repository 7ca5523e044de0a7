"""One exported snapshot of a database. pg_dump reads it, and so do the exact row counts of the manifest."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Event

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.cancellation import carry
from backup.catalogue.manifest import Expression, Extension, Place, Provided, Sequence, Server, Table
from backup.errors import DumpError
from backup.postgres import inventory, nested_types, provided
from backup.postgres.dsn import Address
from backup.postgres.exclusion import NOTHING, Excluded, Exclusion, resolve
from backup.postgres.session import OWN_PATH, cancel, session

LOCK_SECONDS = 15
LOCK_TIMEOUT = f"{LOCK_SECONDS}s"
TRIES = 5
Judge = Callable[[str, Place], bool]
"""Whether a snapshot is worth a dump, by its cluster's identifier and its place in the WAL."""
# The position is read after the snapshot was taken, so everything that the snapshot sees is before it.
_EXPORT = """
SELECT pg_export_snapshot(), now(), pg_current_snapshot()::text,
       CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint END
"""


@dataclass(frozen=True)
class Contents:
    """The contents of a snapshot."""

    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    extensions: tuple[Extension, ...]
    expressions: tuple[Expression, ...]
    provided: tuple[Provided, ...]
    roles: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot.

    Attributes:
        name: for ``pg_dump --snapshot``.
        taken: the server's time at its beginning.
        contents: counted in the background while the dump runs.
        excluded: the tables that the dump must exclude.
        place: the position of the snapshot in the server's WAL; None on a standby.
        rehashed: see :func:`backup.postgres.nested_types.rehashed`.
        confirm: called after the dump; raises if a TRUNCATE that no lock prevented removed rows.
    """

    name: str
    taken: datetime
    server: Server
    contents: Future[Contents]
    confirm: Callable[[], None]
    excluded: Excluded
    place: Place | None
    rehashed: bool


@contextmanager
def snapshot(
    address: Address, exclusion: Exclusion = NOTHING, judge: Judge | None = None
) -> Iterator[Snapshot]:
    """Open a snapshot for a block, and begin to count its rows.

    Args:
        exclusion: the tables that the dump excludes; they are neither locked nor counted.
        judge: if it rejects a snapshot, another one is taken, a few times at most.

    Raises:
        DumpError: a lock timed out, or the tables kept changing.
    """
    with (
        session(address, application="posthub-backup-snapshot", changes=OWN_PATH) as connection,
        ThreadPoolExecutor(1, thread_name_prefix="count") as pool,
    ):
        unwanted = Event()
        try:
            # Read before the dump: values that the dump has, or a recovery to the snapshot, are then never behind these.
            positions = inventory.sequences(connection)
            opened = _open(connection, exclusion, judge)
            found, rehashed = inventory.server(connection), nested_types.rehashed(connection)
            counting = carry(_contents, over=unwanted.is_set)
            contents = pool.submit(counting, connection, opened, positions)
            yield Snapshot(
                opened.name,
                opened.taken,
                found,
                contents,
                lambda: _confirm(connection, opened.tables),
                opened.excluded,
                opened.place,
                rehashed,
            )
        finally:
            # Do not wait for the counts of an aborted run, nor for a server that does not answer.
            cancel(connection)
            unwanted.set()


@dataclass(frozen=True)
class _Opened:
    """What is known as soon as a snapshot is open."""

    tables: dict[inventory.Name, int]
    name: str
    taken: datetime
    excluded: Excluded
    place: Place | None


def _open(connection: Connection[TupleRow], exclusion: Exclusion, judge: Judge | None) -> _Opened:
    """Lock all tables first, then take the snapshot, and check that no table was created in between."""
    changed = refused = 0
    while changed < TRIES:
        _begin(connection, "READ COMMITTED")
        before, excluded = _wanted(connection, exclusion)
        locking = inventory.lockable(connection, len(before))
        system = inventory.system_identifier(connection)
        connection.execute("ROLLBACK")
        _begin(connection, "REPEATABLE READ")
        if not locking or _locked(connection, list(before)):
            row = connection.execute(_EXPORT).fetchone()
            assert row is not None
            place = Place(snapshot=row[2], position=row[3]) if row[3] is not None else None
            if _wanted(connection, exclusion) == (before, excluded):
                if refused == TRIES or place is None or judge is None or judge(system, place):
                    return _Opened(before, row[0], row[1], excluded, place)
                refused += 1
                connection.execute("ROLLBACK")
                continue
        changed += 1
        connection.execute("ROLLBACK")
    raise DumpError(
        "tables were created and dropped faster than they could be locked",
        hint="run it again at a quieter time",
    )


def _wanted(
    connection: Connection[TupleRow], exclusion: Exclusion
) -> tuple[dict[inventory.Name, int], Excluded]:
    """The tables whose rows are dumped, and those that are excluded."""
    excluded = resolve(connection, exclusion)
    left_out = excluded.all
    tables = inventory.tables(connection)
    return {name: oid for name, oid in tables.items() if oid not in left_out}, excluded


def _begin(connection: Connection[TupleRow], isolation: str) -> None:
    """Set limits that end with the transaction. Parallel workers are disabled: the backup must not use more of production's processes."""
    connection.execute(
        f"BEGIN ISOLATION LEVEL {isolation} READ ONLY; SET LOCAL search_path TO pg_catalog;"
        f" SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL max_parallel_workers_per_gather = 0"
    )


def _locked(connection: Connection[TupleRow], names: list[inventory.Name]) -> bool:
    try:
        inventory.lock(connection, names)
    except psycopg.errors.UndefinedTable:
        return False
    except psycopg.errors.LockNotAvailable:
        raise DumpError(
            f"another session has locked a table for more than {LOCK_TIMEOUT}",
            hint="look for a long ALTER TABLE, VACUUM FULL or migration in pg_stat_activity",
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise DumpError(
            f"a table cannot be read: {error.diag.message_primary}",
            hint="grant pg_read_all_data to the backup's role",
        ) from None
    return True


def _contents(connection: Connection[TupleRow], opened: _Opened, positions: tuple[Sequence, ...]) -> Contents:
    # The locks of the catalogues that these queries read end with them.
    connection.execute("SAVEPOINT catalogues")
    expressions, notes = inventory.expressions(connection), inventory.left_out(connection)
    connection.execute("ROLLBACK TO SAVEPOINT catalogues")
    objects, missing = _provided(connection)
    return Contents(
        sequences=positions,
        extensions=inventory.extensions(connection),
        expressions=expressions,
        provided=objects,
        roles=inventory.roles(connection),
        notes=(*opened.excluded.notes(), *notes, *missing),
        tables=inventory.count(connection, list(opened.tables)),
    )


def _provided(connection: Connection[TupleRow]) -> tuple[tuple[Provided, ...], list[str]]:
    """The objects that no dump contains. If something else drops one of them meanwhile, they cannot be read, which is a note."""
    notes: list[str] = []
    found: tuple[Provided, ...] = ()
    try:
        found = provided.provided(connection)
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error as error:
        if connection.broken:
            raise
        notes.append(
            f"changes to objects of extensions: they could not be read: {error.diag.message_primary}"
        )
    connection.execute("ROLLBACK TO SAVEPOINT catalogues")
    return found, notes


def _confirm(connection: Connection[TupleRow], tables: dict[inventory.Name, int]) -> None:
    if found := inventory.rewritten(connection, tables.values()):
        raise DumpError(
            f"{found[0]} was emptied, rewritten or dropped while the backup ran: rows may be missing from it",
            hint="run again; do not run TRUNCATE or table rewrites during the backup",
        )
