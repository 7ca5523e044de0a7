"""How a run in progress is told to stop: asked for, or out of time."""

import threading
import time

from sidecar import OpsError


class StoppedError(OpsError):
    """The work was stopped on purpose; nothing of it was committed."""


class Stop:
    """A flag that long work looks at between two pieces, and that ends its waiting."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._local = threading.local()

    def request(self) -> None:
        """Ask all work to end."""
        self._asked.set()

    def wait_for_request(self) -> None:
        """Wait until somebody asks."""
        self._asked.wait()

    def limit(self, seconds: float) -> None:
        """Give the work of this thread so much time from now."""
        self._local.deadline = time.monotonic() + seconds

    def check(self) -> None:
        """Raise when it is time to end.

        Raises:
            StoppedError: somebody asked, or the time of this thread's work is over.
        """
        if self._asked.is_set():
            raise StoppedError("stopped on request", hint="run it again")
        if time.monotonic() > getattr(self._local, "deadline", float("inf")):
            raise StoppedError(
                "it took longer than BACKUP_TIMEOUT",
                hint="see what is slow in its stages, or allow more time",
            )

    def sleep(self, seconds: float) -> None:
        """Sleep, unless somebody asks."""
        self._asked.wait(seconds)
        self.check()


def never() -> None:
    """The check of work that nobody stops."""
