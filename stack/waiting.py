"""Waiting for a condition instead of sleeping for a guess."""

import time
from collections.abc import Callable
from typing import TypeVar

from sidecar import OpsError

T = TypeVar("T")
INTERVAL = 0.1


def wait_for(
    condition: Callable[[], T | None], *, timeout: float, what: str, hint: str, interval: float = INTERVAL
) -> T:
    """Ask until the condition returns something true, and return that.

    Args:
        condition: called again and again; what it raises is not caught.
        timeout: seconds.
        what: what is awaited, for the error.
        hint: where to look when it does not come.

    Raises:
        OpsError: it did not come in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise OpsError(f"{what} did not happen within {timeout:g} s", hint=hint)
        time.sleep(interval)
