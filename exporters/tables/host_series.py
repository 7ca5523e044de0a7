"""Creates a track's series with its first value, as long as the budget allows."""

from bisect import bisect_left

from exporters.exposition.families import OVERFLOW
from exporters.tables.budget import Budget
from exporters.tables.groups import MAX_EXCEPTIONS, Track, histogram_series
from exporters.tables.histogram import LONGEST, Histogram


class HostSeries:
    """Histograms and exception counters per host.

    Args:
        budget: the budget of series per host.
        runtime_buckets: bounds of the run-time histogram.
        wait_buckets: bounds of the waiting-time histogram.
    """

    def __init__(
        self, budget: Budget, *, runtime_buckets: tuple[float, ...], wait_buckets: tuple[float, ...]
    ) -> None:
        self._budget = budget
        self._runtime_buckets = runtime_buckets
        self._wait_buckets = wait_buckets

    def runtime_histogram(self, track: Track) -> Histogram:
        """Start the run-time histogram of a track, or of its group's rest if the budget is used up."""
        if not self._fits(track, histogram_series(self._runtime_buckets)):
            # The host's share is not exposed; the sum without a host is still complete.
            track = track.group.rest
        track.runtime = track.runtime or Histogram(self._runtime_buckets)
        return track.runtime

    def observe_wait(self, track: Track, waited: float) -> None:
        """Observe how long a task waited, in seconds."""
        if waited < LONGEST:
            if waited < 0:
                # The sender's clock is ahead of the worker's.
                waited = 0.0
            histogram = track.wait or self._wait_histogram(track)
            histogram.counts[bisect_left(histogram.bounds, waited)] += 1
            histogram.total += waited

    def _wait_histogram(self, track: Track) -> Histogram:
        if not self._fits(track, histogram_series(self._wait_buckets)):
            track = track.group.rest
        track.wait = track.wait or Histogram(self._wait_buckets)
        return track.wait

    def _fits(self, track: Track, series: int) -> bool:
        if track is track.group.rest:
            return True
        if not self._budget.take(series):
            return False
        track.series += series
        return True

    def count_exception(self, track: Track, name: str) -> None:
        """Count an exception class; a track has at most MAX_EXCEPTIONS of them."""
        if name not in track.exceptions:
            if len(track.exceptions) >= MAX_EXCEPTIONS:
                self._budget.turn_away("exceptions")
                name = OVERFLOW
            elif not self._fits(track, 1):
                track = track.group.rest
        track.exceptions[name] = track.exceptions.get(name, 0) + 1
