"""Ends work in progress: on request, at its deadline, or when nothing has answered for too long.

The limits belong to a thread: :meth:`Stop.limit` sets them, and every wait below it, for a database, a store or a
program, calls :func:`check_cancelled` or :func:`waiting`. :func:`carry` takes them into another thread.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import wraps
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from sidecar import OpsError
from sidecar.humanize import duration
from sidecar.signals import Request

FOREVER = float("inf")
# Maximum duration of a wait that begins after its work has to end: the clean-up must not hang either.
GRACE_SECONDS = 3.0
# Maximum total duration of such waits that get no response; once it is spent, the maximum duration of each further one.
ALL_GRACE_SECONDS = 4.0
MIN_GRACE_SECONDS = 0.3
# Seconds between two checks of a wait for whether it must end.
POLL_SECONDS = 0.2

P = ParamSpec("P")
T = TypeVar("T")
Check = Callable[[], None]


class StoppedError(OpsError):
    """The work was stopped on request. Nothing was committed."""


class OutOfTimeError(OpsError):
    """The work exceeded its deadline: a failure like any other."""


class Pulse:
    """The time at which a piece of work last got a response from anything that it waits for."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        """Something has answered."""
        self._last = time.monotonic()

    @property
    def silence(self) -> float:
        """Seconds since the last response."""
        return time.monotonic() - self._last


class _Grace:
    """How much of the time to clean up is left."""

    def __init__(self) -> None:
        self._spent = 0.0

    @property
    def seconds(self) -> float:
        """The limit of the next wait. Waits that got a response use up nothing: if one server is silent, others may still answer."""
        return max(MIN_GRACE_SECONDS, min(GRACE_SECONDS, ALL_GRACE_SECONDS - self._spent))

    def spend(self, seconds: float) -> None:
        """Note a wait without a response that took a number of seconds."""
        self._spent += seconds


def _never() -> bool:
    return False


@dataclass(frozen=True)
class _Work:
    """The limits of a thread's work.

    Attributes:
        stop: whose request ends it.
        deadline: on the monotonic clock.
        what: the error at the deadline, with its hint.
        silence: seconds without a response after which it ends.
        over: whether its result is no longer wanted.
        grace: what is left for its clean-up.
    """

    stop: "Stop | None" = None
    deadline: float = FOREVER
    what: tuple[str, str] = ("", "")
    silence: float = FOREVER
    pulse: Pulse = field(default_factory=Pulse)
    over: Callable[[], bool] = _never
    grace: _Grace = field(default_factory=_Grace)

    def check(self) -> None:
        if self.stop is not None and self.stop.requested:
            raise StoppedError("stopped on request", hint="run it again")
        if self.over():
            raise StoppedError(
                "its result is no longer wanted", hint="see the error of the work that it was part of"
            )
        if time.monotonic() > self.deadline:
            raise OutOfTimeError(self.what[0], hint=self.what[1])
        if self.pulse.silence > self.silence:
            raise OutOfTimeError(
                f"nothing has answered for {duration(self.silence)}",
                hint="look for a frozen server, a stalled disk or a network that drops packets; see BACKUP_STALL_TIMEOUT",
            )


_NO_LIMITS = _Work()
_here = threading.local()


def _work() -> _Work:
    work: _Work = getattr(_here, "work", _NO_LIMITS)
    return work


@contextmanager
def _within(work: _Work) -> Iterator[None]:
    before = _work()
    _here.work = work
    try:
        yield
    finally:
        _here.work = before


class Stop:
    """A stop request that long work checks between two pieces, and that ends its waits.

    Attributes:
        pulses: those of the work in progress that is silent only if something is wrong, by its name.
    """

    def __init__(self) -> None:
        self._asked = Request()
        self.pulses: dict[str, Pulse] = {}

    def request(self) -> None:
        """Request that all work ends. A signal handler may call this."""
        self._asked.make()

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._asked.made

    def pause(self, seconds: float) -> None:
        """Wait, or end early on a stop request, without raising."""
        self._asked.wait(seconds)

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within the block, the waits of this thread end on a request."""
        with _within(replace(_work(), stop=self)):
            yield

    def carried(self) -> Check:
        """:meth:`check` for threads that do part of this thread's work, with the deadline of this thread."""
        work = _work()

        def check() -> None:
            with _within(work):
                self.check()

        return check

    def wait_for_request(self) -> None:
        """Wait for a stop request."""
        self._asked.wait()

    @contextmanager
    def limit(self, seconds: float, *, silence: float = FOREVER, name: str = "") -> Iterator[None]:
        """Limit the work of this thread within a block.

        Args:
            seconds: after which it ends.
            silence: seconds without any response after which it ends.
            name: shows its pulse to others, see :attr:`pulses`.
        """
        outer = _work()
        deadline = time.monotonic() + seconds
        what = (
            "the work took longer than BACKUP_TIMEOUT",
            "check which stage is slow, or increase BACKUP_TIMEOUT",
        )
        work = _Work(self, deadline, what, silence)
        if outer.deadline < deadline:
            work = replace(work, deadline=outer.deadline, what=outer.what)
        with self.showing(name, work.pulse) if name else nullcontext(), _within(work):
            yield

    @contextmanager
    def showing(self, name: str, pulse: Pulse) -> Iterator[None]:
        """Show a pulse to others within a block, see :attr:`pulses`."""
        self.pulses[name] = pulse
        try:
            yield
        finally:
            self.pulses.pop(name, None)

    def check(self) -> None:
        """Raise if the work must end.

        Raises:
            StoppedError: a stop was requested.
            OutOfTimeError: the deadline of this thread has passed.
        """
        replace(_work(), stop=self).check()

    def sleep(self, seconds: float) -> None:
        """Sleep, or end early on a stop request."""
        self._asked.wait(seconds)
        self.check()


@contextmanager
def limited(seconds: float, message: str, hint: str) -> Iterator[None]:
    """Limit a part of this thread's work further.

    Args:
        message, hint: the error when it takes longer.
    """
    work, deadline = _work(), time.monotonic() + seconds
    with _within(
        replace(work, deadline=deadline, what=(message, hint)) if deadline < work.deadline else work
    ):
        yield


def check_cancelled() -> None:
    """Raise if the work of this thread must end; see :meth:`Stop.check`."""
    _work().check()


def note_response() -> None:
    """Note that the other side has responded."""
    _work().pulse.beat()


def waiting() -> Check:
    """A check for one wait of this thread.

    It is :func:`check_cancelled`, but a wait that begins when the work has to end already is part of its clean-up: it gets a few
    seconds.
    """
    work = _work()
    try:
        work.check()
    except (StoppedError, OutOfTimeError) as error:
        over, seconds = error, work.grace.seconds
        end = time.monotonic() + seconds
    else:
        return work.check

    def check() -> None:
        if time.monotonic() > end:
            work.grace.spend(seconds)
            raise over

    return check


@contextmanager
def cleaning_up() -> Iterator[float]:
    """One step that ends this thread's work: the number of seconds that it may wait.

    A step that takes them all got no response, and leaves less for the next ones.
    """
    grace = _work().grace
    seconds, began = grace.seconds, time.monotonic()
    try:
        yield seconds
    finally:
        if time.monotonic() - began >= seconds:
            grace.spend(seconds)


def carry(function: Callable[P, T], *, over: Callable[[], bool] = _never) -> Callable[P, T]:
    """The same function for another thread, within the limits of this one.

    Args:
        over: whether its result is no longer wanted; then its waits end.
    """
    work = _work()
    if over is not _never:
        work = replace(work, over=over)

    @wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> T:
        with _within(work):
            return function(*args, **kwargs)

    return carried


def also(check: Check, ended: threading.Event, reason: str) -> Check:
    """A check that also stops work once an event has happened.

    Args:
        reason: why it stopped, for the error.
    """

    def both() -> None:
        check()
        if ended.is_set():
            raise StoppedError(reason, hint="run it again")

    return both


def answered(action: Callable[[], T]) -> T:
    """The result of an action that has no deadline, such as a request.

    If this thread's work has to end, the action is left alone: a thread that ends with the process may still carry it out.
    """
    if _work() is _NO_LIMITS:
        return action()
    check = waiting()
    helper = _Helper.take()
    future: Future[Any] = Future()
    helper.give(future, action)
    try:
        while not future.done():
            try:
                future.exception(POLL_SECONDS)
            except TimeoutError:
                check()
    finally:
        helper.put_back(reusable=future.done())
    note_response()
    result: T = future.result()
    return result


class _Helper:
    """A thread that carries out actions, one at a time."""

    _idle: "list[_Helper]" = []  # noqa: RUF012 - shared on purpose
    _lock = threading.Lock()

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=self._run, name="helper", daemon=True).start()

    @classmethod
    def take(cls) -> "_Helper":
        with cls._lock:
            if cls._idle:
                return cls._idle.pop()
        return cls()

    def give(self, future: "Future[Any]", action: Callable[[], Any]) -> None:
        self._work.put((future, action))

    def put_back(self, *, reusable: bool) -> None:
        """Keep it for the next action, or let it end with its current one."""
        if not reusable:
            self._work.put(None)
            return
        with self._lock:
            self._idle.append(self)

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            future, action = task
            try:
                future.set_result(action())
            except BaseException as error:
                future.set_exception(error)
            del task, future, action


def never() -> None:
    """A check that never stops the work."""
