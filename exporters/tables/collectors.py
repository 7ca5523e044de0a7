"""Metrics of tasks and workers, read from the event state."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Protocol

from exporters.exposition.families import Family, counter, gauge, label_text
from exporters.tables.groups import FAILED, REASONS, REJECTED, REQUEUED, SENT, STATES, Group, Track
from exporters.tables.histogram import Histogram
from exporters.tables.recent import Rates
from exporters.tables.state import EventState
from exporters.tables.workers import Worker

# celery-exporter's names and help texts; it has no state "requeued".
STATE_HELP = {
    "sent": "Sent when a task message is published.",
    "received": "Sent when the worker receives a task.",
    "started": "Sent just before the worker executes the task.",
    "succeeded": "Sent if the task executed successfully.",
    "failed": "Sent if the execution of the task failed.",
    "retried": "Sent if the task failed, but will be retried in the future.",
    "revoked": "Sent if the task has been revoked.",
    "rejected": "The task was rejected by the worker.",
}


class Collector(Protocol):
    """Produces the families of one subject; must not block."""

    name: str

    def collect(self) -> Iterable[Family]: ...


class TaskCollector:
    """Counters per state, run times, waiting times, failures by exception class.

    Args:
        state: where events are counted.
        per_host: whether the series with a host label are exposed.

    Attributes:
        rates: what the scrapes of the last minute counted.
    """

    name = "tasks"

    def __init__(self, state: EventState, *, per_host: bool = True) -> None:
        self._state = state
        self._per_host = per_host
        self.rates = Rates()

    def collect(self) -> Iterable[Family]:
        """The families of tasks."""
        groups = list(self._state.groups)
        totals = [(group, group.total()) for group in groups]
        yield _state_totals(totals)
        self.rates.note(monotonic(), [(group, group.shown) for group in groups if group.shown is not None])
        yield _failures(totals)
        yield _revocations(groups)
        yield _duplicates(groups)
        yield _histograms(
            "celery_task_runtime_seconds",
            "Run time of succeeded tasks.",
            [(group.labels, total.runtime) for group, total in totals],
        )
        yield _histograms(
            "celery_task_queue_wait_seconds",
            "Time from sending (or eta) to start; needs task_send_sent_event in the sender.",
            [(group.labels, total.wait) for group, total in totals],
        )
        if self._per_host:
            yield from self._by_host([track for group in groups for track in list(group.tracks)])

    def _by_host(self, tracks: list[Track]) -> Iterable[Family]:
        for index, state in enumerate(STATE_HELP):
            yield _state_by_host(index, state, tracks)
        yield _histograms(
            "celery_task_runtime",
            "Histogram of task runtime measurements.",
            [(track.labels, track.runtime) for track in tracks],
        )
        yield _histograms(
            "celery_task_queue_wait_time",
            "Histogram of the time tasks wait in the queue, without eta and countdown.",
            [(track.labels, track.wait) for track in tracks],
        )


def _state_totals(totals: list[tuple[Group, Track]]) -> Family:
    family = Family("celery_tasks", "counter", "Task events by task, queue and state.")
    for group, total in totals:
        # Counts that a scrape has shown are not counted again when the group is evicted.
        group.shown = counts = list(total.counts)
        family.lines += [
            f'celery_tasks_total{{{group.labels},state="{state}"}} {count}'
            for state, count in zip(STATES, counts, strict=True)
        ]
        family.created += [group.created] * len(STATES)
    return family


def _failures(totals: list[tuple[Group, Track]]) -> Family:
    failures = [
        (group, name, count) for group, total in totals for name, count in list(total.exceptions.items())
    ]
    family = counter(
        "celery_task_failures",
        "Failed tasks by exception class.",
        [(f"{group.labels},{label_text(exception=name)}", count) for group, name, count in failures],
    )
    family.created = [group.created for group, _, _ in failures]
    return family


def _revocations(groups: list[Group]) -> Family:
    revocations = [
        (group, reason, count)
        for group in groups
        for reason, count in zip(REASONS, group.reasons, strict=True)
        if count
    ]
    family = counter(
        "celery_task_revocations",
        "Revoked tasks by reason: expired, terminated (while running) or revoked (before it started).",
        [(f'{group.labels},reason="{reason}"', count) for group, reason, count in revocations],
    )
    family.created = [group.created for group, _, _ in revocations]
    return family


def _duplicates(groups: list[Group]) -> Family:
    family = counter(
        "celery_task_duplicate_starts",
        "Starts of a task whose earlier execution under the same ID had not reported its end (redelivery).",
        [(group.labels, group.duplicates) for group in groups],
    )
    family.created = [group.created for group in groups]
    return family


def _histograms(name: str, help_: str, parts: Iterable[tuple[str, Histogram | None]]) -> Family:
    family = Family(name, "histogram", help_)
    for labels, histogram in parts:
        if histogram is not None:
            family.lines += histogram.lines(name, labels)
    return family


def _state_by_host(index: int, state: str, tracks: list[Track]) -> Family:
    family = Family(f"celery_task_{state}", "counter", STATE_HELP[state])
    name = f"celery_task_{state}_total"
    if index == FAILED:
        family.lines = [line for track in tracks for line in _failed_lines(name, track)]
    elif index == SENT:
        # Senders are not workers: a series of zeros for each pair would be useless.
        family.lines = [
            f"{name}{{{track.labels}}} {track.counts[SENT]}" for track in tracks if track.counts[SENT]
        ]
    elif index == REJECTED:
        family.lines = [
            f"{name}{{{track.labels}}} {track.counts[REJECTED] + track.counts[REQUEUED]}"
            for track in tracks
            if _ran(track)
        ]
    else:
        family.lines = [f"{name}{{{track.labels}}} {track.counts[index]}" for track in tracks if _ran(track)]
    return family


def _failed_lines(name: str, track: Track) -> list[str]:
    if not _ran(track):
        return []
    # The empty class at 0, as in celery-exporter, so that a task that never failed has a series too.
    lines = [f'{name}{{{track.labels},exception=""}} 0']
    for exception, count in list(track.exceptions.items()):
        lines.append(f"{name}{{{track.labels},{label_text(exception=exception)}}} {count}")
    return lines


def _ran(track: Track) -> bool:
    return any(track.counts[1:])


class WorkerCollector:
    """Workers, from their heartbeats and replies.

    Args:
        state: where events are counted.
    """

    name = "workers"

    def __init__(self, state: EventState) -> None:
        self._roster = state.roster
        # Whether the broker applies the prefetch count that workers report; RabbitMQ from 4.0 on does not.
        self.prefetch_is_known = True

    def collect(self) -> Iterable[Family]:
        """The families of workers. A worker that has shut down cleanly is not included."""
        workers = self._roster.shown()
        now, liveness = self._roster.connection.observed_at(), self._roster.liveness
        alive = {worker.node: worker.up(now, liveness) for worker in workers}

        def each(value: Callable[[Worker], float | None]) -> list[tuple[str, float]]:
            return [(w.labels, known) for w in workers if (known := value(w)) is not None]

        yield gauge(
            "celery_worker_up",
            "Whether the worker is alive: its heartbeats arrive, or it finishes its tasks before it stops.",
            each(lambda w: int(alive[w.node])),
        )
        yield gauge(
            "celery_worker_stopping",
            "Whether the worker has announced its shutdown and is finishing its tasks.",
            each(lambda w: int(w.offline)),
        )
        yield gauge(
            "celery_worker_tasks_active",
            "The number of tasks the worker is currently processing.",
            each(lambda w: w.active if alive[w.node] or w.active is None else 0),
        )
        yield gauge(
            "celery_worker_last_heartbeat_timestamp_seconds",
            "When the newest heartbeat arrived, by the exporter's clock.",
            each(lambda w: w.heartbeat_at or None),
        )
        yield counter(
            "celery_worker_processed",
            "Tasks that the worker has started since it came up, by its own count.",
            each(lambda w: w.processed),
        )
        yield gauge(
            "celery_worker_pool_size", "Processes or threads of the pool.", each(lambda w: w.pool_size)
        )
        yield gauge(
            "celery_worker_prefetch_count",
            "Unacknowledged messages that the worker may have, as it reports.",
            each(lambda w: w.prefetch) if self.prefetch_is_known else [],
        )
        yield gauge(
            "celery_worker_load1", "The machine's load average over 1 minute.", each(lambda w: w.load1)
        )
        yield gauge(
            "celery_worker_clock_skew_seconds",
            "The worker's clock minus the exporter's, including transit time.",
            each(lambda w: w.skew),
        )
        yield gauge(
            "celery_worker_shares_name",
            "Workers whose node name several workers use: their figures are mixed up. Give each its own name.",
            each(lambda w: 1 if w.cadence.is_shared else None),
        )
