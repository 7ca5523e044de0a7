"""Workers as their heartbeats show them, and what their heartbeats prove about lost events."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from exporters.exposition.families import clean, label_text
from exporters.tables.budget import Budget
from exporters.tables.groups import Group, Track

# Series that one worker has of its own.
WORKER_SERIES = 9
# A worker cannot have processed more than this; more is a broken or lying heartbeat.
MOST_PROCESSED = 2**53


@dataclass(frozen=True)
class Liveness:
    """When a worker counts as down, and when it is forgotten (0: never)."""

    timeout: float = 15.0
    purge: float = 600.0


class Host:
    """What tasks are counted under in the ``hostname`` label: a node, a machine, or all of them together."""

    __slots__ = ("_budget", "_overflow", "heard", "label", "tracks")

    def __init__(self, label: str, budget: Budget, overflow: Track) -> None:
        self.label = clean(label)
        # Local monotonic time of a client's last task; what a worker's host depends on is its worker.
        self.heard = -inf
        self.tracks: dict[Group, Track] = {}
        self._budget = budget
        self._overflow = overflow

    def track(self, group: Group) -> Track:
        """This host's counts of a group, made on first use."""
        return self.tracks.get(group) or self._create(group)

    def purge(self) -> None:
        for track in self.tracks.values():
            track.group.purge(track)
            self._budget.give_back(track.series)
        self.tracks.clear()

    def _create(self, group: Group) -> Track:
        labels = label_text(name=group.name, hostname=self.label, queue_name=group.queue)
        track = Track(group, labels)
        if not self._budget.take(track.series):
            return self._overflow
        group.tracks.append(track)
        self.tracks[group] = track
        return track


class Ledger:
    """A worker's own count of started tasks against the task-started events that arrived.

    Heartbeats carry how many tasks the worker has started (``processed``). Task events may be published a little
    after a heartbeat that already counts them, so a heartbeat is settled at the next one: by then every start with
    a timestamp up to its own has been seen. Both times are the worker's clock, so the split is exact; where that
    clock is set back, the account is closed and a new one opened.
    """

    __slots__ = (
        "_after",
        "_base",
        "_closed",
        "_counted",
        "_gap",
        "_mark",
        "_next",
        "_open",
        "_pid",
        "_processed",
        "_since",
    )

    def __init__(self) -> None:
        # Starts up to this worker time are not counted: they are in the first heartbeat's number.
        self._since = inf
        # The worker time of the newest heartbeat.
        self._mark = inf
        self._pid: Any = None
        # A process whose starts are told before its first heartbeat, and how many.
        self._next: tuple[Any, int] = (None, 0)
        self._base = 0
        self._processed = 0
        self._counted = 0
        self._after = 0
        self._gap = 0
        self._open = 0
        self._closed = 0

    @property
    def lost(self) -> int:
        """Starts that the worker reported and no event told, so far."""
        return self._closed + self._open

    def started(self, timestamp: float, pid: Any = None) -> None:
        """Count a task-started event; ``pid`` tells a restarted worker's from the old one's."""
        if pid != self._pid and None not in (pid, self._pid):
            self._next = (pid, self._next[1] + 1 if pid == self._next[0] else 1)
        elif timestamp > self._since:
            self._counted += 1
            if timestamp > self._mark:
                self._after += 1

    def heartbeat(self, pid: Any, processed: int, timestamp: float) -> None:
        """Settle the last heartbeat and remember this one."""
        if self._since == inf:
            self._reopen(processed, timestamp, 0)
        elif pid != self._pid:
            self._settle()
            # The new process counts from 0, and its events say that they are its own.
            self._reopen(0, -inf, self._next[1] if pid == self._next[0] else 0)
        elif processed < self._processed:
            # The same pid again, as in containers: starts since the last heartbeat are taken for the new process's.
            self._reopen(0, -inf, self._after)
        elif timestamp < self._mark:
            self._reopen(processed, timestamp, 0)
        else:
            self._settle()
        self._pid, self._processed, self._mark, self._after = pid, processed, timestamp, 0

    def _reopen(self, base: int, since: float, counted: int) -> None:
        self._closed += self._open
        self._base, self._since, self._counted = base, since, counted
        self._gap = self._open = 0

    def _settle(self) -> None:
        gap = (self._processed - self._base) - (self._counted - self._after)
        # A threaded pool may count a start just before its event is stamped: only a gap that stays is a loss.
        self._open = max(self._open, min(gap, self._gap))
        self._gap = gap


@dataclass
class Worker:
    """One node, by its full name."""

    node: str
    host: Host
    labels: str
    ledger: Ledger = field(default_factory=Ledger)
    # Local monotonic times of the last event of any kind, and of the last heartbeat; None until the first.
    heard: float = -inf
    seen: float | None = None
    # Epoch seconds of the last heartbeat, by our clock.
    heartbeat_at: float = 0.0
    offline: bool = False
    active: int = 0
    processed: int = 0
    load1: float = 0.0
    skew: float = 0.0
    # From the workers' answers to a remote-control request; None while unknown.
    pool_size: int | None = None
    prefetch: int | None = None
    queues: tuple[str, ...] = ()

    def heartbeat(self, event: dict[str, Any], received: float, epoch: float) -> None:
        """Take a worker-online or worker-heartbeat event in."""
        processed, active, timestamp = event["processed"], event["active"], event["timestamp"]
        if not (0 <= processed < MOST_PROCESSED and 0 <= active < MOST_PROCESSED):
            raise ValueError("a heartbeat's counts are out of range")
        self.seen, self.heartbeat_at, self.offline = received, epoch, False
        self.active, self.processed = int(active), int(processed)
        self.load1 = float((event.get("loadavg") or (0.0,))[0])
        self.skew = float(timestamp) - epoch
        self.ledger.heartbeat(event.get("pid"), self.processed, float(timestamp))

    def up(self, now: float, timeout: float) -> bool:
        """Whether it is alive; with a timeout of 0 only a farewell makes it down."""
        if self.offline or self.seen is None:
            return False
        return timeout <= 0 or now - self.seen <= timeout


def worker_labels(node: str) -> str:
    return label_text(hostname=clean(node))
