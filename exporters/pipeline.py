"""Everything between one broker and its metrics: receiver, event state, queue polls, inspect requests."""

import logging
import time
from collections.abc import Callable, Iterable

from exporters import inspect
from exporters.broker import Broker, RedisSettings, redis_settings
from exporters.events.collector import StreamCollector
from exporters.events.receiver import EventReceiver, RedisReceiver
from exporters.exposition.families import Family
from exporters.inspect import AmqpInspector, Inspector, RedisInspector
from exporters.queues.collector import QueueCollector
from exporters.queues.model import Poller
from exporters.queues.redis import RedisPoller
from exporters.settings import ExporterSettings
from exporters.supervise import Periodic, Supervised
from exporters.tables.collectors import Collector, TaskCollector, WorkerCollector
from exporters.tables.state import EventState
from sidecar.errors import OpsError

log = logging.getLogger(__name__)

# Seconds without progress after which a receiver, or an overdue round, counts as hung.
HUNG_AFTER = 60.0
# Celery's default interval of heartbeats in seconds: every live worker sends one within this time.
HEARTBEAT_SECONDS = 2.0
STOP_SECONDS = 3.0
# Seconds that the first inspect request waits for the subscription.
SUBSCRIBE_SECONDS = 2.0
POLL_SECONDS = 0.02


class Pipeline:
    """The threads and state that monitor one broker.

    Args:
        broker: the broker to monitor.
        settings: settings of the exporter.
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
            per_host=settings.per_host_metrics,
        )
        self._window = settings.complete_window
        self._heard_enough_at: float | None = None
        # The connection after whose start workers were asked about the tasks that they hold.
        self._adopted_at: float | None = None
        self.receiver, self.poller, self.inspector = _sources(broker, settings, self.state)
        self.queues = QueueCollector(self.state)
        self.workers = WorkerCollector(self.state)
        self.tasks = TaskCollector(self.state, per_host=settings.per_host_metrics)
        self.reader = Supervised(f"events {broker.name}", self.receiver.run)
        # A first search among many keys takes several rounds: a queue without consumers is one to alert on.
        self.rounds = Periodic(
            "queues", self._poll, settings.queue_interval, unfinished=lambda: not self.queues.is_whole
        )
        self.periodic = [self.rounds]
        if settings.inspect_interval > 0:
            self.periodic.append(Periodic("inspect", self._ask, settings.inspect_interval))
        # Why the last queue round failed; empty if it succeeded.
        self._unreachable = "no round has finished yet"
        self.collectors: list[Collector] = [
            self.tasks,
            self.workers,
            self.queues,
            self._stream_collector(),
        ]

    def start(self) -> None:
        """Start the threads."""
        self.reader.start()
        for periodic in self.periodic:
            periodic.thread.start()

    def stop(self) -> None:
        """Stop the threads within a few seconds, whatever the broker does."""
        threads = [self.reader, *(periodic.thread for periodic in self.periodic)]
        for thread in threads:
            thread.stop()
        self.inspector.close()
        end = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.1, end - time.monotonic()))
        if not self.rounds.thread.alive:
            self.poller.close()

    def families(self) -> Iterable[Family]:
        """The families of all collectors."""
        self.workers.prefetch_is_known = self.receiver.prefetch_is_global
        for collector in self.collectors:
            yield from collector.collect()

    def complete(self) -> bool:
        """Whether it is known that every event of the last window was counted."""
        health = self.receiver.health
        if not health.connected:
            return False
        return health.last_incident is None or time.monotonic() - health.last_incident > self._window

    def ready(self) -> str:
        """What is missing before its metrics are reliable; empty if nothing is."""
        health, name = self.receiver.health, self.broker.name
        if not health.connected:
            return f"broker {name}: not subscribed: {health.error}"
        if health.blocked:
            return f"broker {name}: {health.blocked}"
        if self._unreachable:
            return f"broker {name}: queues not polled: {self._unreachable}"
        late = self._late()
        if late:
            return f"broker {name}: {late}"
        if not self.queues.is_whole:
            return f"broker {name}: still looking for queues"
        if not self._heard_enough():
            return f"broker {name}: waiting for the heartbeats of workers"
        return ""

    def hung(self) -> str:
        """The threads that make no progress; empty if all do."""
        threads = [self.reader, *(periodic.thread for periodic in self.periodic)]
        dead = [thread.name for thread in threads if not thread.alive]
        silent = time.monotonic() - self.receiver.health.alive_at
        if dead:
            return f"broker {self.broker.name}: threads dead: {', '.join(dead)}"
        if silent > HUNG_AFTER:
            return f"broker {self.broker.name}: the event thread has made no progress for {silent:.0f} s"
        late = self._late()
        return f"broker {self.broker.name}: {late}" if late else ""

    def _late(self) -> str:
        """The round that should have finished by now; empty if there is none."""
        for periodic in self.periodic:
            started = periodic.started_at
            if started is not None and time.monotonic() - started > HUNG_AFTER:
                return f"a round of {periodic.name} has taken {time.monotonic() - started:.0f} s"
        return ""

    def _heard_enough(self) -> bool:
        """Whether one heartbeat interval has passed since the first subscription."""
        now = time.monotonic()
        if self._heard_enough_at is None:
            self._heard_enough_at = self.receiver.health.changed_at + HEARTBEAT_SECONDS
        return now >= self._heard_enough_at

    def events_missing(self) -> list[str]:
        """The workers that run tasks while the exporter is subscribed, but send no task events."""
        return [worker.node for worker in self.state.roster.shown() if worker.sends_no_events]

    def shared_names(self) -> list[str]:
        """Node names used by more than one worker."""
        return [worker.node for worker in self.state.roster.shown() if worker.cadence.is_shared]

    def _poll(self) -> None:
        try:
            snapshot = self.poller.poll()
        except Exception as error:
            self._unreachable = f"{type(error).__name__}: {error}"
            raise
        self._unreachable = ""
        self.queues.update(snapshot)
        self._note_blocked()
        if snapshot.refused:
            raise OpsError(
                "; ".join(snapshot.refused),
                hint="give the exporter's user permission to read it, or leave it out of CELERY_EXPORTER_QUEUES",
            )

    def _ask(self) -> None:
        health = self.receiver.health
        if wait_until(lambda: health.connected, SUBSCRIBE_SECONDS) and health.changed_at != self._adopted_at:
            # Only now: events announce the tasks that start after the reply.
            inspect.adopt_held(self.inspector, self.state)
            self._adopted_at = None if self.inspector.blocked else health.changed_at
        inspect.apply(inspect.ask(self.inspector), self.state)
        self._note_blocked()

    def blocked(self) -> str:
        """Why the broker accepts no messages; empty if it does, as far as that is known."""
        by_api = self.queues.snapshot.blocked
        return self.inspector.blocked if by_api is None else by_api

    def _note_blocked(self) -> None:
        """Keep the workers' state while the broker accepts no messages, not even theirs."""
        health, reason = self.receiver.health, self.blocked()
        connection = self.state.roster.connection
        if reason != health.blocked:
            log.warning("broker %s: %s", self.broker.name, reason or "RabbitMQ accepts messages again")
        if health.blocked and not reason and health.connected:
            connection.restored()
        health.blocked = reason
        if reason:
            connection.blocked()

    def _stream_collector(self) -> StreamCollector:
        return StreamCollector(
            self.state,
            self.receiver.health,
            self.receiver.backlog,
            broker=self.broker.name,
            output_buffer=lambda: self.queues.snapshot.output_buffer,
            complete=self.complete,
        )


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition, up to a time limit; returns whether it is met."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
    return holds()


def _sources(
    broker: Broker, settings: ExporterSettings, state: EventState
) -> tuple[EventReceiver, Poller, Inspector]:
    if broker.is_redis:
        return _redis_sources(redis_settings(broker), settings, state)
    return _amqp_sources(broker, settings, state)


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
    return receiver, poller, RedisInspector(redis, control=settings.control_exchange)


def _amqp_sources(
    broker: Broker, settings: ExporterSettings, state: EventState
) -> tuple[EventReceiver, Poller, Inspector]:
    # Imported only here, because kombu costs memory that Redis brokers do not need.
    from exporters.events.amqp import AmqpReceiver
    from exporters.queues.amqp import MAX_QUEUES, AmqpPoller
    from exporters.queues.rabbitmq_api import RabbitMqApi, vhost_of

    url = settings.rabbitmq_apis().get(broker.name)
    api = RabbitMqApi(url, vhost_of(broker), most=MAX_QUEUES) if url else None
    receiver = AmqpReceiver(broker, state, exchange=settings.event_exchange)
    poller = AmqpPoller(broker, state, configured=settings.queues, api=api)
    return receiver, poller, AmqpInspector(broker, control=settings.control_exchange)
