"""Restarts programs that ended by themselves, as compose's restart policy does in production."""

import threading
from collections.abc import Callable

from stack.servers import Server
from stack.suite.control import Control

INTERVAL_SECONDS = 1.0


class Supervisor:
    """Watches servers.

    Args:
        on_restart: called with a line about each restart.
        control: requests of scripts.
    """

    def __init__(self, on_restart: Callable[[str], None], control: Control) -> None:
        self._on_restart = on_restart
        self._control = control
        self._watched: set[Server] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def watch(self, server: Server) -> None:
        with self._lock:
            self._watched.add(server)

    def release(self, server: Server) -> None:
        """Stop watching a server."""
        with self._lock:
            self._watched.discard(server)

    def watches(self, server: Server) -> bool:
        """Whether a server has started, and neither crashed nor been stopped on purpose."""
        with self._lock:
            return server in self._watched

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL_SECONDS):
            with self._lock:
                for server in self._watched:
                    self._look_after(server)

    def _look_after(self, server: Server) -> None:
        if self._control.stop_requested(server.name):
            server.stop()
        elif not server.running:
            self._restart(server)
        self._control.report(server.name, running=server.running)

    def _restart(self, server: Server) -> None:
        try:
            server.start()
        except Exception as error:  # whatever it is, the other servers must still be watched
            self._on_restart(f"{server.name} ended and cannot be restarted: {error}")
        else:
            self._on_restart(f"{server.name} ended and was restarted; its log is {server.log}")
