"""Task name and queue, the labels of every task metric, and the counts for each pair.

A :class:`Group` is one pair of name and queue. A :class:`Track` holds counts. Each group has one track for everything
that has no series per host (``rest``), and one per host as long as the series budget allows. An event is counted in
exactly one track, so the value without a host label is the sum of a group's tracks, even if the budget allows no series per host.

The number of pairs is limited. When a new pair needs room, those that have been idle longest are evicted, so that unused
names do not crowd out names in use.
"""

import threading
from collections.abc import Iterator, Sequence
from math import inf
from time import time

from exporters.exposition.families import OVERFLOW, UNKNOWN, clean, label_text
from exporters.tables.budget import Budget
from exporters.tables.histogram import Histogram

STATES = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "requeued")
SENT, RECEIVED, STARTED, SUCCEEDED, FAILED, RETRIED, REVOKED, REJECTED, REQUEUED = range(len(STATES))

REASONS = ("expired", "terminated", "revoked")

# Maximum number of exception classes per track: a task that raises generated classes must not grow without bound.
MAX_EXCEPTIONS = 50
# Series of a group without a host label: its states, the reasons of its revocations, its duplicate runs.
GROUP_SERIES = len(STATES) + len(REASONS) + 1
# celery-exporter has no state "requeued".
TRACK_SERIES = len(STATES) - 1
# When the table is full, one pair in EVICTED_SHARE is evicted at once.
EVICTED_SHARE = 16
# Queue names are truncated to this length before the broker is asked about them; AMQP allows 255 bytes.
LONGEST_QUEUE = 1_000

# Locked while counts move from a track to the rest: a scrape in between would count them twice.
_moving = threading.Lock()


class Track:
    """The counts of one group, on one host or without a host."""

    __slots__ = ("counts", "exceptions", "group", "home", "labels", "runtime", "series", "wait")

    def __init__(self, group: "Group", labels: str, home: "dict[Group, Track] | None" = None) -> None:
        self.group = group
        # The table of its host; the track is removed from it when its group is evicted.
        self.home = home
        self.labels = labels
        self.counts = [0] * len(STATES)
        self.exceptions: dict[str, int] = {}
        self.runtime: Histogram | None = None
        self.wait: Histogram | None = None
        self.series = TRACK_SERIES

    def add(self, other: "Track") -> None:
        """Add another track's counts."""
        counts = self.counts
        for at, count in enumerate(other.counts):
            if count:
                counts[at] += count
        for name, count in list(other.exceptions.items()):
            self.exceptions[name] = self.exceptions.get(name, 0) + count
        self.runtime = _added(self.runtime, other.runtime)
        self.wait = _added(self.wait, other.wait)


def _added(mine: Histogram | None, theirs: Histogram | None) -> Histogram | None:
    if theirs is None:
        return mine
    total = mine or Histogram(theirs.bounds)
    total.add(theirs)
    return total


class Group:
    """One task name on one queue.

    Attributes:
        index: its number in :class:`Groups`; never reused.
        queue: the queue label.
        queue_name: the queue's full name; None if the queue is not known.
        created: epoch seconds.
        used: local monotonic time of the last event that named it.
        newest_start: when the newest task that started was due, in the units of the join table; 0 before the first start.
        shown: its counts at the last scrape; None before the first.
    """

    __slots__ = (
        "created",
        "duplicates",
        "index",
        "labels",
        "name",
        "newest_start",
        "queue",
        "queue_name",
        "reasons",
        "rest",
        "shown",
        "tracks",
        "used",
    )

    def __init__(self, index: int, name: str, queue: str, queue_name: str | None = None) -> None:
        self.index = index
        self.name = name
        self.queue = queue
        self.queue_name = queue_name
        self.labels = label_text(task=name, queue=queue)
        self.created = time()
        self.rest = Track(self, "")
        self.tracks: list[Track] = []
        self.reasons = [0] * len(REASONS)
        self.duplicates = 0
        self.used = 0.0
        self.newest_start = 0
        self.shown: list[int] | None = None

    @property
    def is_evicted(self) -> bool:
        """Whether it was removed to make room for another pair."""
        return self.used == inf

    @property
    def is_used(self) -> bool:
        """Whether anything was counted under it."""
        return any(self.rest.counts) or any(any(track.counts) for track in list(self.tracks))

    def total(self) -> Track:
        """The sum over all hosts. The caller must not change its counts and histograms."""
        if not self.tracks:
            return self.rest
        total = Track(self, "")
        with _moving:
            for track in (self.rest, *self.tracks):
                total.add(track)
        return total

    def purge(self, track: Track) -> None:
        """Forget a host's track; its counts stay in the group's sums."""
        with _moving:
            self.rest.add(track)
            self.tracks.remove(track)


class Groups:
    """All groups, the names learned so far, and the cap on both."""

    def __init__(self, budget: Budget, *, max_names: int, unknown_queue: str = UNKNOWN) -> None:
        self._budget = budget
        self._max_names = max_names
        self._by_pair: dict[tuple[str, str], Group] = {}
        # The same by the names as received, for the pairs whose queue is known.
        self._exact: dict[tuple[str, str], Group] = {}
        self._queues_of: dict[str, set[str]] = {}
        self._default: dict[str, Group] = {}
        self._made = 2
        self.unknown_queue = unknown_queue
        self.overflow = Group(0, OVERFLOW, OVERFLOW)
        self.unknown = Group(1, UNKNOWN, unknown_queue)
        # Groups by index. Evicted pairs are not in it: their tasks that are still in flight count as overflow.
        self.by_index: dict[int, Group] = {0: self.overflow, 1: self.unknown}
        # Local monotonic time of the event that is being counted.
        self.now = 0.0

    def __iter__(self) -> Iterator[Group]:
        extra = [group for group in (self.overflow, self.unknown) if group.is_used]
        return iter([*list(self._by_pair.values()), *extra])

    def __len__(self) -> int:
        return len(self._by_pair)

    def get(self, name: str, queue: str) -> Group:
        """The group of a name on a queue that is known to be right."""
        return self._exact.get((name, queue)) or self._known(name, queue)

    def guess(self, name: str) -> Group:
        """The group of a task whose queue no event named: its only queue so far, otherwise the unknown one."""
        return self._default.get(name) or self._guessed(name)

    def learn(self, name: str, queue: str) -> None:
        """Note that messages of this task were seen in this queue."""
        queues = self._queues_of.get(name)
        if queues is None:
            if len(self._queues_of) >= self._max_names:
                self._queues_of.pop(next(iter(self._queues_of)))
            queues = self._queues_of[name] = set()
        if queue not in queues and len(queues) < self._max_names:
            queues.add(queue)
            self._default.pop(name, None)

    def add_known(self, name: str, queues: Sequence[str]) -> None:
        """Create the groups of a task that has not run yet, so that its counters start at 0, while there is room."""
        for queue in queues or ("",):
            if len(self._by_pair) < self._max_names // 2:
                # Not learned: a worker could take the task from this queue, but it may never be sent there.
                group = self._group(name, queue) if queue else self.guess(name)
                group.queue_name = group.queue_name or queue or None

    def _guessed(self, name: str) -> Group:
        queues = self._queues_of.get(name) or ()
        if len(queues) == 1:
            group = self.get(name, next(iter(queues)))
        else:
            group = self._group(name, self.unknown_queue)
        if group is not self.overflow:
            if len(self._default) >= 2 * self._max_names:
                self._default.clear()
            self._default[name] = group
        return group

    def _known(self, name: str, queue: str) -> Group:
        group = self._group(name, queue)
        group.queue_name = queue[:LONGEST_QUEUE]
        if group is not self.overflow:
            if len(self._exact) >= 2 * self._max_names:
                self._exact.clear()
            self._exact[(name, queue)] = group
            self.learn(name, queue)
        return group

    def _group(self, name: str, queue: str) -> Group:
        key = (clean(name), clean(queue))
        for reserved in (self.overflow, self.unknown):
            # A task of that name on a queue of that name would have the same series.
            if key == (reserved.name, reserved.queue):
                return reserved
        return self._by_pair.get(key) or self._create(*key)

    def _create(self, name: str, queue: str) -> Group:
        if len(self._by_pair) >= self._max_names:
            self._evict()
        group = Group(self._made, name, queue)
        group.used = self.now
        self._made += 1
        self._by_pair[(name, queue)] = self.by_index[group.index] = group
        return group

    def _evict(self) -> None:
        """Evict the pairs that have been idle longest. Counts that no scrape has shown yet are kept as overflow."""
        idle_longest = sorted(self._by_pair.items(), key=lambda item: item[1].used)
        for key, group in idle_longest[: max(1, len(idle_longest) // EVICTED_SHARE)]:
            self._budget.turn_away("names")
            del self._by_pair[key], self.by_index[group.index]
            self._keep_unshown(group)
            group.used = inf
            for track in group.tracks:
                self._budget.give_back(track.series)
                if track.home is not None:
                    del track.home[group]
        left = set(self._by_pair.values())
        self._default = {name: group for name, group in self._default.items() if group in left}
        self._exact = {pair: group for pair, group in self._exact.items() if group in left}

    def _keep_unshown(self, group: Group) -> None:
        rest, total = self.overflow.rest, group.total()
        if group.shown is None:
            rest.add(total)
        else:
            rest.counts = [
                count + new - shown
                for count, new, shown in zip(rest.counts, total.counts, group.shown, strict=True)
            ]


def histogram_series(bounds: Sequence[float]) -> int:
    """The number of lines of a histogram with these bounds."""
    return len(bounds) + 3
