"""Recent events, for the status page: rates over the last minute, and the last failures."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporters.exposition.families import clean
from exporters.tables.groups import STATES, Group

# Counts are remembered at most this often (seconds) and this many times: about one minute.
SAMPLE_SECONDS = 10.0
SAMPLES = 7
# Older counts would give the rate of an earlier time. Prometheus may scrape only once a minute.
OLDEST_SECONDS = 150.0
# A shorter time says little about a rate.
MIN_SECONDS = 2.0
MAX_FAILURES = 20
LONGEST_ID = 64

Counts = Sequence[int]


class Failure(NamedTuple):
    """One failed task. The time is in epoch seconds, by the exporter's clock."""

    at: float
    task: str
    queue: str
    exception: str
    worker: str
    id: str


class Failures:
    """The newest failures of one broker."""

    def __init__(self) -> None:
        self._newest: deque[Failure] = deque(maxlen=MAX_FAILURES)

    def add(self, at: float, group: Group, exception: str, worker: str, task_id: str) -> None:
        """Note a failure. Worker and ID come from the broker and may have any length."""
        self._newest.append(
            Failure(at, group.name, group.queue, exception, clean(worker), task_id[:LONGEST_ID])
        )

    def newest_first(self) -> list[Failure]:
        return list(reversed(list(self._newest)))


class Rates:
    """Counts of the last minute. They are noted by scrapes and by requests for the page, so no thread is needed."""

    def __init__(self) -> None:
        # Replaced as a whole by each note: scrapes and pages are served by different threads.
        self._samples: tuple[tuple[float, Mapping[Group, Counts]], ...] = ()

    def note(self, now: float, counts: Iterable[tuple[Group, Counts]]) -> None:
        """Remember counts, unless others were remembered a moment ago. They must not be changed afterwards."""
        samples = self._samples
        if samples and now - samples[-1][0] < SAMPLE_SECONDS:
            return
        self._samples = (*samples[1 - SAMPLES :], (now, dict(counts)))

    def per_minute(self, now: float, counts: Mapping[Group, Counts]) -> dict[Group, list[float]] | None:
        """Events per minute by state since the oldest remembered counts; None before there are any."""
        usable = [(at, known) for at, known in self._samples if MIN_SECONDS <= now - at <= OLDEST_SECONDS]
        if not usable:
            return None
        at, before = usable[0]
        nothing = (0,) * len(STATES)
        return {
            group: [
                max(0, count - old) * 60 / (now - at)
                for count, old in zip(values, before.get(group, nothing), strict=True)
            ]
            for group, values in counts.items()
        }
