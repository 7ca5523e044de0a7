"""Counts the end of a task, or of one of its executions, and how long it ran.

This is part of the hot path, like ``starts``.
"""

from bisect import bisect_left

from exporters.decode import Event
from exporters.tables.base import TaskEvents
from exporters.tables.early import EarlyEvents
from exporters.tables.entry import BETWEEN, GROUP_MASK, KEY_MASK, refuse_anonymous
from exporters.tables.eta import EtaTable
from exporters.tables.exceptions import exception_class
from exporters.tables.groups import (
    FAILED,
    REJECTED,
    REQUEUED,
    RETRIED,
    REVOKED,
    SUCCEEDED,
    Group,
    Groups,
    Track,
)
from exporters.tables.histogram import LONGEST
from exporters.tables.host_series import HostSeries
from exporters.tables.inflight import InFlight
from exporters.tables.recent import Failures
from exporters.tables.roster import Roster


class TaskEnds(TaskEvents):
    """Ends of tasks: successes, failures and every other outcome.

    Args:
        early: events that wait for the task-sent event of their task.

    Attributes:
        repeated: number of ends that were reported again, and not counted again.
        failures: the newest failed tasks.
    """

    def __init__(
        self,
        roster: Roster,
        groups: Groups,
        tasks: InFlight,
        eta: EtaTable,
        series: HostSeries,
        early: EarlyEvents,
    ) -> None:
        self.repeated = 0
        self.failures = Failures()
        self._early = early
        super().__init__(roster, groups, tasks, eta, series)

    def succeeded(self, event: Event) -> None:
        """Count task-succeeded, and how long the task ran."""
        tasks, runtime = self._tasks, event.runtime
        worker = self._workers.get(event.hostname) or self._roster.worker(event.hostname)
        worker.heard = self._groups.now
        key = hash(event.uuid) & KEY_MASK if event.uuid else refuse_anonymous()
        entry = tasks.held.pop(key, 0) if not tasks.executions.lives and not tasks.old else 0
        entry = entry or self._take_out(key)
        if entry:
            group = self._at.get(entry & GROUP_MASK, self._overflow)
        elif tasks.ends.group(key) is not None:
            # gevent reports a task that was terminated as revoked, and then as succeeded.
            self.repeated += 1
            return
        else:
            group = self._groups.unknown
        if worker.offline:
            worker.ended_one()
        track = worker.host.track(group)
        track.counts[SUCCEEDED] += 1
        if runtime is not None and 0 <= runtime < LONGEST:
            histogram = track.runtime or self._series.runtime_histogram(track)
            histogram.counts[bisect_left(histogram.bounds, runtime)] += 1
            histogram.total += runtime

    # Other ends

    def failed(self, event: Event) -> None:
        """Count task-failed under its exception class; Celery may report one failure twice."""
        track = self._end(event)
        if track is not None:
            track.counts[FAILED] += 1
            exception = exception_class(event.exception, event.traceback)
            self._series.count_exception(track, exception)
            self.failures.add(self._eta.epoch, track.group, exception, event.hostname, event.uuid)

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
        tasks = self._tasks
        if key in tasks.executions.lives:
            entry = tasks.ended_one(key)
        else:
            entry = tasks.find(key) or tasks.waiting.find(key)
            if entry:
                tasks.hold(key, entry & GROUP_MASK | BETWEEN)
        return self._at.get(entry & GROUP_MASK, self._overflow) if entry else None

    def _end(self, event: Event) -> Track | None:
        """The track of a task that ends with this event; None if its end was counted before.

        Raises:
            AwaitSent: no event of the task has arrived yet, so this one must not be counted now.
        """
        worker, key = self._roster.worker(event.hostname), _key(event)
        self._eta.entries.pop(event.uuid, None)
        group = self._leave(key)
        if group is None:
            if self._tasks.ends.group(key) is not None:
                self.repeated += 1
                return None
            # A worker refuses an unregistered, expired or revoked task without a task-received event.
            self._early.await_sent(key, event, self._groups.now)
            group = self._groups.unknown
        self._tasks.ends.remember(key, group.index)
        if worker.offline:
            worker.ended_one()
        return worker.host.track(group)

    def _leave(self, key: int) -> Group | None:
        """The group of a task, one execution of which leaves the join table; None if the ID is not in it."""
        tasks = self._tasks
        entry = self._take_out(key)
        if not entry:
            return None
        tasks.ends.remember(key, entry & GROUP_MASK)
        return self._at.get(entry & GROUP_MASK, self._overflow)

    def _take_out(self, key: int) -> int:
        tasks = self._tasks
        if key in tasks.executions.lives:
            return tasks.ended_one(key)
        return tasks.drop(key) or tasks.waiting.pop(key)

    def _ended_group(self, key: int) -> Group:
        index = self._tasks.ends.group(key)
        return self._groups.unknown if index is None else self._at.get(index, self._overflow)


def _key(event: Event) -> int:
    return hash(event.uuid) & KEY_MASK if event.uuid else refuse_anonymous()
