"""One connection of libpq: commands, results and copies, with waits that can be stopped."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from psycopg import Error, pq
from psycopg.pq.abc import PGconn, PGresult

from backup.errors import ReplicationError
from backup.postgres.session import CONNECT_SECONDS, HINT

SERVER_LOG = "check the PostgreSQL server's log"
# Seconds between two checks of a wait.
_POLL_SECONDS = 0.5
_ENDED_WELL = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


@dataclass(frozen=True)
class Link:
    """A connection whose waits can be stopped, and whose failures become errors with the server's messages."""

    connection: PGconn
    where: str
    check: Callable[[], None]

    def run(self, command: str) -> PGresult:
        """The result of a command that ends at once. After a failure, the next command can be sent."""
        result = self.ask(command)
        try:
            return self.well(result)
        finally:
            with suppress(ReplicationError):
                self.drain()

    def ask(self, command: str) -> PGresult | None:
        """Send a command, and wait for its first result."""
        with self.unbroken():
            self.connection.send_query(command.encode())
        return self.next_result()

    def next_result(self) -> PGresult | None:
        """The next result; None after the last one."""
        with self.unbroken():
            while self.connection.is_busy():
                self.wait_and_check()
            return self.connection.get_result()

    def well(self, result: PGresult | None) -> PGresult:
        """A result that is not an error."""
        if result is None or result.status not in _ENDED_WELL:
            raise self.failure(result)
        return result

    def copied(self) -> tuple[int, memoryview]:
        """The next message of a copy: its size, 0 if none is there yet, below 0 at the end."""
        with self.unbroken():
            return self.connection.get_copy_data(1)

    def wait_and_check(self) -> None:
        self.check()
        self.wait(_POLL_SECONDS)

    def wait(self, seconds: float, gather: float = 0.0) -> bool:
        """Wait for the server to send something, and then for ``gather`` seconds; returns whether it may have."""
        if self.connection.status != pq.ConnStatus.OK:
            raise self.failure(None)
        if not select.select([self.connection.socket], [], [], max(0.0, seconds))[0]:
            return False
        if gather:
            time.sleep(gather)
        with self.unbroken():
            self.connection.consume_input()
        return True

    def drain(self) -> None:
        """Read the remaining results of a command, so that the next one can be sent."""
        while self.next_result() is not None:
            pass

    def failure(self, result: PGresult | None) -> ReplicationError:
        """The server's error, after the remaining results were read."""
        state = ""
        if result is None or result.status in _ENDED_WELL:
            message = one_line(self.connection.get_error_message())
        else:
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode(errors="replace")
            message = one_line(result.get_error_message())
        return self.error(message or "the command ended without its result", state)

    def error(self, message: str, sqlstate: str = "") -> ReplicationError:
        return ReplicationError(f"{self.where}: {message}", hint=SERVER_LOG, sqlstate=sqlstate)

    @contextmanager
    def unbroken(self) -> Iterator[None]:
        """libpq's own failures: the connection is lost."""
        try:
            yield
        except Error as error:
            raise ReplicationError(f"{self.where}: {one_line(str(error))}", hint=HINT) from None


def connected(conninfo: bytes, hosts: str, check: Callable[[], None]) -> PGconn:
    """A connection that was made, or has failed. libpq's own wait would not notice a stop request."""
    until = time.monotonic() + CONNECT_SECONDS * (hosts.count(",") + 1)
    connection = pq.PGconn.connect_start(conninfo)
    try:
        while connection.status != pq.ConnStatus.BAD and time.monotonic() < until:
            check()
            polled = connection.connect_poll()
            if polled in (pq.PollingStatus.OK, pq.PollingStatus.FAILED):
                return connection
            wait = [connection.socket]
            reading = polled == pq.PollingStatus.READING
            select.select(wait if reading else [], [] if reading else wait, [], _POLL_SECONDS)
    except BaseException:
        connection.finish()
        raise
    return connection


def text(result: PGresult, row: int, column: int) -> str | None:
    value = result.get_value(row, column)
    return None if value is None else value.decode(errors="replace")


def given(value: str | None) -> str:
    if value is None:
        raise ReplicationError("the server left out a value that the protocol requires", hint=SERVER_LOG)
    return value


def one_line(text: str) -> str:
    return " ".join(text.split())
