"""Carries out SQL that comes from a store, statement by statement, over the server's own protocol.

No program reads it on the way, because psql has its own commands, which can run programs and write files here. The
protocol accepts one statement at a time, so a script that is split wrongly is refused, not carried out.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from backup.cancellation import Check, carry, never
from backup.catalogue.records import Difference
from backup.errors import OURS, VerificationError
from backup.postgres.dsn import Address
from backup.postgres.session import cancel, session, text_of

POLL_SECONDS = 0.5
STOP_SECONDS = 3.0
MAX_NAMED = 20
MAX_STATEMENT = 200
# Classes of SQLSTATE that concern the server: connection, resources, shutdown, its disk and files.
_OURS = ("08", "53", "57", "58", "XX")
# Where the server quotes a value that it cannot read: at the end of a message, or as a value out of range.
_VALUE = re.compile(r'(?<=: )".*"$|(?<=\bvalue )".*"(?= is out of range)', re.DOTALL)
T = TypeVar("T")


class Runner:
    """A connection whose statements are cancelled when a check raises."""

    def __init__(self, connection: Connection[TupleRow], pool: ThreadPoolExecutor, check: Check) -> None:
        self.connection = connection
        self._pool = pool
        self._check = check

    def execute(self, statement: bytes) -> None:
        """Carry out exactly one statement.

        Raises:
            psycopg.Error: the server refuses it.
        """
        # Only the simple protocol accepts several at once; asking for a binary result selects the other one.
        self.wait(lambda: self.connection.execute(statement, binary=True))

    @property
    def stuck(self) -> bool:
        """Whether the last statement waits for rows, which none of our definitions does."""
        return self.connection.info.transaction_status == TransactionStatus.ACTIVE

    def wait(self, work: Callable[[], T]) -> T:
        """Wait for the connection's work, and cancel it when the check raises or a signal arrives."""
        future = self._pool.submit(carry(work))
        try:
            while True:
                self._check()
                try:
                    return future.result(timeout=POLL_SECONDS)
                except TimeoutError:
                    if future.done():
                        raise
        except BaseException:
            if not future.done():
                cancel(self.connection)
                wait([future], STOP_SECONDS)
            raise


@contextmanager
def runner(address: Address, check: Check = never) -> Iterator[Runner]:
    """A connection for SQL that comes from a store.

    Raises:
        PreflightError: the server cannot be reached.
    """
    with (
        session(address, application="posthub-restore") as connection,
        ThreadPoolExecutor(1, thread_name_prefix="statements") as pool,
    ):
        yield Runner(connection, pool, check)


def carry_out(
    address: Address, kind: str, statements: Iterable[bytes], check: Check = never
) -> list[Difference]:
    """Carry out all statements; each one that the server refuses is a difference.

    Args:
        kind: the kind of the differences.

    Raises:
        VerificationError: the server failed, which says nothing about the statements.
    """
    refused: list[str] = []
    with runner(address, check) as running:
        for statement in statements:
            try:
                running.execute(statement)
            except psycopg.Error as error:
                refused.append(_refusal(error, statement))
            if running.stuck:
                refused.append("the statements after it were not carried out")
                break
    return differences(kind, refused)


def differences(kind: str, errors: Sequence[str]) -> list[Difference]:
    """Errors as differences: the first ones, and the number of the others."""
    more = len(errors) - MAX_NAMED
    shown = [*errors[:MAX_NAMED], f"{more} more errors"] if more > 0 else errors
    return [Difference(kind=kind, object="archive", expected="no error", found=each) for each in shown]


def _refusal(error: psycopg.Error, statement: bytes) -> str:
    """The server's message, with the beginning of the statement."""
    broken = isinstance(error, psycopg.OperationalError) and error.sqlstate is None
    if broken or (error.sqlstate or "").startswith(_OURS):
        raise VerificationError(f"the server could not continue: {text_of(error)}", hint=OURS) from None
    about = " ".join(statement[:MAX_STATEMENT].decode(errors="replace").split())
    return f"ERROR: {error.diag.message_primary or text_of(error)} ({about})"


def without_values(message: str) -> str:
    """A server's message with the values of rows replaced by the beginning of their SHA-256: reports are not encrypted."""
    return _VALUE.sub(lambda found: f"SHA-256 {hashlib.sha256(found[0].encode()).hexdigest()[:16]}…", message)
