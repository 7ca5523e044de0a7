"""Waits for a condition instead of sleeping for a guessed time."""

import time
from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from sidecar import OpsError

T = TypeVar("T")
INTERVAL = 0.1


def wait_for(
    condition: Callable[[], T | None], *, timeout: float, what: str, hint: str, interval: float = INTERVAL
) -> T:
    """Call the condition until it returns something true, and return that.

    Args:
        condition: called repeatedly; its exceptions are not caught.
        timeout: seconds.
        what: what is awaited, for the error message.
        hint: where to look when it does not happen.

    Raises:
        OpsError: it did not happen in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise OpsError(f"{what} did not happen within {timeout:g} s", hint=hint)
        time.sleep(interval)


def join(thread: Thread) -> None:
    """Wait for a thread in pieces, so that Ctrl-C ends the wait."""
    while thread.is_alive():
        thread.join(INTERVAL)
