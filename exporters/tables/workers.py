"""Workers, from their heartbeats, and the lost events that heartbeats reveal."""

from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from exporters.decode import Event
from exporters.exposition.families import OVERFLOW, clean, label_text
from exporters.tables.budget import Budget
from exporters.tables.groups import TRACK_SERIES, Group, Track

# Number of series of one worker.
WORKER_SERIES = 10
# No worker can have started more tasks than this; a larger number means a broken or forged heartbeat.
MAX_PROCESSED = 2**53
# Seconds; no worker sends heartbeats less often than once a day.
MAX_FREQ = 86_400.0
# A worker is down after missing this number of heartbeats, or after the timeout if that is longer.
MISSED_HEARTBEATS = 3
# Heartbeats in a row with starts that no event announced, after which a worker counts as one without events.
SILENT_HEARTBEATS = 2
# A heartbeat is early if it follows the one before it within this share of the interval.
EARLY_SHARE = 0.6
# Several workers share a name if at least this number of the newest 16 heartbeats were early, and at least this number
# had another process's count. A restart causes one of each.
SHARED_EARLY = 4
SHARED_JUMPS = 3
RECENT_MASK = (1 << 16) - 1
# The newest 4 heartbeats.
DOUBTFUL_MASK = (1 << 4) - 1


@dataclass(frozen=True)
class Liveness:
    """When a worker counts as down, and when it is forgotten. Seconds.

    Attributes:
        timeout: minimum time without a heartbeat until it is down; 0: it never counts as down.
        purge: silence until a worker is forgotten; 0: never.
        reply_timeout: time without an inspect reply until it is down, for workers without heartbeats.
    """

    timeout: float = 15.0
    purge: float = 600.0
    reply_timeout: float = 75.0


class HostTracks(Protocol):
    """Where the tasks of a host are counted."""

    label: str

    def track(self, group: Group) -> Track:
        """The counts of a group."""


class SharedHost:
    """All hosts together: without metrics per host, tasks are counted only in their group."""

    __slots__ = ("label",)

    def __init__(self) -> None:
        self.label = OVERFLOW

    def track(self, group: Group) -> Track:
        """The counts of a group."""
        return group.rest


class Host:
    """One value of the ``hostname`` label of tasks: a node, a machine, or all of them together."""

    __slots__ = ("_budget", "heard", "label", "tracks")

    def __init__(self, label: str, budget: Budget) -> None:
        self.label = clean(label)
        # Local monotonic time of the last task that a client sent. Hosts of workers do not use it: they are removed with the worker.
        self.heard = -inf
        self.tracks: dict[Group, Track] = {}
        self._budget = budget

    def track(self, group: Group) -> Track:
        """This host's counts of a group, created on first use; the group's own counts if there is no room for series."""
        return self.tracks.get(group) or self._create(group)

    def purge(self) -> None:
        """Release the series; the counts stay in the groups' sums."""
        for track in self.tracks.values():
            track.group.purge(track)
            self._budget.give_back(track.series)
        self.tracks.clear()

    def _create(self, group: Group) -> Track:
        if group.is_evicted or not self._budget.take(TRACK_SERIES):
            return group.rest
        labels = label_text(name=group.name, hostname=self.label, queue_name=group.queue)
        track = Track(group, labels, self.tracks)
        group.tracks.append(track)
        self.tracks[group] = track
        return track


class Ledger:
    """Compares a worker's own count of started tasks with the task-started events that arrived.

    Heartbeats carry the number of tasks that the worker has started (``processed``). Task events may be published
    shortly after a heartbeat that already counts them, so a heartbeat is settled at the next one: by then every start
    with a timestamp up to its own has been seen. Both times are by the worker's clock, so the split is exact. If
    that clock is set back, the losses counted so far are kept, and counting starts again.
    """

    __slots__ = (
        "_after",
        "_announced",
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
        # Starts up to this worker time are not counted, because the first heartbeat includes them.
        self._since = inf
        # The worker time of the newest heartbeat.
        self._mark = inf
        self._pid: Any = None
        # A process whose starts arrive before its first heartbeat, and their number.
        self._next: tuple[Any, int] = (None, 0)
        self._base = 0
        self._processed = 0
        self._counted = 0
        self._after = 0
        self._gap = 0
        self._open = 0
        self._closed = 0
        # Starts that events announced since the last heartbeat.
        self._announced = 0

    @property
    def lost(self) -> int:
        """Starts that the worker reported and that no event announced, so far."""
        return self._closed + self._open

    def is_other_process(self, pid: Any) -> bool:
        """Whether a pid differs from that of the last heartbeat."""
        return self._since != inf and pid != self._pid

    @property
    def is_silent(self) -> bool:
        """Whether no start was announced since the last heartbeat."""
        return not self._announced

    def started(self, timestamp: float, pid: Any = None) -> None:
        """Count a task-started event; ``pid`` separates a restarted worker's starts from the old one's."""
        self._announced += 1
        if pid != self._pid and None not in (pid, self._pid):
            self._next = (pid, self._next[1] + 1 if pid == self._next[0] else 1)
        elif timestamp > self._since:
            self._counted += 1
            if timestamp > self._mark:
                self._after += 1

    def heartbeat(self, pid: Any, processed: int, timestamp: float, *, settle: bool = True) -> None:
        """Settle the last heartbeat and remember this one.

        Args:
            pid: the pid of the worker's main process.
            processed: number of tasks that it has started so far.
            timestamp: epoch seconds by the worker's clock.
            settle: False while several workers share the name; then nothing counts as lost.
        """
        self._announced = 0
        if not settle:
            self._reopen(processed, timestamp, 0, booked=False)
            self._pid, self._processed, self._mark, self._after = pid, processed, timestamp, 0
            return
        if self._since == inf:
            self._reopen(processed, timestamp, 0)
        elif pid != self._pid:
            self._settle()
            # The new process counts from 0, and its events contain its pid.
            self._reopen(0, -inf, self._next[1] if pid == self._next[0] else 0)
        elif processed < self._processed:
            # The same pid again, as in containers: starts since the last heartbeat count as the new process's.
            self._reopen(0, -inf, self._after)
        elif timestamp < self._mark:
            self._reopen(processed, timestamp, 0)
        else:
            self._settle()
        self._pid, self._processed, self._mark, self._after = pid, processed, timestamp, 0

    def _reopen(self, base: int, since: float, counted: int, *, booked: bool = True) -> None:
        self._closed += self._open if booked else 0
        self._base, self._since, self._counted = base, since, counted
        self._gap = self._open = 0

    def _settle(self) -> None:
        gap = (self._processed - self._base) - (self._counted - self._after)
        # A threaded pool may count a start just before its event gets its timestamp, so only a lasting gap is a loss.
        self._open = max(self._open, min(gap, self._gap))
        self._gap = gap


class Cadence:
    """Whether the heartbeats under one node name can come from a single worker.

    Containers with one node name and equal process IDs cannot be distinguished by name or pid. Their heartbeats arrive
    more often than a single worker sends them, and their counts jump back and forth.
    """

    __slots__ = ("_early", "_jumps", "_last")

    def __init__(self) -> None:
        self._last = -inf
        # One bit per heartbeat, the newest lowest: whether it came early, and whether its count or pid is another process's.
        self._early = 0
        self._jumps = 0

    @property
    def is_shared(self) -> bool:
        """Whether several workers use the name."""
        return self._early.bit_count() >= SHARED_EARLY and self._jumps.bit_count() >= SHARED_JUMPS

    @property
    def is_doubtful(self) -> bool:
        """Whether one of the newest heartbeats came early, so that their counts are inconclusive."""
        return bool(self._early & DOUBTFUL_MASK)

    def heartbeat(self, timestamp: float, freq: float, *, jumped: bool) -> None:
        """Note a heartbeat.

        Args:
            timestamp: epoch seconds by the worker's clock.
            freq: seconds between two of its heartbeats.
            jumped: whether its count is lower than the last one, or its pid differs.
        """
        early = 0 <= timestamp - self._last < EARLY_SHARE * freq
        self._last = timestamp
        self._early = (self._early << 1 | early) & RECENT_MASK
        self._jumps = (self._jumps << 1 | jumped) & RECENT_MASK


@dataclass
class Worker:
    """One node, by its full name. Times are local and monotonic unless stated otherwise."""

    node: str
    host: HostTracks
    labels: str
    ledger: Ledger = field(default_factory=Ledger)
    cadence: Cadence = field(default_factory=Cadence)
    # The last event of any kind, the last heartbeat, the last answer to an inspect request; None until the first.
    heard: float = -inf
    seen: float | None = None
    replied: float | None = None
    # The time of the last heartbeat in epoch seconds, by our clock.
    heartbeat_at: float = 0.0
    # Seconds between two heartbeats, as the worker reports.
    freq: float = 0.0
    # It has announced its shutdown, and may still be finishing tasks.
    offline: bool = False
    active: int | None = None
    processed: int | None = None
    load1: float | None = None
    skew: float | None = None
    # Heartbeats in a row that counted more starts although no event announced one.
    unannounced: int = 0
    # From the worker's replies to inspect requests; None while not known.
    pool_size: int | None = None
    prefetch: int | None = None
    queues: tuple[str, ...] = ()
    queues_known: bool = False

    def heartbeat(self, event: Event, received: float, epoch: float) -> None:
        """Handle a worker-online or worker-heartbeat event.

        Args:
            event: the event.
            received: local monotonic time at which it arrived.
            epoch: the same moment in epoch seconds.
        """
        processed, active, timestamp = event.processed, event.active, event.timestamp
        if not (0 <= (processed or 0) < MAX_PROCESSED and 0 <= (active or 0) < MAX_PROCESSED):
            raise ValueError("a heartbeat's counts are out of range")
        load = event.loadavg
        if isinstance(load, list) and load:
            self.load1 = float(load[0])
        self.seen, self.heartbeat_at, self.offline = received, epoch, False
        self.active = active
        if event.freq is not None and 0 < event.freq < MAX_FREQ:
            self.freq = event.freq
        if timestamp is not None:
            self.skew = timestamp - epoch
            if processed is not None:
                self._account(event.type, event.pid, processed, timestamp)
        self.processed = processed

    def _account(self, kind: str, pid: int | None, processed: int, timestamp: float) -> None:
        before = self.processed
        if kind == "worker-heartbeat":
            jumped = (before is not None and processed < before) or self.ledger.is_other_process(pid)
            self.cadence.heartbeat(timestamp, self.freq, jumped=jumped)
        if before is not None and processed > before:
            self.unannounced = self.unannounced + 1 if self.ledger.is_silent else 0
        self.ledger.heartbeat(pid, processed, timestamp, settle=not self.cadence.is_doubtful)

    def announce_shutdown(self, active: int | None, received: float) -> None:
        """Handle a worker-offline event; the worker finishes ``active`` tasks, without further heartbeats."""
        self.offline, self.active = True, active or 0
        if self.seen is None:
            self.seen = received

    def ended_one(self) -> None:
        """Note that a task ended while the worker was shutting down."""
        self.active = max(0, (self.active or 0) - 1)

    @property
    def sends_no_events(self) -> bool:
        """Whether it starts tasks without sending events, as two consecutive heartbeats have shown."""
        return self.unannounced >= SILENT_HEARTBEATS

    @property
    def is_known(self) -> bool:
        """Whether a heartbeat or a reply was ever received from it, not only task events."""
        return self.seen is not None or self.replied is not None

    @property
    def is_gone(self) -> bool:
        """Whether it has shut down cleanly: it announced that, and has no task left."""
        return self.offline and not self.active

    def up(self, now: float, liveness: Liveness) -> bool:
        """Whether it is alive. A worker that is finishing its tasks before it stops is alive."""
        if self.offline:
            return not self.is_gone
        if self.seen is None:
            # It sends no heartbeats, so its replies are the only sign of life.
            return self.replied is not None and now - self.replied <= liveness.reply_timeout
        timeout = liveness.timeout
        return timeout <= 0 or now - self.seen <= max(timeout, MISSED_HEARTBEATS * self.freq)


def worker_labels(node: str) -> str:
    """The label text of a worker's own series."""
    return label_text(hostname=node)
