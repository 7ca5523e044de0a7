"""Servers that accept a connection and then fall silent: like a frozen host or a stopped process."""

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self, TypeVar

PATIENCE = 60.0
T = TypeVar("T")
MAX_STATEMENT = 70


class SilentProxy:
    """Forwards everything to a server until a client sends something that matches a pattern, and nothing after that.

    Args:
        port: of the real server; None: it is silent from the beginning.
        pattern: within one piece of what a client sends.
        at: the number of the piece that it falls silent at, instead; from 0.

    Attributes:
        asked: what clients have sent, piece by piece; of a proxy without a server, an item for each connection.
        since: when it fell silent, on the monotonic clock.
    """

    def __init__(self, port: int | None, pattern: bytes = b"", at: int | None = None) -> None:
        self.silent = threading.Event()
        self.asked: list[bytes] = []
        self.since = time.monotonic()
        self._port = port
        self._at = at
        self._counting = threading.Lock()
        self._pattern = re.compile(pattern)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        if port is None:
            self.silent.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                if self._port is None:
                    self.asked.append(b"")
                if not self.silent.is_set() and self._port is not None:
                    server = socket.create_connection(("127.0.0.1", self._port))
                    self._sockets.append(server)
                    for pair in ((client, server, True), (server, client, False)):
                        threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if asks and not self.silent.is_set() and self._falls_silent(data):
                    self.since = time.monotonic()
                    self.silent.set()
                if self.silent.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _falls_silent(self, data: bytes) -> bool:
        with self._counting:
            self.asked.append(data)
            if self._at is not None:
                return len(self.asked) > self._at
        return bool(self._pattern.pattern) and self._pattern.search(data) is not None


def statements(asked: Iterable[bytes]) -> list[bytes]:
    """Patterns of the different statements of PostgreSQL's clients, in the order in which they were first sent."""
    found: dict[bytes, None] = {}
    for data in asked:
        if data.startswith(b"p\0\0"):
            found[rb"^p\0\0"] = None  # the answer to a request for a password
            continue
        if data.startswith(b"d\0\0"):
            continue  # copied data, such as what a standby has received, which is different each time
        texts = re.findall(rb"[A-Z/-][ -~\n\t]{7,}", data) or [data]
        text = max(texts, key=len)[:MAX_STATEMENT]
        # Numbers, and the name of a snapshot, differ between two runs.
        pieces = re.split(rb"\d[\dA-F]*", text)
        found[rb"\d[\dA-F]*".join(map(re.escape, pieces))] = None
    return list(found)


def some(items: list[T], number: int) -> list[T]:
    """All of them if SILENCE_AT_ALL is set, which takes minutes; by default some, spread evenly."""
    return items if os.environ.get("SILENCE_AT_ALL") else items[:: max(1, len(items) // number)]


def ended(work: Callable[[], object]) -> BaseException | None:
    """What some work raised; fails if it does not end at all."""
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits forever"
    return raised[0] if raised else None
