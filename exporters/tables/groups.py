"""Task name and queue: the pair that every task metric carries, and what is counted under it.

A :class:`Group` is one (name, queue). A :class:`Track` is the counts of one group on one host. Events raise
tracks only; what is read without a host label is the sum of a group's tracks and of those that were purged.
"""

import threading
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exporters.exposition.families import OVERFLOW, UNKNOWN, clean, label_text
from exporters.tables.budget import Budget
from exporters.tables.histogram import Histogram

STATES = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")
SENT, RECEIVED, STARTED, SUCCEEDED, FAILED, RETRIED, REVOKED, REJECTED = range(8)

REASONS = ("expired", "terminated", "revoked")

# Distinct exception classes kept per group; a task that raises generated classes must not fill the budget.
MOST_EXCEPTIONS = 50
# Series of a group without host: its states, its revocations' reasons.
GROUP_SERIES = len(STATES) + len(REASONS)
TRACK_SERIES = len(STATES)

# Held while counts move from a track to the sums: a scrape in between would see them twice and then fall.
_moving = threading.Lock()


class Track:
    """The counts of one group on one host."""

    __slots__ = ("counts", "exceptions", "group", "labels", "runtime", "series", "wait")

    def __init__(self, group: "Group", labels: str) -> None:
        self.group = group
        self.labels = labels
        self.counts = [0] * len(STATES)
        self.exceptions: dict[str, int] = {}
        self.runtime: Histogram | None = None
        self.wait: Histogram | None = None
        self.series = TRACK_SERIES

    def add(self, other: "Track") -> None:
        """Take another track's counts in."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        for name, count in list(other.exceptions.items()):
            self.exceptions[name] = self.exceptions.get(name, 0) + count
        self.runtime = _summed(self.runtime, other.runtime)
        self.wait = _summed(self.wait, other.wait)


def _summed(mine: Histogram | None, theirs: Histogram | None) -> Histogram | None:
    if theirs is None:
        return mine
    total = Histogram(theirs.bounds)
    for part in (mine, theirs):
        if part is not None:
            total.add(part)
    return total


class Group:
    """One task name on one queue."""

    __slots__ = ("labels", "name", "queue", "reasons", "retained", "series", "tracks", "waitless")

    def __init__(self, name: str, queue: str) -> None:
        self.name = name
        self.queue = queue
        self.labels = label_text(task=name, queue=queue)
        self.tracks: list[Track] = []
        self.retained = Track(self, "")
        self.reasons = [0] * len(REASONS)
        self.series = GROUP_SERIES
        # Shared by every task in flight of which only the group is known.
        self.waitless = Entry(self, None)

    def total(self) -> Track:
        """The sum over all hosts, purged ones included."""
        total = Track(self, "")
        with _moving:
            parts = [self.retained, *self.tracks]
            for track in parts:
                total.add(track)
        return total

    def purge(self, track: Track) -> None:
        """Forget a host's track; its counts stay in the group's sums."""
        with _moving:
            self.retained.add(track)
            self.tracks.remove(track)


class Entry(NamedTuple):
    """What is known of a task in flight.

    Attributes:
        group: its name and queue.
        due: epoch seconds from which it counts as waiting (sent, or its eta if later); None if not known.
    """

    group: Group
    due: float | None


class Groups:
    """All groups, the names learned so far, and the caps."""

    def __init__(self, budget: Budget, *, most_names: int, unknown_queue: str = UNKNOWN) -> None:
        self._budget = budget
        self._most_names = most_names
        self._by_pair: dict[tuple[str, str], Group] = {}
        self._queues_of: dict[str, set[str]] = {}
        self._default: dict[str, Group] = {}
        self.unknown_queue = unknown_queue
        self.overflow = Group(OVERFLOW, OVERFLOW)
        self.unknown = Group(UNKNOWN, unknown_queue)

    def __iter__(self) -> Iterator[Group]:
        extra = [group for group in (self.overflow, self.unknown) if any(group.total().counts)]
        return iter([*list(self._by_pair.values()), *extra])

    def get(self, name: str, queue: str) -> Group:
        """The group of a name on a queue that is known to be right."""
        return self._by_pair.get((name, queue)) or self._create(name, queue)

    def guess(self, name: str) -> Group:
        """The group of a task whose queue no event told: its only queue so far, else the unknown one."""
        return self._default.get(name) or self._guessed(name)

    def learn(self, name: str, queue: str) -> None:
        """Note that messages of this task were seen in this queue."""
        if name in self._queues_of:
            self._queues_of[name].add(queue)
            self._default.pop(name, None)
        elif len(self._queues_of) < self._most_names:
            self._queues_of[name] = {queue}
            self._default.pop(name, None)

    def _guessed(self, name: str) -> Group:
        queues = self._queues_of.get(name) or ()
        queue = next(iter(queues)) if len(queues) == 1 else self.unknown_queue
        group = self.get(name, queue)
        if group is not self.overflow:
            self._default[name] = group
        return group

    def _create(self, name: str, queue: str) -> Group:
        if type(name) is not str or type(queue) is not str:
            raise TypeError("a task name or queue is no text")
        name, queue = clean(name), clean(queue)
        if (name, queue) in self._by_pair:
            return self._by_pair[(name, queue)]
        if len(self._by_pair) >= self._most_names or not self._budget.take(GROUP_SERIES):
            self._budget.capped += len(self._by_pair) >= self._most_names
            return self.overflow
        group = self._by_pair[(name, queue)] = Group(name, queue)
        if queue != self.unknown_queue:
            self.learn(name, queue)
        return group


def histogram_series(bounds: Sequence[float]) -> int:
    """How many lines a histogram of these bounds has."""
    return len(bounds) + 3
