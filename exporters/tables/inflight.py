"""Joins the events of a task: maps task IDs to what is known about the task, in bounded memory.

Only task-sent names a task's queue, and only task-sent and task-received name the task. A task waits from its
task-sent to its task-received, and then a worker holds it until it ends. Both tables map the ID's hash to one packed
integer (``entry.py``).

**Waiting tasks** can be many: a queue without consumers grows without limit, and a queue starts its oldest task
first. Dropping the oldest would lose exactly those that start next. When the table is full, it drops tasks that a
later task of the same pair has long overtaken (their events were lost). When that is not enough, it keeps only the
IDs whose hash is below a threshold, which it halves: a random sample, so that the quantiles of waiting times stay
right at any backlog. The threshold doubles again once the table is nearly empty.

**Held tasks** are few. Those that never end expire: there are two generations, and the old one is dropped as a whole.
"""

from collections.abc import Callable, Mapping

from exporters.tables.backlog import Backlog
from exporters.tables.entry import (
    DUE_SHIFT,
    GROUP_MASK,
    KEY_BITS,
    KEY_MASK,
    MAX_TICKS,
    RUNNING,
    TICKS,
)
from exporters.tables.executions import Executions, RecentEnds

# Tasks that were sent up to this long before the exporter started have a known due time.
BEFORE_START = 30 * 86_400.0
WHOLE = 1 << KEY_BITS
# Ticks by which a task must have been overtaken before it counts as lost.
OVERTAKEN = int(600 * TICKS)


class InFlight:
    """The bounded join table.

    Args:
        limit: maximum number of waiting tasks, and of held tasks.
        epoch: the current time, in epoch seconds.

    Attributes:
        executions: what is known of IDs with more than one execution.
        ends: tasks that have recently ended.
        evicted: number of tasks that were dropped before they ended.
    """

    __slots__ = (
        "ends",
        "evicted",
        "executions",
        "held",
        "limit",
        "old",
        "origin",
        "threshold",
        "waiting",
    )

    def __init__(self, limit: int, epoch: float) -> None:
        self.limit = limit
        self.origin = epoch - BEFORE_START
        self.waiting = Backlog(limit)
        self.threshold = WHOLE
        self.held: dict[int, int] = {}
        self.old: dict[int, int] = {}
        self.executions = Executions()
        self.ends = RecentEnds()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.held) + len(self.old)

    @property
    def sampled(self) -> float:
        """The share of waiting tasks that is kept; 1 while all are kept."""
        return self.threshold / WHOLE

    def pack(self, index: int, due: float) -> int:
        """An entry from a group's index and epoch seconds."""
        ticks = int((due - self.origin) * TICKS)
        return ticks << DUE_SHIFT | index if 0 < ticks < MAX_TICKS else index

    def due(self, uuid: str) -> float | None:
        """When a task began to wait, in epoch seconds; None if not known."""
        key = hash(uuid) & KEY_MASK
        entry = self.waiting.find(key) or self.held.get(key) or self.old.get(key) or 0
        ticks = entry >> DUE_SHIFT
        return self.origin + ticks / TICKS if ticks else None

    # Waiting

    def wait(self, key: int, entry: int, newest_starts: Callable[[], Mapping[int, int]]) -> None:
        """Note a task as waiting, and make room for the next ones.

        Args:
            newest_starts: returns group index → ticks at which the newest task that has started was due.
        """
        self.waiting.newest[key] = entry
        if len(self.waiting.newest) > self.waiting.room:
            if len(self.waiting) > self.limit:
                self._thin(newest_starts())
            self.waiting.settle()

    def _thin(self, newest_starts: Mapping[int, int]) -> None:
        waiting, before = self.waiting, len(self.waiting)
        waiting.keep(
            lambda _, entry: entry >> DUE_SHIFT > newest_starts.get(entry & GROUP_MASK, 0) - OVERTAKEN
        )
        if len(waiting) > self.limit * 3 // 4:
            self.threshold = kept = self.threshold // 2
            waiting.keep(lambda key, _: key < kept)
        self.evicted += before - len(waiting)

    def relax(self) -> None:
        """Keep a larger share once there is room again."""
        if self.threshold < WHOLE and len(self.waiting) < self.limit // 4:
            self.threshold *= 2

    def forget_before(self, epoch: float) -> None:
        """Forget tasks that have waited since before this time: their events were lost."""
        since = max(0, int((epoch - self.origin) * TICKS)) << DUE_SHIFT
        before = len(self.waiting)
        self.waiting.keep(lambda _, entry: entry >= since)
        self.evicted += before - len(self.waiting)

    # Held

    def find(self, key: int) -> int:
        """The entry of a task that a worker holds; 0 if there is none."""
        return self.held.get(key) or (self.old.get(key, 0) if self.old else 0)

    def hold(self, key: int, entry: int) -> None:
        """Note a task as held by a worker."""
        if len(self.held) >= self.limit:
            self.age()
        self.held[key] = entry

    def drop(self, key: int) -> int:
        """Remove a held task; returns its entry, or 0 if there was none."""
        entry = self.held.pop(key, 0)
        stale = self.old.pop(key, 0) if self.old else 0
        return entry or stale

    def age(self) -> None:
        """Forget the old generation of held tasks; the young one becomes old."""
        self.evicted += len(self.old)
        self.old, self.held = self.held, {}
        self.executions.keep(self.old)

    def ended_one(self, key: int) -> int:
        """Note the end of one of several executions; returns the entry of the ID, which stays until all have ended."""
        entry = self.find(key)
        is_running = self.executions.ended_one(key)
        if is_running is not None:
            self.held[key] = entry | RUNNING if is_running else entry & ~RUNNING
        return entry
