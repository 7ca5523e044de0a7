"""Tasks that workers have registered: their counters start at 0, so that the first event shows as an increase."""

from collections.abc import Collection, Sequence

from exporters.tables.groups import Groups


class ExpectedTasks:
    """The registered tasks. Replies arrive on another thread; groups are created on the one that counts events.

    Args:
        groups: the pairs of task and queue.
    """

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._expected: frozenset[tuple[str, tuple[str, ...]]] = frozenset()
        self._started = self._expected

    def set(self, tasks: Collection[tuple[str, Sequence[str]]]) -> None:
        """Replace what is expected.

        Args:
            tasks: pairs of a task's name and the queues that its worker consumes.
        """
        self._expected = frozenset((name, tuple(queues)) for name, queues in tasks)

    def start(self) -> None:
        """Start the counters of the tasks that are new."""
        expected = self._expected
        if expected is not self._started:
            for name, queues in sorted(expected - self._started):
                self._groups.add_known(name, queues)
            self._started = expected
