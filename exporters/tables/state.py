"""The event state of one broker: every decoded event is counted here, on one thread, in constant work."""

import time
from collections.abc import Callable

from exporters.decode import Event
from exporters.exposition.families import OVERFLOW, clean
from exporters.tables.budget import Budget, Limits
from exporters.tables.early import AwaitSent
from exporters.tables.ends import TaskEnds
from exporters.tables.entry import KEY_MASK
from exporters.tables.eta import EtaTable
from exporters.tables.expected import ExpectedTasks
from exporters.tables.expiry import Expiry
from exporters.tables.groups import GROUP_SERIES, Groups, histogram_series
from exporters.tables.held import Adoption
from exporters.tables.histogram import RUNTIME_BUCKETS, WAIT_BUCKETS
from exporters.tables.host_series import HostSeries
from exporters.tables.inflight import InFlight
from exporters.tables.roster import Labels, Roster
from exporters.tables.starts import TaskStarts, epoch_of
from exporters.tables.workers import WORKER_SERIES, Liveness


class EventState:
    """The state of one broker's tasks and workers, from their events.

    Args:
        limits: bounds of everything that grows with incoming data.
        labels: the content of the host label.
        liveness: when a worker is down and when it is forgotten.
        runtime_buckets: bounds of the run-time histogram.
        wait_buckets: bounds of the waiting-time histogram.
        per_host: whether tasks are also counted per host.

    Attributes:
        tasks: tasks that have not ended, by ID.
        eta: tasks that wait for their eta.
        expected: tasks that workers have registered.
        adoption: tasks that workers held before the exporter subscribed.
        types: number of events by type.
        undecodable: number of malformed events, and of frames that are not Celery events.
        lag: seconds from the newest event's timestamp to its decoding.
    """

    def __init__(
        self,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        labels: Labels = Labels(),  # noqa: B008 - frozen
        liveness: Liveness = Liveness(),  # noqa: B008 - frozen
        runtime_buckets: tuple[float, ...] = RUNTIME_BUCKETS,
        wait_buckets: tuple[float, ...] = WAIT_BUCKETS,
        per_host: bool = True,
    ) -> None:
        self.budget = Budget(limits.series)
        self.groups = Groups(self.budget, max_names=limits.names, unknown_queue=clean(labels.unknown_queue))
        self.roster = Roster(
            self.budget, most=limits.workers, labels=labels, liveness=liveness, per_host=per_host
        )
        epoch = time.time()
        self.tasks = InFlight(limits.in_flight, epoch)
        self.eta = EtaTable(limits.in_flight, epoch)
        series = HostSeries(self.budget, runtime_buckets=runtime_buckets, wait_buckets=wait_buckets)
        starts = TaskStarts(self.roster, self.groups, self.tasks, self.eta, series)
        self.ends = ends = TaskEnds(self.roster, self.groups, self.tasks, self.eta, series, starts.early)
        self.beat = starts.beat
        self.early = starts.early
        self.types: dict[str, int] = {}
        self.undecodable = 0
        self.lag = 0.0
        self._group_series = GROUP_SERIES + histogram_series(runtime_buckets) + histogram_series(wait_buckets)
        self.expected = ExpectedTasks(self.groups)
        self.adoption = Adoption(self.groups, self.tasks, self.eta, epoch_of)
        self._expiry = Expiry(self.tasks, self.eta)
        roster = self.roster
        self._handlers: dict[str, Callable[[Event], None]] = {
            "task-sent": starts.sent,
            "task-received": starts.received,
            "task-started": starts.started,
            "task-succeeded": ends.succeeded,
            "task-failed": ends.failed,
            "task-retried": ends.retried,
            "task-revoked": ends.revoked,
            "task-rejected": ends.rejected,
            "task-cancelled": ends.cancelled,
            "worker-online": roster.heartbeat,
            "worker-heartbeat": roster.heartbeat,
            "worker-offline": roster.offline,
        }

    def take(self, events: list[Event], received: float, epoch: float) -> None:
        """Count events that were read together.

        Args:
            events: decoded events, of any content.
            received: local monotonic time at which the frame was read.
            epoch: the same moment in epoch seconds.
        """
        self.groups.now = self.roster.now = received
        self.eta.epoch = self.roster.epoch = epoch
        self.adoption.complete()
        handlers, types, waiting = self._handlers, self.types, self.early.waiting
        for event in events:
            kind = event.type
            if waiting and self._waits(event):
                continue
            try:
                handlers[kind](event)
                types[kind] = types.get(kind, 0) + 1
            except AwaitSent:
                continue
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
                self._odd(kind)

    def _waits(self, event: Event) -> bool:
        """Whether an event waits for its task's task-sent; a task-sent releases those that waited for it."""
        early, key = self.early, hash(event.uuid) & KEY_MASK
        if event.type != "task-sent":
            return early.keeps(key, event)
        waited = early.released(key)
        if waited:
            self.take([event], self.groups.now, self.eta.epoch)
            self.take(waited, self.groups.now, self.eta.epoch)
        return bool(waited)

    def _count_overdue(self, now: float) -> None:
        early = self.early
        events = early.overdue(now)
        if events:
            early.impatient = True
            self.take(events, self.groups.now, self.eta.epoch)
            early.impatient = False

    def note_lag(self, events: list[Event], epoch: float) -> None:
        """Measure how late the newest events are, by the sender's clock; never below 0."""
        timestamp = events[-1].timestamp if events else None
        if timestamp is not None:
            self.lag = max(0.0, epoch - timestamp)

    @property
    def series(self) -> int:
        """The maximum number of lines for tasks and workers."""
        return (
            self.budget.used
            + len(self.groups) * self._group_series
            + len(self.roster.workers) * WORKER_SERIES
        )

    def connected(self) -> None:
        """Note that events arrive from now on: any task may send a task-sent event."""
        self.roster.connection.restored()
        self.early.listen()

    def purge(self, now: float) -> list[str]:
        """Forget long-silent workers and clients, and tasks that never ended; returns the workers' names."""
        epoch = self.eta.epoch + max(0.0, now - self.groups.now)
        self.tasks.relax()
        self.adoption.complete()
        self._count_overdue(now)
        self.expected.start()
        self._expiry.forget(now, epoch)
        return self.roster.purge(now)

    def _odd(self, kind: str) -> None:
        if kind and kind not in self._handlers:
            # Applications may publish their own events.
            self.types[OVERFLOW] = self.types.get(OVERFLOW, 0) + 1
        else:
            self.undecodable += 1
