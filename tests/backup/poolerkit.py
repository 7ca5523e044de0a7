"""A stand-in for a pooler in transaction mode: each transaction of a client runs on the next of a few server connections.

It replaces pgbouncer where that is not installed. It knows only what these tests send: no COPY, no cancellation.
"""

import os
import queue
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from psycopg import pq

READY, SYNC = b"Z", (b"Q", b"S")
REFUSED = (80877103, 80877104)  # requests for TLS and GSSAPI
STARTUP = 196608
SIZE = 3
# The pooler's own number, as pgbouncer gives one, instead of that of a server process.
PROCESS = 4711


class StandInPooler:
    """Listens at ``port``, for clients of one database.

    Args:
        url: of the database, with a server that does not use TLS.
    """

    def __init__(self, url: str) -> None:
        self._servers = [pq.PGconn.connect(url.encode()) for _ in range(SIZE)]
        self._idle: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for server in self._servers:
            assert server.status == pq.ConnStatus.OK, server.error_message
            opened = socket.socket(fileno=os.dup(server.socket))
            opened.setblocking(True)
            self._idle.put(opened)
        self._version = self._servers[0].parameter_status(b"server_version") or b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while not self._idle.empty():
            self._idle.get().close()
        for server in self._servers:
            server.finish()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError, EOFError):
            self._greet(client)
            while True:
                self._transaction(client)

    def _greet(self, client: socket.socket) -> None:
        while (code := struct.unpack("!I", _packet(client)[:4])[0]) in REFUSED:
            client.sendall(b"N")
        if code != STARTUP:
            raise EOFError
        settings = {b"server_version": self._version, b"client_encoding": b"UTF8"}
        settings |= {b"standard_conforming_strings": b"on", b"integer_datetimes": b"on"}
        client.sendall(_message(b"R", struct.pack("!I", 0)))
        for name, value in settings.items():
            client.sendall(_message(b"S", name + b"\0" + value + b"\0"))
        client.sendall(_message(b"K", struct.pack("!II", PROCESS, 0)) + _message(READY, b"I"))

    def _transaction(self, client: socket.socket) -> None:
        """Pass messages on to one server connection until its transaction is over."""
        kind, body = _read(client)
        if kind == b"X":
            raise EOFError
        server = self._idle.get()
        try:
            while True:
                server.sendall(_message(kind, body))
                if kind in SYNC and _answer(server, client) == b"I":
                    return
                kind, body = _read(client)
        finally:
            self._idle.put(server)


def _answer(server: socket.socket, client: socket.socket) -> bytes:
    """Pass an answer on; returns the state of the transaction after it."""
    while True:
        kind, body = _read(server)
        client.sendall(_message(kind, body))
        if kind == READY:
            return body


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _read(source: socket.socket) -> tuple[bytes, bytes]:
    return _exactly(source, 1), _packet(source)


def _packet(source: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _exactly(source, 4))
    return _exactly(source, length - 4)


def _exactly(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = source.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
