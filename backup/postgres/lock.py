"""One run per database at a time: an advisory lock that the server releases when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.errors import BusyError, DumpError
from backup.postgres.dsn import Address
from backup.postgres.session import session

# "posthub backup" as a number; any constant would work, but it must never change.
KEY = 0x706F7374_62616B75


class AdvisoryLock:
    """The acquired lock."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection

    def confirm(self) -> None:
        """Fail if the connection, and with it the lock, was lost in the meantime: another run may have begun."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            raise DumpError(
                "the connection that holds the backup lock was lost during the run",
                hint="run again; if it happens again, look for a proxy or pooler that drops idle connections",
            ) from None


@contextmanager
def advisory_lock(address: Address, key: int = KEY) -> Iterator[AdvisoryLock]:
    """Take the lock of one database for the block.

    Args:
        key: the kind of work that is locked; by default dumps.

    Raises:
        BusyError: another run has it.
    """
    with session(address, application="posthub-backup-lock") as connection:
        taken = connection.execute("SELECT pg_try_advisory_lock(%s)", [key]).fetchone()
        if not taken or not taken[0]:
            raise BusyError(
                f"another backup of {address.database} is in progress{_holder(connection, key)}",
                hint="wait until it ends; the lock ends with its holder's connection",
            )
        yield AdvisoryLock(connection)


def _holder(connection: Connection[TupleRow], key: int) -> str:
    row = connection.execute(
        "SELECT a.pid, coalesce(host(a.client_addr), 'a local socket'),"
        " to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32 | l.objid::bigint) = %s"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [key],
    ).fetchone()
    return f": server process {row[0]} from {row[1]} since {row[2]} UTC" if row else ""
