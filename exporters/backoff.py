"""Waiting times between attempts: growing, capped, jittered."""

import random
from collections.abc import Iterator


def delays(first: float = 0.05, cap: float = 1.0) -> Iterator[float]:
    """Seconds to wait before each further attempt, endlessly.

    The jitter takes off up to half, so that many exporters do not reconnect at the same time.

    Args:
        first: seconds before the second attempt.
        cap: the longest wait, in seconds.
    """
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, cap)
