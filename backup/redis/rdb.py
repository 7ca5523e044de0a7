"""Reads the RDB of a server over the replication protocol: a background snapshot, without a blocking command."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from select import select
from typing import Any

from redis.exceptions import RedisError

from backup.cancellation import answered, never
from backup.errors import DumpError
from backup.pipeline import Source
from backup.redis.dsn import SECONDS, RedisAddress
from backup.redis.product import SIGNATURE_BYTES, Product

CHUNK = 1 << 20
MARK_BYTES = 40
POLL_SECONDS = 0.5
PERMISSIONS = "+sync +psync +replconf +info +ping"
HINT = f"read the Redis server's log; its user needs {PERMISSIONS}"


class RdbSource(Source):
    """Requests a full synchronisation like a replica, and disconnects when the RDB is complete.

    The RDB arrives either with its length or (diskless) between two equal marks of 40 bytes. Any other end is an error.
    """

    def __init__(self, address: RedisAddress, product: Product, *, check: Callable[[], None] = never) -> None:
        self._product = product
        self._client = address.client()
        self._connection: Any = self._client.connection_pool.get_connection()
        self._pieces = _explained(self._receive())
        self._check = check

    def read(self) -> bytes:
        return answered(lambda: next(self._pieces, b""))

    def close(self) -> None:
        self._connection.disconnect()
        self._client.close()

    def _receive(self) -> Iterator[bytes]:
        connection = self._connection
        # The RDB from memory, without a file on the server, and without the stream of commands after it.
        # Servers that do not know these options answer with an error and continue.
        # Without the version we would count as an old replica, which may not be sent new kinds of keys.
        for words in (("version", self._product.version), ("capa", "eof"), ("rdb-only", "1")):
            connection.send_command("REPLCONF", *words)
            with suppress(RedisError):
                connection.read_response()
        connection.send_command("SYNC")
        wire = _Wire(connection._sock, self._check)
        announced = wire.announcement()
        if announced.startswith(b"$EOF:"):
            yield from wire.until(announced[5:])
        elif announced.startswith(b"$"):
            yield from wire.exactly(int(announced[1:]))
        else:
            raise DumpError(f"Redis did not send an RDB: {announced.decode(errors='replace')}", hint=HINT)


def beginning(source: Source) -> bytes:
    """The first bytes of an RDB, enough for its signature; the network may deliver them one by one."""
    start = b""
    while len(start) < SIGNATURE_BYTES and (data := source.read()):
        start += data
    return start


class _Wire:
    """The socket after SYNC, when the command protocol no longer applies."""

    def __init__(self, sock: socket.socket, check: Callable[[], None]) -> None:
        self._sock = sock
        self._check = check
        self._rest = b""

    def announcement(self) -> bytes:
        """The line before the RDB; empty lines keep the connection alive while the server forks and saves."""
        while True:
            while b"\n" not in self._rest:
                self._rest += self._more()
            line, _, self._rest = self._rest.partition(b"\n")
            if line.strip():
                return line.strip()

    def exactly(self, count: int) -> Iterator[bytes]:
        while count:
            data, self._rest = self._rest or self._more(), b""
            data = data[:count]
            count -= len(data)
            yield data

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Everything before the mark."""
        buffered = b""
        while True:
            data, self._rest = self._rest or self._more(), b""
            buffered += data
            end = buffered.find(mark)
            if end >= 0:
                yield buffered[:end]
                return
            # Only release bytes that cannot be part of the mark.
            yield buffered[:-MARK_BYTES]
            buffered = buffered[-MARK_BYTES:]

    def _answers(self) -> bool:
        """Whether there is something to read, after a short wait."""
        pending = getattr(self._sock, "pending", None)  # TLS may have more than the socket shows
        return bool(pending and pending()) or bool(select([self._sock], [], [], POLL_SECONDS)[0])

    def _more(self) -> bytes:
        silent_since = time.monotonic()
        self._check()
        while not self._answers():
            self._check()
            if time.monotonic() - silent_since > SECONDS:
                raise DumpError(f"Redis sent nothing for {SECONDS:.0f} s", hint=HINT)
        data = self._sock.recv(CHUNK)
        if not data:
            raise DumpError("Redis closed the connection before the RDB was complete", hint=HINT)
        return data


def _explained(pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        # An empty piece would look like the end.
        yield from filter(None, pieces)
    except (OSError, RedisError) as error:
        raise DumpError(f"the transfer of the RDB failed: {error}", hint=HINT) from error
