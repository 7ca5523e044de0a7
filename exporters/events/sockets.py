"""A connected socket that is drained without blocking."""

import select
import socket
import ssl

CHUNK = 1 << 18


class DisconnectedError(ConnectionError):
    """The broker closed the connection, or does not answer."""


class BareSocket:
    """The socket of a connection that a client library has set up.

    Args:
        connected: the socket; it is made non-blocking.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected

    def wait(self, seconds: float) -> bool:
        """Wait until there is something to read, up to a time limit; returns whether there is."""
        pending = isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0
        return pending or bool(select.select([self._socket], [], [], seconds)[0])

    def receive(self) -> bytes | None:
        """The bytes that can be read at once, at most one chunk; None if there are none.

        Raises:
            DisconnectedError: the connection is closed.
        """
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError as error:
            raise DisconnectedError(str(error)) from None
        if not data:
            raise DisconnectedError("closed by the broker")
        return data

    def send(self, data: bytes) -> None:
        """Send some bytes. If the peer reads nothing, they are lost without an error; its silence reveals that.

        Raises:
            DisconnectedError: the connection is closed.
        """
        try:
            self._socket.sendall(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except OSError as error:
            raise DisconnectedError(str(error)) from None
