"""Servers that accept a connection and then fall silent: like a frozen host or a stopped process."""

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

PATIENCE = 60.0


class SilentProxy:
    """Forwards everything to a server until a client sends something that matches a pattern, and nothing after that.

    Args:
        port: of the real server; None: it is silent from the beginning.
        pattern: within one piece of what a client sends.
    """

    def __init__(self, port: int | None, pattern: bytes = b"") -> None:
        self.silent = threading.Event()
        self._port = port
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
                if not self.silent.is_set() and self._port is not None:
                    server = socket.create_connection(("127.0.0.1", self._port))
                    self._sockets.append(server)
                    for pair in ((client, server, True), (server, client, False)):
                        threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if asks and self._pattern.search(data):
                    self.silent.set()
                if self.silent.is_set():
                    return
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


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
