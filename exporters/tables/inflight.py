"""Joins the events of a task: maps task IDs to what is known about the task, in bounded memory.

Only task-sent names a task's queue, and only task-sent and task-received name the task. A task waits from its
task-sent to its task-received, and then a worker holds it until it ends. Both tables map the ID's hash to one packed
integer, which takes about half of the memory that an object per task would.

**Waiting tasks** can be many: a queue without consumers grows without limit, and a queue starts its oldest task
first. Dropping the oldest would lose exactly those that start next. When the table is full, it drops tasks that a
later task of the same pair has long overtaken (their events were lost). When that is not enough, it keeps only the
IDs whose hash is below a threshold, which it halves: a random sample, so that the quantiles of waiting times stay
right at any backlog. The threshold doubles again once the table is nearly empty.

**Held tasks** are few. Those that never end expire: there are two generations, and the old one is dropped as a whole.

The key is the ID's hash (60 bits). With 100,000 tasks, the chance that two share one is about one in a hundred million, and
a sender cannot provoke it, because each process has its own hash key.

**An ID is not an execution.** ``self.replace`` starts another task under the same ID, a retry sends the ID again, and
a message that is redelivered while it runs is executed twice at once. Such IDs are rare; additional
executions are kept in separate tables (``lives``, ``replaced``).
"""

from collections.abc import Callable, Mapping

from exporters.tables.backlog import SHIFT, Backlog

# A packed entry: group index, two flags, and when the task was due (0: not known), in ticks since the origin.
GROUP_MASK = (1 << 24) - 1
RUNNING = 1 << 24
# The next task-received of this ID is not another execution: the last one ended in a retry, or the worker itself said
# that it holds the task.
BETWEEN = 1 << 25
DUE_SHIFT = SHIFT
TICKS = 65536.0
MOST_TICKS = 1 << 44
# Tasks that were sent up to this long before the exporter started have a known due time.
BEFORE_START = 30 * 86_400.0
KEY_BITS = 60
KEY_MASK = (1 << KEY_BITS) - 1
WHOLE = 1 << KEY_BITS
# Ticks by which a task must have been overtaken before it counts as lost.
OVERTAKEN = int(600 * TICKS)
# IDs with more than one execution, and IDs that ended, are remembered up to this number.
MOST_SPECIAL = 10_000


class InFlight:
    """The bounded join table.

    Args:
        limit: maximum number of waiting tasks, and of held tasks.
        epoch: the current time, in epoch seconds.
    """

    __slots__ = (
        "_old_ended",
        "ended",
        "evicted",
        "held",
        "limit",
        "lives",
        "old",
        "origin",
        "replaced",
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
        # Executions of an ID that was received more than once: [not ended, of these started].
        self.lives: dict[int, list[int]] = {}
        # Groups of executions whose task-started has not arrived yet although another task has the ID by now.
        self.replaced: dict[int, list[int]] = {}
        # Tasks that ended with an event that may be followed by another one.
        self.ended: dict[int, int] = {}
        self._old_ended: dict[int, int] = {}
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
        return ticks << DUE_SHIFT | index if 0 < ticks < MOST_TICKS else index

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
        self.lives = {key: lives for key, lives in self.lives.items() if key in self.old}
        self.replaced.clear()

    # More than one execution

    def received_again(self, key: int, entry: int, *, same_task: bool) -> None:
        """Note that an ID that a worker already holds was received again."""
        if entry & BETWEEN or len(self.lives) + len(self.replaced) >= MOST_SPECIAL:
            return
        if same_task:
            lives = self.lives.setdefault(key, [1, 1 if entry & RUNNING else 0])
            lives[0] += 1
        elif not entry & RUNNING:
            self.replaced.setdefault(key, []).append(entry & GROUP_MASK)

    def started_replaced(self, key: int) -> int:
        """The group of the oldest execution of this ID that has not started, if another task has the ID by now."""
        pending = self.replaced[key]
        index = pending.pop(0)
        if not pending:
            del self.replaced[key]
        return index

    def started_again(self, key: int, entry: int) -> bool:
        """Note a start of an ID with several executions; returns whether another one of them was running."""
        lives = self.lives.get(key)
        if lives is None:
            if not entry & RUNNING or len(self.lives) >= MOST_SPECIAL:
                return bool(entry & RUNNING)
            lives = self.lives[key] = [2, 1]
        lives[1] += 1
        return lives[1] > 1

    def ended_one(self, key: int) -> int:
        """Note the end of one of several executions; returns the entry of the ID, which stays until all have ended."""
        lives = self.lives[key]
        lives[0] -= 1
        lives[1] = max(0, lives[1] - 1)
        entry = self.find(key)
        if lives[0] <= 1:
            del self.lives[key]
            self.held[key] = entry | RUNNING if lives[1] else entry & ~RUNNING
        return entry

    # Ended

    def remember_end(self, key: int, entry: int) -> None:
        """Remember a task that has ended, because another event may follow."""
        if len(self.ended) >= MOST_SPECIAL:
            self._old_ended, self.ended = self.ended, {}
        self.ended[key] = entry & GROUP_MASK

    def end_of(self, key: int) -> int | None:
        """The group of a task that has recently ended; None if it has not."""
        index = self.ended.get(key)
        return self._old_ended.get(key) if index is None else index


def refuse_anonymous() -> int:
    """Reject a task event without an ID.

    Raises:
        ValueError: always.
    """
    raise ValueError("a task event needs an ID")
