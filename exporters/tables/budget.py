"""Limits on everything that grows with data from the broker, and how often each limit was reached."""

from dataclasses import dataclass

# The limits that ``celery_exporter_series_capped_total`` reports, by its ``limit`` label.
CAPS = ("names", "hosts", "exceptions", "workers")


@dataclass(frozen=True)
class Limits:
    """The limits of the event state.

    Attributes:
        in_flight: tasks that are tracked by ID.
        series: series of task metrics with a ``hostname`` label.
        names: pairs of task and queue.
        workers: workers that have their own series.
    """

    in_flight: int = 120_000
    series: int = 50_000
    names: int = 2_000
    workers: int = 3_000


class Budget:
    """The number of series with a host label that may exist, and how often each limit was reached."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.turned_away = dict.fromkeys(CAPS, 0)

    def take(self, series: int) -> bool:
        """Reserve series. Returns False, and counts it, if the limit is reached."""
        if self.used + series > self.limit:
            self.turned_away["hosts"] += 1
            return False
        self.used += series
        return True

    def give_back(self, series: int) -> None:
        self.used -= series

    def turn_away(self, limit: str) -> None:
        """Count something that did not get its own series because of a limit."""
        self.turned_away[limit] += 1

    @property
    def capped(self) -> int:
        """How often any limit was reached."""
        return sum(self.turned_away.values())
