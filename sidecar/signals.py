"""Signal handling: every signal leads to an orderly shutdown, and none interrupts a critical section."""

import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Python runs the handler of a signal that arrives just before poll(2) only after it, so no single poll is long.
LONGEST_POLL = 0.5
REPEAT_SECONDS = 0.05


class Ended(SystemExit):
    """SIGTERM or SIGHUP was received: clean up and exit with the code that a shell expects."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP run the same clean-up as Ctrl-C. Later signals are ignored.

    Raises:
        KeyboardInterrupt: SIGINT was received.
        Ended: SIGTERM or SIGHUP was received.
    """

    before, hook = {number: signal.getsignal(number) for number in ENDING}, sys.unraisablehook
    end_orderly()
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def end_orderly() -> None:
    """The same for the rest of the process, including its shutdown."""

    def end(number: int, _frame: FrameType | None) -> None:
        ignore()
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(128 + number)

    def heed() -> None:
        for number in heeded:
            signal.signal(number, end)

    # nohup ignores SIGHUP, and so do we then.
    heeded = [
        number for number in ENDING if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    ]
    heed()
    sys.unraisablehook = _repeating(sys.unraisablehook, heed)


def _repeating(
    hook: Callable[["sys.UnraisableHookArgs"], Any], heed: Callable[[], None]
) -> Callable[["sys.UnraisableHookArgs"], Any]:
    """A hook that repeats a signal whose exception was lost: Python drops those of finalizers and weak references.

    Args:
        hook: the one for all other exceptions.
        heed: takes notice of signals again.
    """

    def repeat(lost: "sys.UnraisableHookArgs") -> None:
        error = lost.exc_value
        if not isinstance(error, KeyboardInterrupt | Ended):
            hook(lost)
            return
        number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else int(str(error.code)) - 128
        heed()
        # Here it would be lost again.
        again = threading.Timer(REPEAT_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    return repeat


def ignore() -> None:
    """Ignore all signals from now on, because the clean-up follows."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay signals to the end of the block, so that whatever it starts is registered for the clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for late in came:
        signal.raise_signal(late)


class Request:
    """A request that a signal handler may make, and that any number of threads may wait for.

    The handler of a signal must not set a ``threading.Event``: the interrupted thread may be in its ``wait`` and own
    the lock that ``set`` takes, and then neither ever continues.
    """

    def __init__(self) -> None:
        self._made = False
        # What is written stays unread, so that every wait ends, now and later.
        self._reader, self._writer = os.pipe()
        weakref.finalize(self, _close, self._reader, self._writer)

    def make(self) -> None:
        """Make the request. Making it again changes nothing."""
        if not self._made:
            self._made = True
            os.write(self._writer, b"\0")

    @property
    def made(self) -> bool:
        """Whether the request was made."""
        return self._made

    def wait(self, seconds: float = float("inf")) -> bool:
        """Wait until the request is made, or for a number of seconds; whether it was made."""
        poll, end = select.poll(), time.monotonic() + seconds
        poll.register(self._reader, select.POLLIN)
        while not self._made and (left := end - time.monotonic()) > 0:
            poll.poll(min(left, LONGEST_POLL) * 1000)
        return self._made


def request_on_end() -> Request:
    """A request that SIGTERM and SIGINT make, for a service that runs until then."""
    request = Request()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: request.make())
    return request


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
