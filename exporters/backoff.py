"""Waiting times between attempts: growing, capped, jittered."""

import random
from collections.abc import Iterator


def delays(first: float = 0.05, cap: float = 1.0) -> Iterator[float]:
    """Seconds to wait before each further attempt, without end.

    The jitter takes up to half away, so that many exporters do not come back in step.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, cap)
