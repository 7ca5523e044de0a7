"""The general event receiver: any broker that kombu speaks to; in practice RabbitMQ.

Slower than the Redis path and complete all the same: RabbitMQ keeps what we have not read yet in a queue of ours.
"""

import logging
import socket
import threading
import time
import uuid
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue
from kombu.exceptions import KombuError

from exporters.backoff import delays
from exporters.broker import Broker
from exporters.decode import UndecodableError, decode_body
from exporters.events.receiver import Health, Housekeeping, Watch
from exporters.events.redis import Backlog
from exporters.tables.state import EventState
from sidecar.logs import fields

log = logging.getLogger(__name__)

PREFETCH = 1_000
WAIT_SECONDS = 0.5
HEARTBEAT_SECONDS = 10


class AmqpReceiver:
    """Events through kombu.

    Args:
        broker: where.
        state: where events are counted.
        exchange: Celery's ``event_exchange``.
    """

    def __init__(
        self,
        broker: Broker,
        state: EventState,
        *,
        exchange: str = "celeryev",
    ) -> None:
        self.health = Health()
        # Nothing waits on our side: the broker keeps it.
        self.backlog = Backlog(0)
        self._broker = broker
        self._state = state
        self._exchange = Exchange(exchange, type="topic")
        self.watch: Watch | None = None
        self._housekeeping = Housekeeping(state, self.health, self.backlog)

    def run(self, stop: threading.Event) -> None:
        waits = delays()
        while not stop.is_set():
            try:
                self._consume(stop)
            except Exception as error:
                if self.health.connected:
                    waits = delays()
                self._housekeeping.disconnected(error)
                # kombu's transports raise what their libraries raise; only connection errors are expected.
                if not isinstance(error, (OSError, KombuError, *_transport_errors(self._broker))):
                    raise
                stop.wait(next(waits))

    def _consume(self, stop: threading.Event) -> None:
        with connection(self._broker) as link:
            link.ensure_connection(max_retries=1)
            name = f"celeryev.exporter.{uuid.uuid4()}"
            # Exclusive: it goes with the connection, and RabbitMQ 4 refuses shared queues that are not durable.
            queue = Queue(name, self._exchange, routing_key="#", exclusive=True, durable=False)
            with Consumer(link, [queue], on_message=self._message, no_ack=True, prefetch_count=PREFETCH):
                self._housekeeping.connected(None)
                log.info("subscribed to task events %s", fields(queue=name))
                while not stop.is_set():
                    self._turn(link)

    def _turn(self, link: Any) -> None:
        try:
            link.drain_events(timeout=WAIT_SECONDS)
        except (TimeoutError, socket.timeout):  # noqa: UP041 - transports raise either
            if link.supports_heartbeats:
                link.heartbeat_check()
        self._housekeeping.tidy()

    def _message(self, message: Any) -> None:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        try:
            events = decode_body(body, message.content_type, message.content_encoding or "utf-8")
        except UndecodableError:
            self._state.undecodable += 1
            return
        self._state.take(events, time.monotonic(), time.time())
        self._state.note_lag(events, time.time())
        if self.watch is not None:
            self.watch(events)


def connection(broker: Broker) -> Any:
    """A kombu connection to the broker."""
    return Connection(
        broker.url, transport_options=dict(broker.options), heartbeat=HEARTBEAT_SECONDS, connect_timeout=5
    )


def _transport_errors(broker: Broker) -> tuple[type[BaseException], ...]:
    link = connection(broker)
    return (*link.connection_errors, *link.channel_errors)
