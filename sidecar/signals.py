"""Signal handling: every signal leads to an orderly shutdown, and none interrupts a critical section."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """SIGTERM or SIGHUP was received: clean up and exit with the code that a shell expects."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP run the same clean-up as Ctrl-C. Later signals are ignored.

    Raises:
        KeyboardInterrupt: SIGINT was received.
        Ended: SIGTERM or SIGHUP was received.
    """

    before = end_orderly()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_orderly() -> dict[signal.Signals, Any]:
    """The same for the rest of the process, including its shutdown; returns the previous handlers."""

    def end(number: int, _frame: FrameType | None) -> None:
        ignore()
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(128 + number)

    # nohup ignores SIGHUP, and so do we then.
    heeded = [
        number for number in ENDING if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    ]
    return {number: signal.signal(number, end) for number in heeded}


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
