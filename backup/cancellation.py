"""How a run in progress is told to stop: asked for, or out of time."""

import threading
import time
from collections.abc import Callable
from typing import Self

from sidecar import OpsError

FOREVER = float("inf")


class StoppedError(OpsError):
    """The work was stopped on purpose; nothing of it was committed."""


class OutOfTimeError(OpsError):
    """The work took longer than it may: a failure like any other."""


class Stop:
    """A flag that long work looks at between two pieces, and that ends its waiting."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._local = threading.local()

    @property
    def deadline(self) -> float:
        """When the work of this thread must be done, by the monotonic clock."""
        return getattr(self._local, "deadline", FOREVER)

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self._local.deadline = moment

    def request(self) -> None:
        """Ask all work to end."""
        self._asked.set()

    def carried(self) -> Callable[[], None]:
        """:meth:`check` for threads that do part of this thread's work, with its time."""
        deadline = getattr(self._local, "deadline", float("inf"))

        def check() -> None:
            self._local.deadline = deadline
            self.check()

        return check

    def wait_for_request(self) -> None:
        """Wait until somebody asks."""
        self._asked.wait()

    def limit(self, seconds: float) -> "Limit":
        """Give the work of this thread so much time from now; as a context manager, the block only."""
        return Limit(self, seconds)

    def check(self) -> None:
        """Raise when it is time to end.

        Raises:
            StoppedError: somebody asked.
            OutOfTimeError: the time of this thread's work is over.
        """
        if self._asked.is_set():
            raise StoppedError("stopped on request", hint="run it again")
        if time.monotonic() > self.deadline:
            raise OutOfTimeError(
                "it took longer than BACKUP_TIMEOUT",
                hint="see what is slow in its stages, or allow more time",
            )

    def sleep(self, seconds: float) -> None:
        """Sleep, unless somebody asks."""
        self._asked.wait(seconds)
        self.check()


class Limit:
    """A limit of a thread's time. What the thread does after the block has what time it had before."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._before = stop.deadline
        stop.deadline = min(self._before, time.monotonic() + seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.deadline = self._before


def never() -> None:
    """The check of work that nobody stops."""
