"""Events that overtake the task-sent event of their task.

Client and worker publish on separate connections, so a fast worker's first event of a task may arrive before the
client's task-sent. Only task-sent names the queue and, if the worker refuses the task unread (unregistered, expired,
revoked), the task. If they cannot be known otherwise, the events of that task wait briefly for it.
"""

from exporters.decode import Event

# Maximum number of seconds that events wait.
PATIENCE = 1.0
MAX_TASKS = 1_000
# Maximum number of names of tasks whose task-sent never comes.
MAX_NAMES = 10_000


class AwaitSent(Exception):  # noqa: N818 - a signal, not an error
    """An event has to wait for the task-sent event of its task."""


class EarlyEvents:
    """The events that wait, by the key of their task."""

    __slots__ = ("_senders", "_silent", "expects_all", "impatient", "waiting")

    def __init__(self) -> None:
        # Key → (local monotonic time since which they wait, the events).
        self.waiting: dict[int, tuple[float, list[Event]]] = {}
        # Whether any client may send task-sent events, and the tasks for which none came.
        self._senders = False
        self._silent: set[str] = set()
        # Whether clients send task-sent events, for every task; then later ones need not be noted.
        self.expects_all = False
        # While it is set, nothing waits, because the events that waited long enough are being counted.
        self.impatient = False

    def listen(self) -> None:
        """Note that task-sent events may come, so that even the very first task is not counted too early."""
        self._senders = True

    def sent(self, name: str) -> None:
        """Note that clients send task-sent events of this task."""
        self._senders = True
        self._silent.discard(name)
        self.expects_all = not self._silent

    def await_sent(self, key: int, event: Event, now: float) -> None:
        """Let the first event of a task wait, if a task-sent may come.

        Args:
            key: the key of the task.
            event: a task-received event, or an end without one, which does not name the task.
            now: local monotonic time.

        Raises:
            AwaitSent: the event waits, and must not be counted now.
        """
        if (
            self.impatient
            or not self._senders
            or event.name in self._silent
            or len(self._silent) >= MAX_NAMES
            or len(self.waiting) >= MAX_TASKS
        ):
            return
        self.waiting[key] = (now, [event])
        raise AwaitSent

    def keeps(self, key: int, event: Event) -> bool:
        """Let a further event of a task wait with the first one; returns False if its task does not wait."""
        waiting = self.waiting.get(key)
        if waiting is None:
            return False
        waiting[1].append(event)
        return True

    def released(self, key: int) -> list[Event]:
        """The events that waited for this task's task-sent."""
        return self.waiting.pop(key, (0.0, []))[1]

    def overdue(self, now: float) -> list[Event]:
        """The events that have waited long enough."""
        late = [key for key, (since, _) in self.waiting.items() if now - since > PATIENCE]
        events = [event for key in late for event in self.waiting.pop(key)[1]]
        if len(self._silent) < MAX_NAMES:
            self._silent.update(event.name for event in events if event.name is not None)
            self.expects_all = self._senders and not self._silent
        return events
