"""IDs that have more than one execution, and IDs that have ended.

**An ID is not an execution.** ``self.replace`` starts another task under the same ID, a retry sends the ID again, and
a message that is redelivered while it runs is executed twice at once. Such IDs are rare, so they are kept apart from
the tasks in flight.
"""

from collections.abc import Container

from exporters.tables.entry import BETWEEN, GROUP_MASK, RUNNING

# IDs with more than one execution, and IDs that ended, are remembered up to this number.
MAX_SPECIAL = 10_000


class Executions:
    """The additional executions of IDs.

    Attributes:
        lives: executions of an ID that was received more than once: [not ended, of these started].
        replaced: groups of executions whose task-started has not arrived yet although another task has the ID by now.
    """

    __slots__ = ("lives", "replaced")

    def __init__(self) -> None:
        self.lives: dict[int, list[int]] = {}
        self.replaced: dict[int, list[int]] = {}

    def received_again(self, key: int, entry: int, *, same_task: bool) -> None:
        """Note that an ID that a worker already holds was received again."""
        if entry & BETWEEN or len(self.lives) + len(self.replaced) >= MAX_SPECIAL:
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
            if not entry & RUNNING or len(self.lives) >= MAX_SPECIAL:
                return bool(entry & RUNNING)
            lives = self.lives[key] = [2, 1]
        lives[1] += 1
        return lives[1] > 1

    def ended_one(self, key: int) -> bool | None:
        """Note the end of one of several executions; returns whether the last one runs, or None if more than one is left."""
        lives = self.lives[key]
        lives[0] -= 1
        lives[1] = max(0, lives[1] - 1)
        if lives[0] > 1:
            return None
        del self.lives[key]
        return lives[1] > 0

    def keep(self, held: Container[int]) -> None:
        """Forget the IDs that no worker holds any longer."""
        self.lives = {key: lives for key, lives in self.lives.items() if key in held}
        self.replaced.clear()


class RecentEnds:
    """Tasks that ended with an event that may be followed by another one: the newest, in two generations."""

    __slots__ = ("_ended", "_old")

    def __init__(self) -> None:
        self._ended: dict[int, int] = {}
        self._old: dict[int, int] = {}

    def remember(self, key: int, index: int) -> None:
        """Remember the group of a task that has ended."""
        if len(self._ended) >= MAX_SPECIAL:
            self._old, self._ended = self._ended, {}
        self._ended[key] = index

    def group(self, key: int) -> int | None:
        """The group of a task that has recently ended; None if it has not."""
        index = self._ended.get(key)
        return self._old.get(key) if index is None else index
