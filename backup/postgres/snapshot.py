"""One exported snapshot of a database. pg_dump reads it, and so do the exact row counts of the manifest."""

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
    """The contents of a snapshot."""

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
    """Open a snapshot for a block, and begin to count its rows.

    Raises:
        DumpError: a lock timed out, or the tables kept changing.
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
            # Do not wait for the counts of an aborted run.
            _cancel(connection)


def _open(connection: Connection[TupleRow]) -> tuple[list[inventory.Name], str, datetime]:
    """Lock all tables, then take the snapshot, and check that no table was created in between."""
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
        hint="run it again at a quieter time",
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


def _contents(connection: Connection[TupleRow], names: list[inventory.Name]) -> Contents:
    # Production should not provide more than this one process for the counts.
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
