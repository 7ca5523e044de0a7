"""The size of the next part of an upload of unknown length.

Parts start small, so that a small backup needs little memory, and double eight times, so that the largest allowed
number of parts holds terabytes: with 10,000 parts 2.4 TiB, with 1,000 parts 250 GiB.
"""

from dataclasses import dataclass

MIB = 1 << 20
STEPS = 8


@dataclass(frozen=True)
class PartSizes:
    """Sizes for at most ``limit`` parts. The first parts have ``first`` bytes (S3 requires at least 5 MiB)."""

    limit: int = 10_000
    first: int = 8 * MIB

    def of(self, number: int) -> int:
        """The size of the part with this number (1, 2, …)."""
        step = min((number - 1) * STEPS // self.limit, STEPS - 1)
        return self.first << step
