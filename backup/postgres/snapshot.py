"""One moment of a database, held open: pg_dump reads it, and so do the exact row counts that go into the manifest."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Extension, Sequence, Server, Table
from backup.errors import DumpError
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.session import session

LOCK_TIMEOUT = "15s"
TRIES = 5


@dataclass(frozen=True)
class Contents:
    """What is in a snapshot."""

    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    extensions: tuple[Extension, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot.

    Attributes:
        name: for ``pg_dump --snapshot``.
        taken: the server's time at its beginning.
        contents: counted in the background while the dump runs.
    """

    name: str
    taken: datetime
    server: Server
    contents: Future[Contents]


@contextmanager
def snapshot(address: Address) -> Iterator[Snapshot]:
    """Open a snapshot and begin to count in it; it ends with the block.

    Raises:
        DumpError: a lock could not be had in time, or the tables kept changing.
    """
    with (
        session(address, application="posthub-backup-snapshot") as connection,
        ThreadPoolExecutor(1, thread_name_prefix="count") as pool,
    ):
        try:
            names, name, taken = _open(connection)
            found = inventory.server(connection)
            yield Snapshot(name, taken, found, pool.submit(_contents, connection, names))
        finally:
            # A count of an aborted run must not be waited for.
            _cancel(connection)


def _open(connection: Connection[TupleRow]) -> tuple[list[inventory.Name], str, datetime]:
    """Lock all tables first, then take the snapshot, and see that no table came in between."""
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")
    for _ in range(TRIES):
        before = inventory.tables(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if _locked(connection, list(before)):
            row = connection.execute("SELECT pg_export_snapshot(), now()").fetchone()
            assert row is not None
            if inventory.tables(connection) == before:
                return list(before), row[0], row[1]
        connection.execute("ROLLBACK")
    raise DumpError(
        "tables were created and dropped faster than they could be locked",
        hint="run again in a quieter moment",
    )


def _locked(connection: Connection[TupleRow], names: list[inventory.Name]) -> bool:
    try:
        inventory.lock(connection, names)
    except psycopg.errors.UndefinedTable:
        return False
    except psycopg.errors.LockNotAvailable:
        raise DumpError(
            f"a table is locked by somebody else for more than {LOCK_TIMEOUT}",
            hint="look for a long ALTER TABLE, VACUUM FULL or migration in pg_stat_activity",
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise DumpError(
            f"a table may not be read: {error.diag.message_primary}",
            hint="grant pg_read_all_data to the backup's role",
        ) from None
    return True


def _contents(connection: Connection[TupleRow], names: list[inventory.Name]) -> Contents:
    # The dump is what must be quick; production should not lend it more processes than this one.
    connection.execute("SET max_parallel_workers_per_gather = 0")
    return Contents(
        sequences=inventory.sequences(connection),
        extensions=inventory.extensions(connection),
        roles=inventory.roles(connection),
        tables=tuple(inventory.count(connection, name) for name in names),
    )


def _cancel(connection: Connection[TupleRow]) -> None:
    if connection.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
        connection.cancel_safe(timeout=5)
