"""The event tables: every decoded event is counted here, on one thread, in constant work.

This is the hot path. Handlers are plain methods on plain dicts and lists; label text is made once per series.
"""

import re
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporters.decode import Event
from exporters.exposition.families import OVERFLOW, clean
from exporters.tables.beat_senders import BeatSenders
from exporters.tables.budget import Budget
from exporters.tables.groups import (
    FAILED,
    MOST_EXCEPTIONS,
    RECEIVED,
    REJECTED,
    RETRIED,
    REVOKED,
    SENT,
    STARTED,
    SUCCEEDED,
    Entry,
    Group,
    Groups,
    Track,
    histogram_series,
)
from exporters.tables.histogram import LONGEST, RUNTIME_BUCKETS, WAIT_BUCKETS, Histogram
from exporters.tables.inflight import InFlight
from exporters.tables.workers import WORKER_SERIES, Host, Liveness, Worker, worker_labels

# Longer ids are no uuids; Celery allows any string as a task id.
LONGEST_ID = 255
# Tasks whose end is never told are forgotten after one to two of these.
GENERATION_SECONDS = 24 * 3600.0
# Tasks whose eta has passed leave the table at this pace.
ETA_SECONDS = 60.0
# Clients have no heartbeats: one that sends rarely must not lose its series each time.
CLIENTS_STAY = 3600.0
# Tasks that ended badly stay joinable for a moment: task-rejected follows task-failed.
MOST_ENDED = 1_000
EXCEPTION = re.compile(r"<?((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)\s*[(:\[]")
REJECT = re.compile(r"reject requeue=")
UNNAMED_EXCEPTION = "UnknownException"


@dataclass(frozen=True)
class Limits:
    """The bounds of everything that grows with what comes off the wire."""

    in_flight: int = 50_000
    series: int = 50_000
    names: int = 2_000
    workers: int = 1_000


@dataclass(frozen=True)
class Labels:
    """How much the ``hostname`` label tells.

    Attributes:
        worker: ``node`` (full node name), ``host`` (its machine) or ``generic``.
        client: ``host`` or ``generic``, for task-sent.
        unknown_queue: the queue label where no event and no message told the queue.
    """

    worker: str = "node"
    client: str = "host"
    unknown_queue: str = "unknown"


class EventState:
    """All that events tell of one broker's tasks and workers."""

    def __init__(
        self,
        *,
        limits: Limits = Limits(),
        labels: Labels = Labels(),
        liveness: Liveness = Liveness(),  # noqa: B008 - frozen
        runtime_buckets: tuple[float, ...] = RUNTIME_BUCKETS,
        wait_buckets: tuple[float, ...] = WAIT_BUCKETS,
    ) -> None:
        self.labels = labels
        self.liveness = liveness
        self.budget = Budget(limits.series)
        self.groups = Groups(self.budget, most_names=limits.names, unknown_queue=clean(labels.unknown_queue))
        self.tasks = InFlight(limits.in_flight)
        self.eta: dict[str, tuple[Group, float]] = {}
        self.workers: dict[str, Worker] = {}
        self.hosts: dict[str, Host] = {}
        self.types: dict[str, int] = {}
        self.undecodable = 0
        # Seconds from the newest event's own time to its decoding.
        self.lag = 0.0
        self.beat = BeatSenders()
        # Monotonic time since which events cannot reach us; None while they can.
        self.disconnected_at: float | None = None
        # Whether workers have ever been asked what they consume.
        self.inspected = False
        self._limits = limits
        self._runtime_buckets = runtime_buckets
        self._wait_buckets = wait_buckets
        self._ended: dict[str, Entry] = {}
        self._lost_by_purged = 0
        self._aged_at: float | None = None
        self._eta_aged_at = 0.0
        self._hosts_purged_at = 0.0
        self._overflow_track = Track(self.groups.overflow, _overflow_labels())
        self.groups.overflow.tracks.append(self._overflow_track)
        self._received = 0.0
        self._epoch = 0.0
        self._handlers: dict[str, Callable[[Event], None]] = {
            "task-sent": self._sent,
            "task-received": self._received_event,
            "task-started": self._started,
            "task-succeeded": self._succeeded,
            "task-failed": self._failed,
            "task-retried": self._retried,
            "task-revoked": self._revoked,
            "task-rejected": self._rejected,
            "worker-online": self._heartbeat,
            "worker-heartbeat": self._heartbeat,
            "worker-offline": self._offline,
        }

    def take(self, events: list[Event], received: float, epoch: float) -> None:
        """Count the events of one frame.

        Args:
            events: decoded events, of any content.
            received: local monotonic time at which the frame was read.
            epoch: the same moment in epoch seconds.
        """
        self._received, self._epoch = received, epoch
        handlers, types = self._handlers, self.types
        for event in events:
            try:
                kind = event["type"]
                handlers[kind](event)
                types[kind] = types.get(kind, 0) + 1
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
                self._odd(event)

    def note_lag(self, events: list[Event], epoch: float) -> None:
        """Measure how far behind the newest events are; by the sender's clock, never below 0."""
        newest = events[-1] if events else None
        timestamp = newest.get("timestamp") if isinstance(newest, dict) else None
        if isinstance(timestamp, float | int):
            self.lag = max(0.0, epoch - timestamp)

    def _odd(self, event: Event) -> None:
        kind = event.get("type") if isinstance(event, dict) else None
        if isinstance(kind, str) and kind not in self._handlers:
            # Applications may publish events of their own.
            self.types[OVERFLOW] = self.types.get(OVERFLOW, 0) + 1
        else:
            self.undecodable += 1

    # Tasks

    def _sent(self, event: Event) -> None:
        uuid, sent_at = event["uuid"], event["timestamp"]
        if len(uuid) > LONGEST_ID:
            raise ValueError("a task id is too long")
        eta = event.get("eta")
        # None with an explicit exchange: the sender does not know the queue either.
        queue = event["queue"]
        group = self.groups.guess(event["name"]) if queue is None else self.groups.get(event["name"], queue)
        client = event["hostname"]
        host = self._client_host(client)
        due = sent_at + 0.0
        if eta is not None:
            due = max(due, _epoch_of(eta))
        self.tasks.put(uuid, Entry(group, due))
        host.track(group).counts[SENT] += 1
        if self.beat.names:
            self.beat.sent(client, group.name, sent_at)

    def _received_event(self, event: Event) -> None:
        uuid, worker = event["uuid"], self.worker(event["hostname"])
        entry = self.tasks.get(uuid)
        if entry is None:
            if len(uuid) > LONGEST_ID:
                raise ValueError("a task id is too long")
            entry = self._group_at(worker, event["name"]).waitless
            self.tasks.put(uuid, entry)
        if event.get("eta") is not None:
            self._wait_for_eta(uuid, entry.group, event["eta"])
        worker.host.track(entry.group).counts[RECEIVED] += 1

    def _started(self, event: Event) -> None:
        uuid, worker, timestamp = event["uuid"], self.worker(event["hostname"]), event["timestamp"]
        entry = self.tasks.get(uuid)
        group = entry.group if entry is not None else self.groups.unknown
        track = worker.host.track(group)
        # What may raise on an odd event comes before what counts it.
        worker.ledger.started(timestamp + 0.0, event.get("pid"))
        track.counts[STARTED] += 1
        if entry is not None and entry.due is not None:
            self._observe_wait(track, timestamp - entry.due)
            # Delivered again, it did not wait since it was sent.
            self.tasks.put(uuid, group.waitless)
        if self.eta:
            self.eta.pop(uuid, None)

    def _succeeded(self, event: Event) -> None:
        runtime, worker = event["runtime"], self.worker(event["hostname"])
        plausible = 0 <= runtime < LONGEST
        entry = self.tasks.pop(event["uuid"])
        track = worker.host.track(entry.group if entry is not None else self.groups.unknown)
        track.counts[SUCCEEDED] += 1
        histogram = track.runtime or self._new_runtime(track)
        if plausible and histogram is not None:
            histogram.counts[bisect_left(histogram.bounds, runtime)] += 1
            histogram.total += runtime

    def _failed(self, event: Event) -> None:
        track = self._ended_track(event)
        track.counts[FAILED] += 1
        self._count_exception(track, exception_class(event.get("exception")))

    def _rejected(self, event: Event) -> None:
        self._ended_track(event).counts[REJECTED] += 1

    def _revoked(self, event: Event) -> None:
        track = self._ended_track(event)
        track.counts[REVOKED] += 1
        reason = 0 if event.get("expired") else 1 if event.get("terminated") else 2
        track.group.reasons[reason] += 1

    def _retried(self, event: Event) -> None:
        # Its next attempt has the same id and may already have been sent: the entry stays.
        worker, entry = self.worker(event["hostname"]), self.tasks.get(event["uuid"])
        track = worker.host.track(entry.group if entry is not None else self.groups.unknown)
        track.counts[RETRIED] += 1

    def _ended_track(self, event: Event) -> Track:
        uuid, worker = event["uuid"], self.worker(event["hostname"])
        entry = self.tasks.pop(uuid) or self._ended.get(uuid)
        self.eta.pop(uuid, None)
        if entry is None:
            return worker.host.track(self.groups.unknown)
        if len(self._ended) >= MOST_ENDED:
            self._ended.clear()
        self._ended[uuid] = entry.group.waitless
        return worker.host.track(entry.group)

    def _group_at(self, worker: Worker, name: str) -> Group:
        # A worker that consumes one queue only has every task from there.
        if len(worker.queues) == 1:
            return self.groups.get(name, worker.queues[0])
        return self.groups.guess(name)

    def _wait_for_eta(self, uuid: str, group: Group, eta: Any) -> None:
        due = _epoch_of(eta)
        if len(self.eta) < self._limits.in_flight and due > self._epoch:
            self.eta[uuid] = (group, due)

    def _observe_wait(self, track: Track, waited: float) -> None:
        histogram = track.wait or self._new_wait(track)
        if histogram is not None and waited < LONGEST:
            # Negative when the sender's clock is ahead of the worker's.
            histogram.observe(waited if waited > 0 else 0.0)

    def _new_runtime(self, track: Track) -> Histogram | None:
        if self._take(track, histogram_series(self._runtime_buckets)):
            track.runtime = Histogram(self._runtime_buckets)
        return track.runtime

    def _new_wait(self, track: Track) -> Histogram | None:
        if self._take(track, histogram_series(self._wait_buckets)):
            track.wait = Histogram(self._wait_buckets)
        return track.wait

    def _take(self, track: Track, series: int) -> bool:
        # The overflow track always has room: it is one.
        if track is self._overflow_track:
            return True
        if not self.budget.take(series):
            return False
        track.series += series
        return True

    def _count_exception(self, track: Track, name: str) -> None:
        if name not in track.exceptions and (
            len(track.exceptions) >= MOST_EXCEPTIONS or not self._take(track, 1)
        ):
            name = OVERFLOW
        track.exceptions[name] = track.exceptions.get(name, 0) + 1

    # Workers and hosts

    def _heartbeat(self, event: Event) -> None:
        self.worker(event["hostname"]).heartbeat(event, self._received, self._epoch)

    def _offline(self, event: Event) -> None:
        worker = self.worker(event["hostname"])
        worker.offline, worker.active = True, 0
        if worker.seen is None:
            worker.seen = self._received

    def worker(self, node: str) -> Worker:
        """The worker of this name, made on first sight."""
        worker = self.workers.get(node) or self._new_worker(node)
        worker.heard = self._received
        return worker

    def _new_worker(self, node: str) -> Worker:
        if type(node) is not str:
            raise TypeError("a node name is no text")
        name = clean(node)
        if name in self.workers:
            return self.workers[name]
        if len(self.workers) >= self._limits.workers or not self.budget.take(WORKER_SERIES, vital=True):
            return Worker(name, self._host(OVERFLOW), "")
        worker = Worker(name, self._host(self._worker_label(name)), worker_labels(name))
        self.workers[name] = worker
        return worker

    def _worker_label(self, node: str) -> str:
        if self.labels.worker == "generic":
            return "generic"
        return host_of(node) if self.labels.worker == "host" else node

    def _client_host(self, client: str) -> Host:
        # gen1234@host: the process id must never become a series.
        label = "generic" if self.labels.client == "generic" else host_of(client)
        host = self.hosts.get(label) or self._host(label)
        host.heard = self._received
        return host

    def _host(self, label: str) -> Host:
        if label not in self.hosts and len(self.hosts) >= 2 * self._limits.workers:
            label = OVERFLOW
        return self.hosts.setdefault(label, Host(label, self.budget, self._overflow_track))

    # Housekeeping

    @property
    def lost(self) -> int:
        """Starts that workers reported and no event told."""
        return self._lost_by_purged + sum(worker.ledger.lost for worker in list(self.workers.values()))

    def purge(self, now: float) -> list[str]:
        """Forget workers and clients that were silent for long, and tasks that never ended; those workers' names."""
        self._age_tasks(now)
        limit = self.liveness.purge
        if limit <= 0:
            return []
        gone = [worker for worker in list(self.workers.values()) if now - worker.heard > limit]
        for worker in gone:
            self._forget(worker)
        if gone or now - self._hosts_purged_at > limit:
            self._hosts_purged_at = now
            self._purge_hosts(now - max(limit, CLIENTS_STAY))
        return [worker.node for worker in gone]

    def _age_tasks(self, now: float) -> None:
        if now - self._eta_aged_at > ETA_SECONDS:
            self._eta_aged_at = now
            # Tasks whose start was never told.
            self.eta = {known: entry for known, entry in self.eta.items() if entry[1] > self._epoch}
        if self._aged_at is None:
            self._aged_at = now
        elif now - self._aged_at > GENERATION_SECONDS:
            self._aged_at = now
            self.tasks.age()

    def _forget(self, worker: Worker) -> None:
        del self.workers[worker.node]
        self._lost_by_purged += worker.ledger.lost
        self.budget.give_back(WORKER_SERIES)

    def _purge_hosts(self, since: float) -> None:
        kept = {worker.host.label for worker in self.workers.values()} | {"generic", OVERFLOW}
        for label, host in list(self.hosts.items()):
            if host.label not in kept and host.heard < since:
                host.purge()
                del self.hosts[label]

    def observed_at(self) -> float:
        """The moment to judge workers by: now, or when we stopped hearing them."""
        return self.disconnected_at or time.monotonic()

    def disconnected(self) -> None:
        """Events cannot reach us from here on."""
        if self.disconnected_at is None:
            self.disconnected_at = time.monotonic()

    def connected(self) -> None:
        """Events reach us again: every live worker's silence starts now."""
        self.disconnected_at, now = None, time.monotonic()
        for worker in list(self.workers.values()):
            worker.heard = max(worker.heard, now)
            if worker.seen is not None and not worker.offline:
                worker.seen = max(worker.seen, now)
        for host in list(self.hosts.values()):
            host.heard = max(host.heard, now)


def host_of(node: str) -> str:
    """The machine in a node or client name."""
    return node.partition("@")[2] or node


def exception_class(text: Any) -> str:
    """The class in an exception's repr."""
    match = EXCEPTION.match(text) if isinstance(text, str) else None
    if match:
        return clean(match[2])
    return "Reject" if isinstance(text, str) and REJECT.match(text) else UNNAMED_EXCEPTION


def _overflow_labels() -> str:
    return f'name="{OVERFLOW}",hostname="{OVERFLOW}",queue_name="{OVERFLOW}"'


def _epoch_of(eta: str) -> float:
    moment = datetime.fromisoformat(eta)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
