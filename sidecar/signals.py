"""Signals: an orderly end whatever asks for it, and none at a bad moment."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """SIGTERM or SIGHUP came: leave in an orderly way, with the code that a shell expects."""


@contextmanager
def orderly_end() -> Iterator[None]:
    """Within the block, a polite request to end runs the same clean-up as Ctrl-C does, and the first one is enough.

    Raises:
        KeyboardInterrupt: SIGINT came.
        Ended: another one came.
    """

    before = end_orderly()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_orderly() -> dict[signal.Signals, Any]:
    """The same for the rest of the process, its last moments included; returns the handlers that were there before."""

    def end(number: int, _frame: FrameType | None) -> None:
        ignore()
        raise KeyboardInterrupt if number == signal.SIGINT else Ended(128 + number)

    # Under nohup the end of the terminal is no reason to end.
    heeded = [
        number for number in ENDING if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN)
    ]
    return {number: signal.signal(number, end) for number in heeded}


def ignore() -> None:
    """From now on no signal interrupts: what follows is the clean-up."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off signals to the end of the block, so that what it starts is known to who must stop it."""
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
