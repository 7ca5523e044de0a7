"""Counts task events: which task an event belongs to, in which state it is now, how long it waited and ran.

This is the hot path. Handlers are plain methods on plain dicts and lists; label text is made once per series.
"""

import re
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any

from exporters.decode import Event
from exporters.exposition.families import OVERFLOW, clean
from exporters.tables.beat_senders import BeatSenders
from exporters.tables.budget import Budget, Limits
from exporters.tables.early import EarlyEvents
from exporters.tables.groups import (
    FAILED,
    MOST_EXCEPTIONS,
    RECEIVED,
    REJECTED,
    REQUEUED,
    RETRIED,
    REVOKED,
    SENT,
    STARTED,
    SUCCEEDED,
    Group,
    Groups,
    Track,
    histogram_series,
)
from exporters.tables.histogram import LONGEST, Histogram
from exporters.tables.inflight import (
    BETWEEN,
    DUE_SHIFT,
    GROUP_MASK,
    KEY_MASK,
    MOST_TICKS,
    RUNNING,
    TICKS,
    InFlight,
)
from exporters.tables.roster import Roster
from exporters.tables.workers import Worker

# Celery allows any string as a task ID; a longer one is refused.
LONGEST_ID = 255
EXCEPTION = re.compile(r"<?((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)\s*[(:\[]")
# The last line of a traceback; a class without a message ends the line.
RAISED = re.compile(r"((?:[A-Za-z_]\w*\.)*)([A-Za-z_]\w*)\s*(?:[(:\[]|$)")
REJECT = re.compile(r"reject requeue=")
UNNAMED_EXCEPTION = "UnknownException"
# Classes that only carry the exception that is meant.
WRAPPERS = frozenset({"ExceptionWithTraceback", "ExceptionInfo", "RemoteTraceback"})
# The exchanges of RabbitMQ's native delayed delivery: celery_delayed_0 to celery_delayed_27. A routing key there is
# one binary digit per level, and the queue.
DELAYED = re.compile(r"celery_delayed_\d+$")
DELAY_KEY = re.compile(r"(?:[01]\.)+")


class TaskCounting:
    """The counts of one broker's tasks.

    Args:
        roster: the workers and hosts that tasks run on.
        groups: the pairs of task and queue.
        budget: of series per host.
        limits: of the join by ID.
        buckets: bounds of the run-time and the waiting-time histogram.
        epoch: the present, in epoch seconds.
    """

    def __init__(
        self,
        roster: Roster,
        groups: Groups,
        budget: Budget,
        *,
        limits: Limits,
        buckets: tuple[tuple[float, ...], tuple[float, ...]],
        epoch: float,
    ) -> None:
        self.groups = groups
        self.tasks = InFlight(limits.in_flight, epoch)
        # Tasks that wait for their eta: ID → (group, epoch seconds).
        self.eta: dict[str, tuple[Group, float]] = {}
        self.beat = BeatSenders()
        # Ends that were reported a second time, and not counted again.
        self.repeated = 0
        self.early = EarlyEvents()
        self.epoch = epoch
        self._most_etas = limits.in_flight
        self._roster = roster
        self._budget = budget
        self._runtime_buckets, self._wait_buckets = buckets
        self._at = groups.by_index
        self._overflow = groups.overflow

    # Life of a task, in the usual order

    def sent(self, event: Event) -> None:
        """Count task-sent, and remember the task under its ID."""
        uuid, name = event.uuid, event.name
        if not uuid or len(uuid) > LONGEST_ID or name is None:
            raise ValueError("a task-sent event needs an ID and a name")
        self.early.sent(name)
        queue, delayed = event.queue, False
        if queue is None:
            queue = delayed_queue(event)
            delayed = queue is not None
        # An explicit exchange: the sender does not know the queue either.
        group = self.groups.get(name, queue) if queue is not None else self.groups.guess(name)
        group.used = self.groups.now
        due = event.timestamp or 0.0
        if event.eta is not None:
            eta = _epoch_of(event.eta)
            due = max(due, eta)
            if delayed:
                self._wait_for_eta(uuid, group, eta)
        tasks, key = self.tasks, hash(uuid) & KEY_MASK
        held = tasks.held.get(key)
        if held is None and key < tasks.threshold and len(tasks.waiting) < tasks.limit:
            ticks = int((due - tasks.origin) * TICKS)
            tasks.waiting[key] = ticks << DUE_SHIFT | group.index if 0 < ticks < MOST_TICKS else group.index
        else:
            self._remember_sent(key, group, due, event, held)
        self._roster.client_host(event.hostname).track(group).counts[SENT] += 1
        if self.beat.names:
            self.beat.sent(event.hostname, name, event.timestamp or 0.0)

    def _remember_sent(self, key: int, group: Group, due: float, event: Event, held: int | None) -> None:
        tasks = self.tasks
        if (
            held is not None
            and not event.retries
            and self._at.get(held & GROUP_MASK, self._overflow).name == group.name
        ):
            # The worker was faster than the sender: the task was received before.
            tasks.held[key] = held & RUNNING | (
                group.index if held & RUNNING else tasks.pack(group.index, due)
            )
        elif key < tasks.threshold:
            tasks.waiting[key] = tasks.pack(group.index, due)
            if len(tasks.waiting) > tasks.limit:
                tasks.thin({index: known.newest_start for index, known in self._at.items()})
        else:
            tasks.evicted += 1

    def received(self, event: Event) -> None:
        """Count task-received: a worker holds the task from here on."""
        uuid, name, worker = event.uuid, event.name, self._roster.worker(event.hostname)
        if not uuid or len(uuid) > LONGEST_ID:
            raise ValueError("a task-received event needs an ID")
        tasks, key = self.tasks, hash(uuid) & KEY_MASK
        entry, before = (
            tasks.waiting.pop(key, 0),
            tasks.held.get(key) or (tasks.find(key) if tasks.old else 0),
        )
        group = self._at.get((entry or before) & GROUP_MASK)
        if name is not None and (group is None or group.name != name):
            if not entry and len(worker.queues) != 1 and self.groups.guess(name).queue_name is None:
                self.early.await_sent(key, event, self.groups.now)
            # Not sent before our eyes, another task under this ID, or a name that had made room.
            if entry and group is not None:
                # It belongs to the task that replaces this one, whose task-sent came first.
                tasks.waiting[key] = entry
            group, entry = self._group_at(worker, name), 0
        elif group is None:
            group = self.groups.unknown
        if before:
            known = self._at.get(before & GROUP_MASK, self._overflow)
            tasks.received_again(key, before, same_task=known.name == group.name)
        group.used = self.groups.now
        tasks.hold(key, entry | group.index)
        if event.eta is not None:
            self._wait_for_eta(uuid, group, _epoch_of(event.eta))
        worker.host.track(group).counts[RECEIVED] += 1

    def started(self, event: Event) -> None:
        """Count task-started, and how long the task waited."""
        worker, timestamp, tasks = self._roster.worker(event.hostname), event.timestamp, self.tasks
        key = hash(event.uuid) & KEY_MASK if event.uuid else _refuse()
        entry = tasks.held.get(key) or tasks.find(key) or tasks.waiting.pop(key, 0)
        if tasks.replaced and key in tasks.replaced:
            group = self._at.get(tasks.started_replaced(key), self._overflow)
            entry = 0
        elif entry:
            group = self._at.get(entry & GROUP_MASK, self._overflow)
            if (tasks.lives or entry & RUNNING) and tasks.started_again(key, entry):
                group.duplicates += 1
            if len(tasks.held) > tasks.limit:
                tasks.age()
            tasks.held[key] = entry & GROUP_MASK | RUNNING
        else:
            index = tasks.end_of(key)
            group = self._at.get(index, self._overflow) if index is not None else self.groups.unknown
        if timestamp is not None:
            worker.ledger.started(timestamp, event.pid)
        track = worker.host.track(group)
        track.counts[STARTED] += 1
        due = entry >> DUE_SHIFT
        if due and timestamp is not None:
            group.newest_start = due
            self._observe_wait(track, timestamp - tasks.origin - due / TICKS)
        if self.eta:
            self.eta.pop(event.uuid, None)

    def succeeded(self, event: Event) -> None:
        """Count task-succeeded, and how long the task ran."""
        worker, tasks, runtime = self._roster.worker(event.hostname), self.tasks, event.runtime
        key = hash(event.uuid) & KEY_MASK if event.uuid else _refuse()
        entry = tasks.held.pop(key, 0) if not tasks.lives and not tasks.old else 0
        entry = entry or self._take_out(key)
        group = self._at.get(entry & GROUP_MASK, self._overflow) if entry else self._ended_group(key)
        if worker.offline:
            worker.ended_one()
        track = worker.host.track(group)
        track.counts[SUCCEEDED] += 1
        if runtime is not None and 0 <= runtime < LONGEST:
            histogram = track.runtime or self._new_runtime(track)
            histogram.counts[bisect_left(histogram.bounds, runtime)] += 1
            histogram.total += runtime

    # Other ends

    def failed(self, event: Event) -> None:
        """Count task-failed under its exception class; Celery may report one failure twice."""
        track = self._end(event)
        if track is not None:
            track.counts[FAILED] += 1
            self._count_exception(track, exception_class(event.exception, event.traceback))

    def revoked(self, event: Event) -> None:
        """Count task-revoked and its reason."""
        track = self._end(event)
        if track is not None:
            track.counts[REVOKED] += 1
            track.group.reasons[0 if event.expired else 1 if event.terminated else 2] += 1

    def rejected(self, event: Event) -> None:
        """Count task-rejected. It follows task-failed when a task rejects its message."""
        worker, key = self._roster.worker(event.hostname), _key(event)
        group = self._leave(key)
        if group is None:
            group = self._ended_group(key)
        elif worker.offline:
            worker.ended_one()
        worker.host.track(group).counts[REQUEUED if event.requeue else REJECTED] += 1

    def retried(self, event: Event) -> None:
        """Count task-retried. The next attempt has the same ID and may already have been received."""
        worker, key = self._roster.worker(event.hostname), _key(event)
        group = self._between(key)
        if worker.offline:
            worker.ended_one()
        worker.host.track(group or self._ended_group(key)).counts[RETRIED] += 1

    def cancelled(self, event: Event) -> None:
        """Note task-cancelled: a worker gave up the task when it shut down, and its message is delivered again."""
        worker = self._roster.worker(event.hostname)
        self._between(_key(event))
        if worker.offline:
            worker.ended_one()

    def _between(self, key: int) -> Group | None:
        """End one execution of an ID that will be received again, or was already."""
        tasks = self.tasks
        if key in tasks.lives:
            entry = tasks.ended_one(key)
        else:
            entry = tasks.find(key) or tasks.waiting.get(key, 0)
            if entry:
                tasks.hold(key, entry & GROUP_MASK | BETWEEN)
        return self._at.get(entry & GROUP_MASK, self._overflow) if entry else None

    def _end(self, event: Event) -> Track | None:
        """The track of a task that ends with this event; None when its end was counted before."""
        worker, key = self._roster.worker(event.hostname), _key(event)
        self.eta.pop(event.uuid, None)
        group = self._leave(key)
        if group is None:
            if self.tasks.end_of(key) is not None:
                self.repeated += 1
                return None
            group = self.groups.unknown
        self.tasks.remember_end(key, group.index)
        if worker.offline:
            worker.ended_one()
        return worker.host.track(group)

    def _leave(self, key: int) -> Group | None:
        """The group of a task, of which one execution leaves the join table; None when the ID is not in it."""
        tasks = self.tasks
        entry = self._take_out(key)
        if not entry:
            return None
        tasks.remember_end(key, entry)
        return self._at.get(entry & GROUP_MASK, self._overflow)

    def _take_out(self, key: int) -> int:
        tasks = self.tasks
        if key in tasks.lives:
            return tasks.ended_one(key)
        return tasks.drop(key) or tasks.waiting.pop(key, 0)

    def _ended_group(self, key: int) -> Group:
        index = self.tasks.end_of(key)
        return self.groups.unknown if index is None else self._at.get(index, self._overflow)

    # Queues and waiting times

    def _group_at(self, worker: Worker, name: str) -> Group:
        # A worker that consumes a single queue has every task from it.
        if len(worker.queues) == 1:
            return self.groups.get(name, worker.queues[0])
        return self.groups.guess(name)

    def _wait_for_eta(self, uuid: str, group: Group, due: float) -> None:
        if due <= self.epoch:
            self.eta.pop(uuid, None)
        elif len(self.eta) < self._most_etas:
            self.eta[uuid] = (group, due)

    def _observe_wait(self, track: Track, waited: float) -> None:
        if waited < LONGEST:
            # Negative when the sender's clock is ahead of the worker's.
            (track.wait or self._new_wait(track)).observe(waited if waited > 0 else 0.0)

    # Series per host

    def _new_runtime(self, track: Track) -> Histogram:
        if not self._fits(track, histogram_series(self._runtime_buckets)):
            # The host's share is not shown; the sum without a host misses nothing.
            track = track.group.rest
        track.runtime = track.runtime or Histogram(self._runtime_buckets)
        return track.runtime

    def _new_wait(self, track: Track) -> Histogram:
        if not self._fits(track, histogram_series(self._wait_buckets)):
            track = track.group.rest
        track.wait = track.wait or Histogram(self._wait_buckets)
        return track.wait

    def _fits(self, track: Track, series: int) -> bool:
        if track is track.group.rest:
            return True
        if not self._budget.take(series):
            return False
        track.series += series
        return True

    def _count_exception(self, track: Track, name: str) -> None:
        if name not in track.exceptions:
            if len(track.exceptions) >= MOST_EXCEPTIONS:
                self._budget.turn_away("exceptions")
                name = OVERFLOW
            elif not self._fits(track, 1):
                track = track.group.rest
        track.exceptions[name] = track.exceptions.get(name, 0) + 1


def _key(event: Event) -> int:
    return hash(event.uuid) & KEY_MASK if event.uuid else _refuse()


def _refuse() -> int:
    raise ValueError("a task event needs an ID")


def exception_class(text: Any, traceback: Any = None) -> str:
    """The class in an exception's repr; from the traceback's last line where the repr names a wrapper only."""
    match = EXCEPTION.match(text) if isinstance(text, str) else None
    if match and match[2] not in WRAPPERS:
        return clean(match[2])
    if isinstance(text, str) and REJECT.match(text):
        return "Reject"
    raised = RAISED.match(last_line(traceback)) if isinstance(traceback, str) else None
    if raised and raised[2] not in WRAPPERS:
        return clean(raised[2])
    return clean(match[2]) if match else UNNAMED_EXCEPTION


def last_line(traceback: str) -> str:
    """The line of a traceback that names the exception: the last one that is not indented and not empty."""
    lines = [
        line for line in traceback[-4096:].splitlines() if line.strip("\"' ") and not line.startswith(" ")
    ]
    return lines[-1] if lines else ""


def delayed_queue(event: Event) -> str | None:
    """The queue of a task that was sent through RabbitMQ's native delayed delivery; None for any other task."""
    if event.exchange is None or event.routing_key is None or not DELAYED.match(event.exchange):
        return None
    return DELAY_KEY.sub("", event.routing_key, count=1) or None


def _epoch_of(eta: str) -> float:
    moment = datetime.fromisoformat(eta)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
