"""A classic histogram kept as plain lists, cheap to observe and to render."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from sidecar.errors import UsageError

# As many buckets as celery-exporter has, up to two hours: a quantile cannot exceed the largest finite bound.
RUNTIME_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
WAIT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

# Seconds. An observation beyond 30 years comes from a wrong clock or a forged event.
LONGEST = 1e9


class Histogram:
    """Counts per bucket (not cumulative) and the sum; the last bucket is +Inf."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        """Add another histogram's observations."""
        counts = self.counts
        for at, count in enumerate(other.counts):
            if count:
                counts[at] += count
        self.total += other.total

    def lines(self, name: str, labels: str) -> list[str]:
        """Sample lines: cumulative buckets, sum, count."""
        cumulative = list(accumulate(self.counts))
        heads = bucket_heads(tuple(self.bounds))
        lines = [f"{name}_bucket{{{labels},{le} {n}" for le, n in zip(heads, cumulative, strict=True)]
        lines.append(f"{name}_sum{{{labels}}} {self.total!r}")
        lines.append(f"{name}_count{{{labels}}} {cumulative[-1]}")
        return lines


_heads: dict[tuple[float, ...], list[str]] = {}


def bucket_heads(bounds: tuple[float, ...]) -> list[str]:
    """The ``le`` label of each bucket with its closing brace, built once per set of bounds."""
    if bounds not in _heads:
        _heads[bounds] = [f'le="{float(bound)!r}"}}' for bound in bounds] + ['le="+Inf"}']
    return _heads[bounds]


def parse_buckets(text: str) -> tuple[float, ...]:
    """Bucket bounds from ``0.1,0.5,1``; +Inf is implied and may be given.

    Raises:
        UsageError: the bounds are not positive and strictly increasing.
    """
    try:
        bounds = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"buckets {text!r} are not numbers", hint="for example 0.1,0.5,1,5,30") from None
    finite = tuple(bound for bound in bounds if bound != float("inf"))
    if not finite or list(finite) != sorted(set(finite)) or finite[0] <= 0:
        raise UsageError(
            f"buckets {text!r} are not positive and strictly increasing", hint="for example 0.1,0.5,1,5,30"
        )
    return finite
