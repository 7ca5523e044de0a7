"""A network between a client and a server: each request takes some milliseconds longer, and is counted."""

import re
import socket
import threading
import time
from contextlib import suppress
from typing import Self

from stack.ports import HOST

_REQUEST = re.compile(rb"(?:GET|PUT|POST|HEAD|DELETE) /\S* HTTP/1\.1\r\n")


class Distance:
    """A proxy for HTTP on one connection after the other or on many.

    Args:
        port: of the server.
        seconds: added to each request.

    Attributes:
        requests: their number so far.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self.requests = 0
        self._server_port = port
        self._seconds = seconds
        self._counting = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((HOST, self._server_port))
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if asks and (begun := len(_REQUEST.findall(data))):
                    with self._counting:
                        self.requests += begun
                    time.sleep(self._seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
