"""Tasks that workers held when the exporter subscribed: the events that name them came before."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporters.tables.entry import BETWEEN, KEY_MASK
from exporters.tables.eta import EtaTable
from exporters.tables.groups import Groups
from exporters.tables.inflight import InFlight

# Celery allows any string as a task ID; a longer one is refused.
LONGEST_ID = 255


@dataclass(frozen=True)
class HeldTask:
    """A task that a worker reports to hold.

    Attributes:
        queue: the queue; None if the message does not show it.
        eta: the eta in Celery's format; None without one.
    """

    uuid: str
    name: str
    queue: str | None
    eta: str | None = None


class Adoption:
    """Adds such tasks to the join by ID. A task that is known, or has ended meanwhile, is left as it is.

    Args:
        groups: the pairs of task and queue.
        tasks: the join by ID.
        eta: tasks that wait for their eta.
        epoch_of: converts an eta to epoch seconds.
    """

    def __init__(
        self, groups: Groups, tasks: InFlight, eta: EtaTable, epoch_of: Callable[[str], float]
    ) -> None:
        self._groups = groups
        self._tasks = tasks
        self._eta = eta
        self._epoch_of = epoch_of
        # Replies arrive on another thread; the join belongs to the one that counts events.
        self._waiting: deque[HeldTask] = deque()

    def add(self, held: Iterable[HeldTask]) -> None:
        """Note tasks that a worker reports to hold, from any thread."""
        self._waiting.extend(held)

    def complete(self) -> None:
        """Add the tasks that were noted to the join, except those whose eta is malformed."""
        while self._waiting:
            with contextlib.suppress(ValueError, OverflowError):
                self._adopt(self._waiting.popleft())

    def _adopt(self, task: HeldTask) -> None:
        tasks, key = self._tasks, hash(task.uuid) & KEY_MASK
        is_known = tasks.find(key) or tasks.waiting.find(key) or tasks.ends.group(key) is not None
        if is_known or not 0 < len(task.uuid) <= LONGEST_ID:
            return
        group = self._groups.get(task.name, task.queue) if task.queue else self._groups.guess(task.name)
        group.used = self._groups.now
        # Its task-received and task-started may still be on their way, and are not another execution.
        tasks.hold(key, group.index | BETWEEN)
        if task.eta is not None:
            self._eta.wait(task.uuid, group, self._epoch_of(task.eta))
