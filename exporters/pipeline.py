"""One broker from its wire to its metrics: receiver, state, queue rounds, questions to workers."""

import time
from collections.abc import Iterable

from exporters import inspect
from exporters.broker import Broker, RedisSettings, redis_settings
from exporters.events.collector import StreamCollector
from exporters.events.receiver import EventReceiver, RedisReceiver
from exporters.exposition.families import Family
from exporters.inspect import CeleryInspector, Inspector, RedisInspector
from exporters.queues.collector import Poller, QueueCollector
from exporters.queues.redis import RedisPoller
from exporters.settings import ExporterSettings
from exporters.supervise import Periodic, Supervised
from exporters.tables.collectors import Collector, TaskCollector, WorkerCollector
from exporters.tables.state import EventState

# An receiver whose loop has not turned for so long hangs.
HUNG_AFTER = 60.0


class Pipeline:
    """Everything that watches one broker.

    Args:
        broker: which one.
        settings: how.
    """

    def __init__(self, broker: Broker, settings: ExporterSettings) -> None:
        runtime, wait = settings.buckets()
        self.broker = broker
        self.state = EventState(
            limits=settings.limits(),
            labels=settings.labels(),
            liveness=settings.liveness(),
            runtime_buckets=runtime,
            wait_buckets=wait,
        )
        self._window = settings.complete_window
        self.receiver, self.poller, self.inspector = _sources(broker, settings, self.state)
        self.queues = QueueCollector(self.state)
        self.reader = Supervised(f"events {broker.name}", self.receiver.run)
        self.periodic = [Periodic("queues", self._poll, settings.queue_interval)]
        if settings.inspect_interval > 0:
            self.periodic.append(Periodic("inspect", self._ask, settings.inspect_interval))
        self.collectors: list[Collector] = [
            TaskCollector(self.state, per_host=settings.per_host_metrics),
            WorkerCollector(self.state),
            self.queues,
            self._stream_collector(),
        ]

    def start(self) -> None:
        self.reader.start()
        for periodic in self.periodic:
            periodic.thread.start()

    def stop(self) -> None:
        threads = [self.reader, *(periodic.thread for periodic in self.periodic)]
        for thread in threads:
            thread.stop()
        self.inspector.close()
        for thread in threads:
            thread.join(timeout=3.0)
        self.poller.close()

    def families(self) -> Iterable[Family]:
        for collector in self.collectors:
            yield from collector.collect()

    def complete(self) -> bool:
        """Whether every event of the last window is known to have been counted."""
        health = self.receiver.health
        if not health.connected:
            return False
        return health.last_incident is None or time.monotonic() - health.last_incident > self._window

    def ready(self) -> str:
        """Empty when it can be relied on, else what is missing."""
        if not self.receiver.health.connected:
            return f"broker {self.broker.name}: not subscribed: {self.receiver.health.error}"
        if self.periodic[0].failing or not self.queues.rounds:
            return f"broker {self.broker.name}: queues not seen: {self.periodic[0].failing or 'first look is due'}"
        return ""

    def hung(self) -> str:
        """Empty when its threads turn, else which do not."""
        threads = [self.reader, *(periodic.thread for periodic in self.periodic)]
        dead = [thread.name for thread in threads if not thread.alive]
        silent = time.monotonic() - self.receiver.health.alive_at
        if dead:
            return f"broker {self.broker.name}: threads dead: {', '.join(dead)}"
        if silent > HUNG_AFTER:
            return f"broker {self.broker.name}: the event thread has not moved for {silent:.0f} s"
        return ""

    def events_missing(self) -> bool:
        """Whether workers live and run tasks but tell nothing of them."""
        workers = [worker for worker in list(self.state.workers.values()) if worker.seen is not None]
        silent = not any(kind.startswith("task-") and kind != "task-sent" for kind in self.state.types)
        return silent and any(worker.processed or worker.active for worker in workers)

    def _poll(self) -> None:
        self.queues.update(self.poller.poll())

    def _ask(self) -> None:
        inspect.apply(self.inspector.ask(), self.state)

    def _stream_collector(self) -> StreamCollector:
        return StreamCollector(
            self.state,
            self.receiver.health,
            self.receiver.backlog,
            broker=self.broker.name,
            output_buffer=lambda: self.queues.snapshot.output_buffer,
            complete=self.complete,
        )


def _sources(
    broker: Broker, settings: ExporterSettings, state: EventState
) -> tuple[EventReceiver, Poller, Inspector]:
    if broker.is_redis:
        return _redis_sources(redis_settings(broker), settings, state)
    return _kombu_sources(broker, settings, state)


def _redis_sources(
    redis: RedisSettings, settings: ExporterSettings, state: EventState
) -> tuple[EventReceiver, Poller, Inspector]:
    receiver = RedisReceiver(
        redis, state, exchange=settings.event_exchange, backlog_bytes=settings.backlog_bytes
    )
    poller = RedisPoller(
        redis,
        state,
        configured=settings.queues,
        own_client=lambda: receiver.health.client_id,
        event_exchange=settings.event_exchange,
    )
    return receiver, poller, RedisInspector(redis)


def _kombu_sources(
    broker: Broker, settings: ExporterSettings, state: EventState
) -> tuple[EventReceiver, Poller, Inspector]:
    # kombu and Celery cost memory that a Redis broker need not pay.
    from exporters.events.amqp import AmqpReceiver
    from exporters.queues.amqp import AmqpPoller

    receiver = AmqpReceiver(broker, state, exchange=settings.event_exchange)
    return receiver, AmqpPoller(broker, state, configured=settings.queues), CeleryInspector(broker)
