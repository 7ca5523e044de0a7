"""Connections for the length of a backup: direct ones only, with settings that fix what is read as text.

A connection pooler in transaction mode would run each of our transactions in another server process, and leave our
settings to the next client. So every connection is first queried for its server process, which changes nothing. Settings
are sent as options of the connection, which a pooler refuses or drops, and none of our statements changes the session.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow, tuple_row

from backup.cancellation import (
    Check,
    OutOfTimeError,
    StoppedError,
    answered,
    cleaning_up,
    note_response,
    waiting,
)
from backup.errors import LOCKS, LOCKS_SIGN, DumpError, PreflightError
from backup.postgres.dsn import Address
from backup.programs import OF_SUPERUSERS, pinned
from sidecar import OpsError

# In addition to what is pinned for children: text must be the same on every server.
_SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO,YMD",
    "search_path": "pg_catalog",
    # A row that a policy hides would be missing from the dump, so fail instead.
    "row_security": "off",
    # Queries of the catalogues are long, and the server overestimates their costs: it would compile them for seconds.
    "jit": "off",
    # If our host dies, the server must not keep our locks for hours.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
# If the network silently drops everything, only keepalives and the time-out of sent data reveal it.
KEEPALIVES = {
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "90000",
}
CONNECT_SECONDS = 15
TRIES = 10
HINT = "check that the server is up, and check host, port, user and password"
POOLER = "give the database's own address and port, not the pooler's"
# A pooler's error for parameters that it does not pass on.
_NO_OPTIONS = "unsupported startup parameter"
NO_CHANGES: Mapping[str, str | None] = {}
# The database's own search path, for what must be read as its own users read it.
OWN_PATH: Mapping[str, str | None] = {"search_path": None}

T = TypeVar("T")


@dataclass(frozen=True)
class Login:
    """What decides which settings are sent.

    Attributes:
        version: the server's, as ``server_version_num``.
        superuser: whether the role may set everything.
    """

    version: int
    superuser: bool


# By address.
_logins: dict[tuple[str, ...], Login] = {}


class HeedingConnection(Connection[TupleRow]):
    """A connection whose waits end with the work of their thread: libpq itself waits endlessly for a response."""

    def wait(self, gen: PQGen[T], *args: Any, **options: Any) -> T:
        try:
            return super().wait(_watched(gen, waiting()), *args, **options)
        except OpsError:
            self._abandon(gen)
            raise

    def _abandon(self, gen: PQGen[T]) -> None:
        """End the statement in progress, as psycopg does after a signal: a clean-up may need the connection."""
        if self.info.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            cancel(self)
            with cleaning_up() as seconds, suppress(psycopg.Error):
                super().wait(gen, timeout=seconds)


def _watched(gen: PQGen[T], check: Check) -> PQGen[T]:
    """The same steps, with a check between them for whether the wait must end."""
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                note_response()
            else:
                check()
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


@contextmanager
def session(
    address: Address, *, application: str = "posthub-backup", changes: Mapping[str, str | None] = NO_CHANGES
) -> Iterator[Connection[TupleRow]]:
    """A direct connection in autocommit mode; see :func:`connect`.

    Raises:
        PreflightError: the server cannot be reached, rejects us, or is behind a pooler.
        DumpError: the connection or a statement failed.
    """
    connection = connect(address, application=application, changes=changes)
    try:
        yield connection
    except (UnicodeDecodeError, psycopg.errors.CharacterNotInRepertoire):
        raise DumpError(
            f"{address}: a name or text in its catalogue is not valid UTF-8",
            hint="the database's encoding is SQL_ASCII, which accepts any bytes; rename what is not in UTF-8",
        ) from None
    except psycopg.Error as error:
        if (ended := _ended_by(error)) is not None:
            raise ended from None
        raise DumpError(f"{address}: {text_of(error)}", hint=_hint_for(error)) from error
    finally:
        connection.close()


def _ended_by(error: BaseException | None) -> StoppedError | OutOfTimeError | None:
    """What ended the work, if the error is only that of its clean-up over a connection that is still waiting."""
    while error is not None and not isinstance(error, StoppedError | OutOfTimeError):
        error = error.__context__
    return error


def _hint_for(error: psycopg.Error) -> str:
    return LOCKS if LOCKS_SIGN in str(error) else "check the PostgreSQL server's log"


def connect(
    address: Address, *, application: str = "posthub-backup", changes: Mapping[str, str | None] = NO_CHANGES
) -> Connection[TupleRow]:
    """See :func:`session`; the caller closes it.

    Args:
        changes: settings by name that differ from ours; None leaves one as the database has it.
    """
    known = login(address, application)
    try:
        return _with_settings(address, application, known, changes)
    except PreflightError as error:
        # In any language, a refusal names the setting.
        if not known.superuser or not any(name in error.message for name in OF_SUPERUSERS):
            raise
    # It was a superuser when it was asked.
    known = _logins[_server(address)] = Login(known.version, superuser=False)
    return _with_settings(address, application, known, changes)


def _with_settings(
    address: Address, application: str, known: Login, changes: Mapping[str, str | None]
) -> Connection[TupleRow]:
    wanted = {**settings(known), **changes}
    return _direct(address, application, {name: value for name, value in wanted.items() if value is not None})


def login(address: Address, application: str = "posthub-backup") -> Login:
    """What a server says about itself and us when we connect; asked once.

    Raises:
        PreflightError: see :func:`session`.
    """
    known = _logins.get(_server(address))
    if known is None:
        with _direct(address, application, {}) as first:
            superuser = first.info.parameter_status("is_superuser") == "on"
            known = _logins[_server(address)] = Login(first.info.server_version, superuser)
    return known


def settings(known: Login) -> dict[str, str]:
    """The settings of our sessions."""
    return {**pinned(known.version, superuser=known.superuser), **_SESSION}


def _server(address: Address) -> tuple[str, ...]:
    return tuple(address.public.get(name, "") for name in ("host", "hostaddr", "port", "user", "service"))


def _direct(address: Address, application: str, given: Mapping[str, str]) -> Connection[TupleRow]:
    """A connection that was found to be direct, by a query that changes nothing."""
    connection = _open(address, application, given)
    try:
        _check_direct(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(address: Address, application: str, given: Mapping[str, str]) -> Connection[TupleRow]:
    ours = {**KEEPALIVES, **address.public, "client_encoding": "UTF8"}
    if given:
        ours["options"] = address.options(given)
    try:
        return answered(
            lambda: HeedingConnection.connect(
                make_conninfo("", **ours),
                password=address.password or None,
                connect_timeout=CONNECT_SECONDS,
                autocommit=True,
                # Behind a pooler, a prepared statement might be executed in another process.
                prepare_threshold=None,
                fallback_application_name=application,
                row_factory=tuple_row,
            )
        )
    except psycopg.Error as error:
        if _NO_OPTIONS in str(error):
            raise _pooled(address) from None
        raise PreflightError(f"cannot connect to {address}: {text_of(error)}", hint=HINT) from None


def cancel(connection: Connection[TupleRow]) -> None:
    """Ask the server to end the statement in progress, if it answers at all."""
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.ACTIVE:
        return

    with cleaning_up() as seconds:

        def ask() -> None:
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=seconds)

        # Before libpq 17, the request waits without a limit.
        asking = Thread(target=ask, name="cancel", daemon=True)
        asking.start()
        asking.join(seconds)


def _check_direct(connection: Connection[TupleRow], address: Address) -> None:
    """Compare the process that answers with the one that accepted the login: behind a pooler they differ in every mode."""
    try:
        answering = _process(connection)
    except psycopg.Error as error:
        raise PreflightError(f"{address} does not answer: {text_of(error)}", hint=HINT) from None
    if answering != connection.info.backend_pid:
        raise _pooled(address)


def _process(connection: Connection[TupleRow]) -> int:
    """The server process of a connection. A role's time limit of milliseconds may end the query, so it is repeated."""
    for left in reversed(range(TRIES)):
        try:
            # One message is one transaction, and SET LOCAL ends with it.
            cursor = connection.execute("SET LOCAL statement_timeout = 0; SELECT pg_catalog.pg_backend_pid()")
            cursor.nextset()
            row = cursor.fetchone()
        except psycopg.errors.QueryCanceled:
            if not left:
                raise
        else:
            break
    return int(row[0]) if row else 0


def _pooled(address: Address) -> PreflightError:
    return PreflightError(
        f"a connection pooler is between us and {address}; nothing was changed: a backup through it would change the"
        " settings of the application's connections",
        hint=POOLER,
    )


def text_of(error: Exception) -> str:
    """All lines of an error as one; libpq puts the reason first and a question after it."""
    return " ".join(str(error).split()) or type(error).__name__
