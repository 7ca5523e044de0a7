"""Queue metrics from the newest round, and consumers from workers' replies."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

from exporters.exposition.families import Family, clean, gauge, label_text
from exporters.queues.model import OF_ONE_PROCESS, Snapshot
from exporters.tables.state import EventState

# Maximum number of cached label texts.
MAX_LABELS = 20_000


class QueueCollector:
    """Queue metrics of one broker.

    Args:
        state: the event state, with workers' replies about queues and tasks that wait for their eta.
        clock: epoch seconds.
    """

    name = "queues"

    def __init__(self, state: EventState, *, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._labels: dict[str, str] = {}
        self.snapshot = Snapshot()
        self.rounds = 0
        # Whether a round has searched every source of queue names.
        self.is_whole = False

    def update(self, snapshot: Snapshot) -> None:
        """Store the result of a round."""
        self.snapshot = snapshot
        self.rounds += 1
        self.is_whole = self.is_whole or snapshot.is_whole

    def collect(self) -> Iterable[Family]:
        """The metric families of queues. Unknown values are absent."""
        queues = self.snapshot.queues
        consumers = Consumers(self._state)
        names = {name: self._label(name) for name in sorted(set(queues) | consumers.queues)}
        polled = [(labels, queues[name]) for name, labels in names.items() if name in queues]
        yield gauge(
            "celery_queue_length",
            "Messages that wait in the queue, over all its priority lists.",
            [(labels, queue.length) for labels, queue in polled if queue.length is not None],
        )
        yield gauge(
            "celery_queue_unacked",
            "Messages delivered to a worker and not yet acknowledged.",
            [(labels, queue.unacked) for labels, queue in polled if queue.unacked is not None],
        )
        yield gauge(
            "celery_queue_oldest_message_age_seconds",
            "Age of the oldest waiting message; 0 when none waits.",
            [(labels, queue.oldest_age) for labels, queue in polled if queue.oldest_age is not None],
        )
        yield gauge(
            "celery_queue_eta_scheduled",
            "Tasks that wait for their eta or countdown, in workers or in RabbitMQ's delayed delivery.",
            self._scheduled(names),
        )
        yield gauge(
            "celery_exporter_queues_left_out",
            "Queues that are not shown because there are too many.",
            [("", self.snapshot.left_out)] if self.rounds else [],
        )
        yield from self._consumers(names, consumers)

    def _label(self, name: str) -> str:
        text = self._labels.get(name)
        if text is None:
            if len(self._labels) >= MAX_LABELS:
                self._labels.clear()
            text = self._labels[name] = label_text(queue_name=clean(name))
        return text

    def _scheduled(self, names: dict[str, str]) -> list[tuple[str, float]]:
        now = self._clock()
        waiting = dict.fromkeys(names, 0)
        for group, due in list(self._state.eta.entries.values()):
            if due > now and group.queue_name in waiting:
                waiting[group.queue_name] += 1
        return [(names[queue], count) for queue, count in waiting.items()]

    def _consumers(self, names: dict[str, str], known: "Consumers") -> Iterable[Family]:
        queues = self.snapshot.queues
        reported = {name: queue.consumers for name, queue in queues.items() if queue.consumers is not None}
        counted = {name: count for name in names if (count := known.count(name)) is not None}
        # The broker's own count takes precedence over the workers' replies.
        consumers = {**counted, **{name: reported[name] for name in names if name in reported}}
        processes = {
            name: known.processes.get(name, 0)
            for name, count in counted.items()
            if name in known.processes or not count
        }
        for name, help_, values in (
            ("celery_queue_consumers", "Consumers of the queue.", consumers),
            ("celery_active_consumer_count", "The number of active consumer in broker queue.", consumers),
            ("celery_active_worker_count", "The number of active workers in broker queue.", counted),
            ("celery_active_process_count", "The number of active processes in broker queue.", processes),
        ):
            yield gauge(name, help_, [(names[queue], count) for queue, count in sorted(values.items())])


class Consumers:
    """The queues that live workers consume, counted in one pass over the workers.

    Args:
        state: the event state of the broker.
    """

    def __init__(self, state: EventState) -> None:
        roster = state.roster
        alive = [worker for worker in roster.alive() if not worker.offline]
        # A queue that no reply names is known to have no consumer only if every live worker has replied.
        self.is_complete = roster.replied and all(worker.queues_known for worker in alive)
        # Workers by queue, for each size of their pools: few sizes, and a thousand workers on the same queues.
        by_size: dict[int | None, Counter[str]] = defaultdict(Counter)
        for worker in alive:
            by_size[worker.pool_size].update(worker.queues)
        self.workers: Counter[str] = Counter()
        self.processes: Counter[str] = Counter()
        unsized: Mapping[str, int] = by_size.get(None, {})
        for size, workers in by_size.items():
            self.workers.update(workers)
            if size is not None:
                for queue in workers.keys() - unsized:
                    self.processes[queue] += size * workers[queue]
        named = set[str]().union(*(worker.queues for worker in list(roster.workers.values())))
        self.queues = {name for name in named if not name.startswith(OF_ONE_PROCESS)}

    def count(self, queue: str) -> int | None:
        """The number of live workers that consume a queue; None if not known."""
        found = self.workers.get(queue)
        return 0 if found is None and self.is_complete else found
