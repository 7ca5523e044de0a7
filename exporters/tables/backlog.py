"""Tasks that wait for a worker, by key: the newest in a dict, all others in sorted arrays.

A dict takes about 124 bytes per task, the arrays 20. A backlog is long only if its tasks stay in it, so most of
them can be in arrays. Workers take the oldest tasks first, so the first array that is searched usually has the task.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable

from exporters.tables.entry import DUE_SHIFT

_LOW = (1 << DUE_SHIFT) - 1
_GONE = (1 << 32) - 1
# The dict has at most this share of the table, or this number of tasks if that is more.
SHARES = 8
MIN_NEWEST = 16_384

Wanted = Callable[[int, int], bool]


class Run:
    """Tasks in arrays, sorted by key.

    Args:
        tasks: key → packed entry.

    Attributes:
        left: the number of tasks that are still there.
    """

    __slots__ = ("_due", "_keys", "_low", "left")

    def __init__(self, tasks: dict[int, int]) -> None:
        keys = sorted(tasks)
        self._keys = array("Q", keys)
        self._due = array("Q", (tasks[key] >> DUE_SHIFT for key in keys))
        self._low = array("I", (tasks[key] & _LOW for key in keys))
        self.left = len(keys)

    def find(self, key: int, *, take: bool) -> int:
        """The entry of a task, which can be taken out; 0 if it is not there."""
        place = bisect_left(self._keys, key)
        if place == len(self._keys) or self._keys[place] != key or self._low[place] == _GONE:
            return 0
        entry = self._due[place] << DUE_SHIFT | self._low[place]
        if take:
            self._low[place] = _GONE
            self.left -= 1
        return entry

    def tasks(self) -> dict[int, int]:
        """All tasks that are still there."""
        return {
            key: due << DUE_SHIFT | low
            for key, due, low in zip(self._keys, self._due, self._low, strict=True)
            if low != _GONE
        }


class Backlog:
    """The table.

    Args:
        limit: the number of tasks at which :attr:`room` becomes 0.

    Attributes:
        newest: the newest tasks. A new one may be added here as long as there is room.
        room: the number of tasks that the dict may have.
    """

    __slots__ = ("_limit", "_most_newest", "_runs", "newest", "room")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._most_newest = min(limit, max(limit // SHARES, MIN_NEWEST))
        self._runs: list[Run] = []
        self.newest: dict[int, int] = {}
        self.room = self._most_newest

    def __len__(self) -> int:
        return len(self.newest) + sum(run.left for run in self._runs)

    def find(self, key: int) -> int:
        """The entry of a task; 0 if it does not wait."""
        return self.newest.get(key, 0) or self._search(key, take=False)

    def pop(self, key: int) -> int:
        """Take a task out; returns its entry, or 0 if it did not wait."""
        entry = self.newest.pop(key, 0)
        return entry or (self._search(key, take=True) if self._runs else 0)

    def settle(self) -> None:
        """Move the newest tasks into an array."""
        if self.newest:
            self._runs.append(Run(self.newest))
            self.newest.clear()
        self._runs = [run for run in self._runs if run.left]
        self._merge_two()
        self._measure()

    def keep(self, wanted: Wanted) -> None:
        """Remove the tasks that are not wanted, given their key and entry."""
        for key in [key for key, entry in self.newest.items() if not wanted(key, entry)]:
            del self.newest[key]
        for place, run in enumerate(self._runs):
            self._runs[place] = Run({key: entry for key, entry in run.tasks().items() if wanted(key, entry)})
        self._runs = [run for run in self._runs if run.left]
        self._measure()

    def _search(self, key: int, *, take: bool) -> int:
        for run in self._runs:
            entry = run.find(key, take=take)
            if entry:
                return entry
        return 0

    def _merge_two(self) -> None:
        # Runs that are nearly empty. One merge each time keeps their number small, without a long pause.
        for place in range(len(self._runs) - 1):
            first, second = self._runs[place : place + 2]
            if first.left + second.left <= self._most_newest:
                self._runs[place : place + 2] = [Run({**second.tasks(), **first.tasks()})]
                return

    def _measure(self) -> None:
        settled = sum(run.left for run in self._runs)
        self.room = max(0, min(self._most_newest, self._limit - settled))
