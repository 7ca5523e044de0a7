"""Stops a run in progress: on request, or at its deadline."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Self

from sidecar import OpsError
from sidecar.signals import Request

FOREVER = float("inf")
_current: ContextVar["Stop | None"] = ContextVar("stop", default=None)


class StoppedError(OpsError):
    """The work was stopped on request. Nothing was committed."""


class OutOfTimeError(OpsError):
    """The work exceeded its deadline: a failure like any other."""


class Stop:
    """A stop request that long work checks between two pieces, and that ends its waits."""

    def __init__(self) -> None:
        self._asked = Request()
        self._local = threading.local()

    @property
    def deadline(self) -> float:
        """The deadline of this thread's work, on the monotonic clock."""
        return getattr(self._local, "deadline", FOREVER)

    @deadline.setter
    def deadline(self, moment: float) -> None:
        self._local.deadline = moment

    def request(self) -> None:
        """Request that all work ends. A signal handler may do that."""
        self._asked.make()

    @property
    def requested(self) -> bool:
        """Whether all work is asked to end."""
        return self._asked.made

    def pause(self, seconds: float) -> None:
        """Wait, or end early on a stop request, without raising."""
        self._asked.wait(seconds)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within the block, connections that are opened in this thread end their waits on a request; see :func:`current`."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def carried(self) -> Callable[[], None]:
        """:meth:`check` for threads that do part of this thread's work, with the deadline of this thread."""
        deadline = getattr(self._local, "deadline", float("inf"))

        def check() -> None:
            self._local.deadline = deadline
            self.check()

        return check

    def wait_for_request(self) -> None:
        """Wait for a stop request."""
        self._asked.wait()

    def limit(self, seconds: float) -> "Limit":
        """Limit the work of this thread to a number of seconds from now. As a context manager, limit only the block."""
        return Limit(self, seconds)

    def check(self) -> None:
        """Raise if the work must end.

        Raises:
            StoppedError: a stop was requested.
            OutOfTimeError: the deadline of this thread has passed.
        """
        self.check_until(self.deadline)

    def check_until(self, deadline: float) -> None:
        """The same with a deadline that was this thread's, or another's.

        Raises:
            StoppedError, OutOfTimeError: as :meth:`check`.
        """
        if self._asked.made:
            raise StoppedError("stopped on request", hint="run it again")
        if time.monotonic() > deadline:
            raise OutOfTimeError(
                "the work took longer than BACKUP_TIMEOUT",
                hint="check which stage is slow, or increase BACKUP_TIMEOUT",
            )

    def sleep(self, seconds: float) -> None:
        """Sleep, or end early on a stop request."""
        self._asked.wait(seconds)
        self.check()


class Limit:
    """A deadline for a thread's work. After the block, the previous deadline applies again."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._before = stop.deadline
        stop.deadline = min(self._before, time.monotonic() + seconds)
        self._token = _current.set(stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.deadline = self._before
        _current.reset(self._token)


def current() -> Callable[[], None]:
    """The check of the work that this thread does now, with its deadline; for whoever waits in its name."""
    stop = _current.get()
    if stop is None:
        return never
    deadline = stop.deadline
    return lambda: stop.check_until(deadline)


def never() -> None:
    """A check that never stops the work."""
