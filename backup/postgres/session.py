"""Connections for the length of a backup: without the server's timeouts, and with pinned output formats."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow, tuple_row

from backup.errors import DumpError, PreflightError
from backup.postgres.dsn import Address

# Values that are read as text must be the same on every server.
_PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "extra_float_digits": "3",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # A row that a policy hides would be missing from the dump, so fail instead.
    "row_security": "off",
    # If our host dies, the server must not keep our locks for hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# Detects a network that drops everything silently.
_KEEPALIVES = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "6"}
# Not in every version: our locks must not outlive us while the server runs our statement.
_WHERE_KNOWN = {
    "client_connection_check_interval": "5s",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}


@contextmanager
def session(address: Address, *, application: str = "posthub-backup") -> Iterator[Connection[TupleRow]]:
    """A connection in autocommit mode.

    Raises:
        PreflightError: the server cannot be reached, or rejects the login.
        DumpError: the connection or a statement failed.
    """
    connection = connect(address, application=application)
    try:
        yield connection
    except psycopg.Error as error:
        raise DumpError(
            f"{address}: {' '.join(str(error).split())}", hint="check the PostgreSQL server's log"
        ) from error
    finally:
        connection.close()


def connect(address: Address, *, application: str = "posthub-backup") -> Connection[TupleRow]:
    """See :func:`session`; the caller closes it."""
    try:
        connection = psycopg.connect(
            make_conninfo("", **{**_KEEPALIVES, **address.public}),
            password=address.password or None,
            connect_timeout=15,
            autocommit=True,
            fallback_application_name=application,
            row_factory=tuple_row,
        )
    except psycopg.OperationalError as error:
        raise PreflightError(
            f"cannot connect to {address}: {_first_line(error)}",
            hint="check that the server is up, and check host, port, user and password",
        ) from None
    _pin(connection)
    return connection


def _pin(connection: Connection[TupleRow]) -> None:
    for name, value in _PINNED.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])
    connection.execute(
        "SELECT pg_catalog.set_config(name, value, false) FROM pg_catalog.pg_settings"
        " JOIN unnest(%s::text[], %s::text[]) AS wanted(setting_name, value) ON name = setting_name",
        [list(_WHERE_KNOWN), list(_WHERE_KNOWN.values())],
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
