"""A curve: the cost of something at several sizes, and the power of the size with which it grows."""

from dataclasses import dataclass, field
from math import log


@dataclass
class Curve:
    """One cost of one subject.

    Attributes:
        what: what is measured, with its unit.
        of: what the size counts.
        who: the subject.
        points: size → cost.
    """

    what: str
    of: str
    who: str
    points: dict[int, float] = field(default_factory=dict)

    @property
    def exponent(self) -> float | None:
        """The power of the size with which the cost grows: 0 flat, 1 linear, 2 quadratic; None with too few points.

        It is the slope of the straight line through the logarithms that fits best.
        """
        known = [(log(size), log(cost)) for size, cost in self.points.items() if size > 0 and cost > 0]
        if len({size for size, _ in known}) < 2:
            return None
        mean_size = sum(size for size, _ in known) / len(known)
        mean_cost = sum(cost for _, cost in known) / len(known)
        spread = sum((size - mean_size) ** 2 for size, _ in known)
        return sum((size - mean_size) * (cost - mean_cost) for size, cost in known) / spread
