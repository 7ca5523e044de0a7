"""Metrics of tasks, workers and of the exporter itself, read from the event tables."""

from collections.abc import Callable, Iterable
from typing import Protocol

from exporters.groups import FAILED, REASONS, SENT, STATES, Group, Track
from exporters.histogram import Histogram
from exporters.intake import Health
from exporters.series import Family, counter, gauge, label_text
from exporters.stream import Backlog
from exporters.tasks import Tables
from exporters.workers import Worker

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
    """Counters per state, runtimes, waiting times, failures by exception."""

    name = "tasks"

    def __init__(self, tables: Tables, *, per_host: bool = True) -> None:
        self._tables = tables
        self._per_host = per_host

    def collect(self) -> Iterable[Family]:
        groups = list(self._tables.groups)
        totals = [(group, group.total()) for group in groups]
        yield _state_totals(totals)
        yield _failures(totals)
        yield _revocations(groups)
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
        for index, state in enumerate(STATES):
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
    family.lines = [
        f'celery_tasks_total{{{group.labels},state="{state}"}} {count}'
        for group, total in totals
        for state, count in zip(STATES, total.counts, strict=True)
    ]
    return family


def _failures(totals: list[tuple[Group, Track]]) -> Family:
    return counter(
        "celery_task_failures",
        "Failed tasks by exception class.",
        [
            (f"{group.labels},{label_text(exception=name)}", count)
            for group, total in totals
            for name, count in list(total.exceptions.items())
        ],
    )


def _revocations(groups: list[Group]) -> Family:
    return counter(
        "celery_task_revocations",
        "Revoked tasks by reason: expired, terminated while running, or revoked before.",
        [
            (f'{group.labels},reason="{reason}"', count)
            for group in groups
            for reason, count in zip(REASONS, group.reasons, strict=True)
            if count
        ],
    )


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
        # Senders are not workers: a series of zeros for each pair of them would tell nothing.
        family.lines = [
            f"{name}{{{track.labels}}} {track.counts[SENT]}" for track in tracks if track.counts[SENT]
        ]
    else:
        family.lines = [f"{name}{{{track.labels}}} {track.counts[index]}" for track in tracks if _ran(track)]
    return family


def _failed_lines(name: str, track: Track) -> list[str]:
    if not _ran(track):
        return []
    # The empty class at 0, as celery-exporter has it: a task that never failed has a series too.
    lines = [f'{name}{{{track.labels},exception=""}} 0']
    for exception, count in list(track.exceptions.items()):
        lines.append(f"{name}{{{track.labels},{label_text(exception=exception)}}} {count}")
    return lines


def _ran(track: Track) -> bool:
    return any(track.counts[1:])


class WorkerCollector:
    """Workers as their heartbeats show them."""

    name = "workers"

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def collect(self) -> Iterable[Family]:
        workers = [worker for worker in list(self._tables.workers.values()) if worker.seen is not None]
        now, timeout = self._tables.listening_at(), self._tables.liveness.timeout
        alive = {worker.node: worker.up(now, timeout) for worker in workers}

        def each(value: Callable[[Worker], float | None]) -> list[tuple[str, float]]:
            return [(w.labels, known) for w in workers if (known := value(w)) is not None]

        yield gauge(
            "celery_worker_up",
            "Whether the worker's heartbeats arrive.",
            each(lambda w: int(alive[w.node])),
        )
        yield gauge(
            "celery_worker_tasks_active",
            "The number of tasks the worker is currently processing.",
            each(lambda w: w.active if alive[w.node] else 0),
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
            "celery_worker_prefetch_count", "Messages it may hold unacknowledged.", each(lambda w: w.prefetch)
        )
        yield gauge(
            "celery_worker_load1", "The machine's load average over 1 minute.", each(lambda w: w.load1)
        )
        yield gauge(
            "celery_worker_clock_skew_seconds",
            "The worker's clock minus the exporter's, transit included.",
            each(lambda w: w.skew if w.heartbeat_at else None),
        )


class StreamCollector:
    """How complete the event stream is."""

    name = "stream"

    def __init__(
        self,
        tables: Tables,
        health: Health,
        backlog: Backlog,
        *,
        broker: str,
        output_buffer: Callable[[], int | None],
        complete: Callable[[], bool],
    ) -> None:
        self._tables = tables
        self._health = health
        self._backlog = backlog
        self._broker = label_text(broker=broker)
        self._output_buffer = output_buffer
        self._complete = complete

    def collect(self) -> Iterable[Family]:
        tables, prefix = self._tables, "celery_exporter"
        yield gauge(
            f"{prefix}_broker_up",
            "Whether the exporter is subscribed to the broker's events.",
            [(self._broker, int(self._health.connected))],
        )
        yield gauge(
            f"{prefix}_events_complete",
            "1 while subscribed and nothing is known to have been lost in the last minutes.",
            [("", int(self._complete()))],
        )
        yield counter(
            f"{prefix}_events",
            "Events counted, by type.",
            [(label_text(type=kind), count) for kind, count in sorted(tables.types.items())],
        )
        yield counter(
            f"{prefix}_events_lost",
            "Task starts that a worker reports in its heartbeats and that no event told.",
            [(w.labels, w.ledger.lost) for w in list(tables.workers.values()) if w.seen is not None],
        )
        yield from self._single(prefix)

    def _single(self, prefix: str) -> Iterable[Family]:
        tables = self._tables
        counts = (
            (
                "events_dropped",
                "Frames turned away by the exporter's own full backlog.",
                self._backlog.dropped,
            ),
            ("events_undecodable", "Frames and events that are no Celery events.", tables.undecodable),
            ("disconnects", "Times that the event connection was lost.", self._health.disconnects),
            (
                "series_capped",
                "Times that a new series was counted in the overflow series.",
                tables.budget.capped,
            ),
            ("tasks_evicted", "Tasks in flight that were forgotten by age.", tables.tasks.evicted),
        )
        for name, help_, count in counts:
            yield counter(f"{prefix}_{name}", help_, [("", count)])
        gauges = (
            ("event_lag_seconds", "From the newest event's own time to its counting.", tables.lag),
            ("backlog_bytes", "Read from the broker and not yet counted.", self._backlog.bytes),
            ("output_buffer_bytes", "The exporter's output buffer at Redis.", self._output_buffer()),
            ("series", "Series that the tables hold.", tables.budget.used),
            ("tasks_in_flight", "Tasks that are joined by their id.", len(tables.tasks)),
        )
        for name, help_, value in gauges:
            yield gauge(f"{prefix}_{name}", help_, [] if value is None else [("", value)])
