"""Counts the events of a task until it starts: sent, received and started.

This is part of the hot path, like ``ends``. Handlers are plain methods on plain dicts and lists; label text is built
once per series.
"""

import re
from datetime import UTC, datetime

from exporters.decode import Event
from exporters.tables.base import TaskEvents
from exporters.tables.beat_senders import BeatSenders
from exporters.tables.early import EarlyEvents
from exporters.tables.entry import (
    DUE_SHIFT,
    GROUP_MASK,
    KEY_MASK,
    MAX_TICKS,
    RUNNING,
    TICKS,
    refuse_anonymous,
)
from exporters.tables.eta import EtaTable
from exporters.tables.groups import RECEIVED, SENT, STARTED, Group, Groups
from exporters.tables.held import LONGEST_ID
from exporters.tables.host_series import HostSeries
from exporters.tables.inflight import InFlight
from exporters.tables.roster import Roster
from exporters.tables.workers import Worker

# The exchanges of RabbitMQ's native delayed delivery: celery_delayed_0 to celery_delayed_27. A routing key there is
# one binary digit per level, and the queue.
DELAYED = re.compile(r"celery_delayed_\d+$")
DELAY_KEY = re.compile(r"(?:[01]\.)+")


class TaskStarts(TaskEvents):
    """Starts of tasks: which task an event belongs to, and how long it waited.

    Attributes:
        beat: when beat and other clients last sent each task.
        early: events that wait for the task-sent event of their task.
    """

    def __init__(
        self, roster: Roster, groups: Groups, tasks: InFlight, eta: EtaTable, series: HostSeries
    ) -> None:
        self.beat = BeatSenders()
        self.early = EarlyEvents()
        super().__init__(roster, groups, tasks, eta, series)

    def sent(self, event: Event) -> None:
        """Count task-sent, and remember the task under its ID."""
        uuid, name = event.uuid, event.name
        if not uuid or len(uuid) > LONGEST_ID or name is None:
            raise ValueError("a task-sent event needs an ID and a name")
        early = self.early
        if not early.expects_all:
            early.sent(name)
        queue, delayed = event.queue, False
        if queue is None:
            queue = delayed_queue(event)
            delayed = queue is not None
        # With an explicit exchange, the sender does not know the queue either.
        group = self._groups.get(name, queue) if queue is not None else self._groups.guess(name)
        group.used = self._groups.now
        due = event.timestamp or 0.0
        if event.eta is not None:
            eta = epoch_of(event.eta)
            due = max(due, eta)
            if delayed:
                self._eta.wait(uuid, group, eta)
        tasks, key = self._tasks, hash(uuid) & KEY_MASK
        held = tasks.held.get(key)
        waiting = tasks.waiting
        if held is None and key < tasks.threshold and len(waiting.newest) < waiting.room:
            ticks = int((due - tasks.origin) * TICKS)
            waiting.newest[key] = ticks << DUE_SHIFT | group.index if 0 < ticks < MAX_TICKS else group.index
        else:
            self._remember_sent(key, group, due, event, held)
        self._roster.client_host(event.hostname).track(group).counts[SENT] += 1
        if self.beat.names:
            self.beat.sent(event.hostname, name, event.timestamp or 0.0)

    def _remember_sent(self, key: int, group: Group, due: float, event: Event, held: int | None) -> None:
        tasks = self._tasks
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
            tasks.wait(key, tasks.pack(group.index, due), self._newest_starts)
        else:
            tasks.evicted += 1

    def _newest_starts(self) -> dict[int, int]:
        return {index: known.newest_start for index, known in self._at.items()}

    def received(self, event: Event) -> None:
        """Count task-received: from now on a worker holds the task."""
        uuid, name = event.uuid, event.name
        worker = self._workers.get(event.hostname) or self._roster.worker(event.hostname)
        worker.heard = self._groups.now
        if not uuid or len(uuid) > LONGEST_ID:
            raise ValueError("a task-received event needs an ID")
        tasks, key = self._tasks, hash(uuid) & KEY_MASK
        entry, before = (
            tasks.waiting.pop(key),
            tasks.held.get(key) or (tasks.find(key) if tasks.old else 0),
        )
        group = self._at.get((entry or before) & GROUP_MASK)
        if name is not None and (group is None or group.name != name):
            if not entry and len(worker.queues) != 1 and self._groups.guess(name).queue_name is None:
                self.early.await_sent(key, event, self._groups.now)
            # It was sent before the subscription, another task has this ID, or its pair was evicted.
            if entry and group is not None:
                # It belongs to the task that replaces this one, whose task-sent came first.
                tasks.wait(key, entry, self._newest_starts)
            group, entry = self._group_at(worker, name), 0
        elif group is None:
            group = self._groups.unknown
        if before:
            self._received_again(key, event, entry, before, group)
        group.used = self._groups.now
        tasks.hold(key, entry | group.index)
        if event.eta is not None:
            self._eta.wait(uuid, group, epoch_of(event.eta))
        worker.host.track(group).counts[RECEIVED] += 1

    def _received_again(self, key: int, event: Event, entry: int, before: int, group: Group) -> None:
        same_task = self._at.get(before & GROUP_MASK, self._overflow).name == group.name
        # The next attempt of a retry is a new message, so it has its own task-sent event. The event task-retried
        # may come later, even after the start of that attempt.
        is_retry = same_task and event.retries and (entry or not self.early.expects_all)
        if not is_retry:
            self._tasks.executions.received_again(key, before, same_task=same_task)

    def started(self, event: Event) -> None:
        """Count task-started, and how long the task waited."""
        timestamp, tasks = event.timestamp, self._tasks
        worker = self._workers.get(event.hostname) or self._roster.worker(event.hostname)
        worker.heard = self._groups.now
        key = hash(event.uuid) & KEY_MASK if event.uuid else refuse_anonymous()
        entry = tasks.held.get(key) or tasks.find(key) or tasks.waiting.pop(key)
        executions = tasks.executions
        if executions.replaced and key in executions.replaced:
            group = self._at.get(executions.started_replaced(key), self._overflow)
            entry = 0
        elif entry:
            group = self._at.get(entry & GROUP_MASK, self._overflow)
            if (executions.lives or entry & RUNNING) and executions.started_again(key, entry):
                group.duplicates += 1
            if len(tasks.held) > tasks.limit:
                tasks.age()
            tasks.held[key] = entry & GROUP_MASK | RUNNING
        else:
            index = tasks.ends.group(key)
            group = self._at.get(index, self._overflow) if index is not None else self._groups.unknown
        if timestamp is not None:
            worker.ledger.started(timestamp, event.pid)
        track = worker.host.track(group)
        track.counts[STARTED] += 1
        due = entry >> DUE_SHIFT
        if due and timestamp is not None:
            group.newest_start = due
            self._series.observe_wait(track, timestamp - tasks.origin - due / TICKS)
        if self._eta.entries:
            self._eta.entries.pop(event.uuid, None)

    def _group_at(self, worker: Worker, name: str) -> Group:
        # A worker that consumes a single queue gets every task from it.
        if len(worker.queues) == 1:
            return self._groups.get(name, worker.queues[0])
        return self._groups.guess(name)


def delayed_queue(event: Event) -> str | None:
    """The queue of a task that was sent through RabbitMQ's native delayed delivery; None for any other task."""
    if event.exchange is None or event.routing_key is None or not DELAYED.match(event.exchange):
        return None
    return DELAY_KEY.sub("", event.routing_key, count=1) or None


def epoch_of(eta: str) -> float:
    """An eta in Celery's format, as epoch seconds; without a time zone it is UTC.

    Raises:
        ValueError: it is malformed.
    """
    moment = datetime.fromisoformat(eta)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
