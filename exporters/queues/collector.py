"""What is known of each queue, whichever broker it lives on, and its metrics."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from exporters.exposition.families import Family, clean, gauge, label_text
from exporters.tables.state import EventState


@dataclass
class Queue:
    """One queue as the last round saw it."""

    length: int = 0
    unacked: int | None = None
    # Seconds; None where the broker does not let anyone look.
    oldest_age: float | None = None
    # False when that is 0 only because nobody looked before: no answer to who looks once.
    age_is_known: bool = True
    # Told by the broker (RabbitMQ); None where only workers know.
    consumers: int | None = None


@dataclass
class Snapshot:
    """All queues after one round."""

    queues: dict[str, Queue] = field(default_factory=dict)
    # Own output buffer at Redis, in bytes.
    output_buffer: int | None = None
    # Queues beyond the most that are shown.
    left_out: int = 0


class Poller(Protocol):
    """Asks one broker about its queues."""

    def poll(self) -> Snapshot:
        """One round; raises when the broker cannot be asked."""

    def close(self) -> None: ...


class QueueCollector:
    """Queue metrics from the newest round, consumers from the workers' own word."""

    name = "queues"

    def __init__(self, state: EventState, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self.snapshot = Snapshot()
        self.rounds = 0

    def update(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.rounds += 1

    def collect(self) -> Iterable[Family]:
        queues = self.snapshot.queues
        names = {name: label_text(queue_name=clean(name)) for name in self._names()}
        unacked = ((labels, queues[q].unacked) for q, labels in names.items() if q in queues)
        ages = ((labels, queues[q].oldest_age) for q, labels in names.items() if q in queues)
        yield gauge(
            "celery_queue_length",
            "Messages that wait in the queue, over all its priority lists.",
            [(labels, queues[q].length) for q, labels in names.items() if q in queues],
        )
        yield gauge(
            "celery_queue_unacked",
            "Messages delivered to a worker and not yet acknowledged.",
            _known(unacked),
        )
        yield gauge(
            "celery_queue_oldest_message_age_seconds",
            "Age of the oldest waiting message; 0 when none waits.",
            _known(ages),
        )
        yield gauge(
            "celery_queue_eta_scheduled",
            "Messages that wait in workers for their eta or countdown.",
            self._scheduled(names),
        )
        yield gauge(
            "celery_exporter_queues_left_out",
            "Queues that are not shown because there are too many.",
            [("", self.snapshot.left_out)] if self.rounds else [],
        )
        yield from self._consumers(names)

    def _names(self) -> list[str]:
        consumed = {queue for worker in list(self._state.workers.values()) for queue in worker.queues}
        return sorted(consumed | set(self.snapshot.queues))

    def _scheduled(self, names: dict[str, str]) -> list[tuple[str, float]]:
        now = self._clock()
        waiting = dict.fromkeys(names, 0)
        for group, due in list(self._state.eta.values()):
            if due > now and group.queue in waiting:
                waiting[group.queue] += 1
        return [(names[queue], count) for queue, count in waiting.items()]

    def _consumers(self, names: dict[str, str]) -> Iterable[Family]:
        workers = self._live_workers()
        known = workers or any(queue.consumers is not None for queue in self.snapshot.queues.values())
        counts = {queue: sum(queue in served for served, _ in workers) for queue in names}
        consumers = {queue: self._broker_count(queue, counts[queue]) for queue in names}
        processes = {queue: sum(size for served, size in workers if queue in served) for queue in names}
        shown = names if known or self._state.inspected else {}
        for name, help_, values in (
            ("celery_queue_consumers", "Consumers of the queue.", consumers),
            ("celery_active_consumer_count", "The number of active consumer in broker queue.", consumers),
            ("celery_active_worker_count", "The number of active workers in broker queue.", counts),
            ("celery_active_process_count", "The number of active processes in broker queue.", processes),
        ):
            yield gauge(name, help_, [(labels, values[queue]) for queue, labels in shown.items()])

    def _broker_count(self, queue: str, counted: int) -> int:
        told = self.snapshot.queues[queue].consumers if queue in self.snapshot.queues else None
        return counted if told is None else told

    def _live_workers(self) -> list[tuple[tuple[str, ...], int]]:
        now, timeout = self._state.observed_at(), self._state.liveness.timeout
        live = [worker for worker in list(self._state.workers.values()) if worker.up(now, timeout)]
        return [(worker.queues, worker.pool_size or 0) for worker in live if worker.queues]


def names_from(state: EventState) -> set[str]:
    """Queues that task events and workers name."""
    groups = state.groups
    strangers = {"", groups.unknown_queue, groups.overflow.queue}
    told = {group.queue for group in groups} - strangers
    return told | {queue for worker in list(state.workers.values()) for queue in worker.queues}


def _known(samples: Iterable[tuple[str, float | None]]) -> list[tuple[str, float]]:
    return [(labels, value) for labels, value in samples if value is not None]
