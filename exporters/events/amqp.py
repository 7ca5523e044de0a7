"""The event receiver for RabbitMQ.

Slower than the Redis path and just as complete: RabbitMQ keeps what has not been read yet in a queue of the exporter.
"""

import logging
import threading
import time
import uuid
from typing import Any

from exporters.amqp import AmqpLink, is_connection_error
from exporters.backoff import delays
from exporters.broker import Broker
from exporters.decode import UndecodableError, decode_body, objects
from exporters.events.receiver import Health, Housekeeping, Watch
from exporters.events.redis import Backlog
from exporters.tables.state import EventState
from sidecar.logs import fields

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
HEARTBEAT_SECONDS = 10
# RabbitMQ closes a connection without heartbeats, however busy it is: a consumer sends nothing else.
TICK_SECONDS = 1.0
FIRST_VERSION_WITHOUT_GLOBAL_QOS = (4,)


class AmqpReceiver:
    """Events from RabbitMQ.

    Args:
        broker: which one.
        state: where events are counted.
        exchange: Celery's ``event_exchange``.
    """

    def __init__(self, broker: Broker, state: EventState, *, exchange: str = "celeryev") -> None:
        self.health = Health()
        # Nothing waits on our side: the broker keeps it.
        self.backlog = Backlog(0)
        self.watch: Watch | None = None
        self.prefetch_is_global = True
        self._broker = broker
        self._state = state
        self._exchange = exchange
        self._housekeeping = Housekeeping(state, self.health, self.backlog)

    def run(self, stop: threading.Event) -> None:
        """Receive events until stopped; raises only what is a fault in our code."""
        waits = delays()
        while not stop.is_set():
            try:
                self._connected(stop)
            except Exception as error:
                if self.health.connected:
                    waits = delays()
                self._housekeeping.disconnected(error)
                if not is_connection_error(error):
                    raise
                stop.wait(next(waits))

    def _connected(self, stop: threading.Event) -> None:
        link = AmqpLink(self._broker, heartbeat=HEARTBEAT_SECONDS)
        try:
            self.prefetch_is_global = link.server_version < FIRST_VERSION_WITHOUT_GLOBAL_QOS
            self._subscribe(link)
            link.wait_at_most(WAIT_SECONDS)
            self._consume(link.connection, stop)
        except Exception as error:
            # Said before the connection is given up, whatever that takes.
            self._housekeeping.disconnected(error)
            link.drop()
            raise
        link.close()

    def _subscribe(self, link: AmqpLink) -> None:
        channel = link.connection.channel()
        name = f"celeryev.exporter.{uuid.uuid4()}"
        channel.exchange_declare(self._exchange, "topic", durable=True, auto_delete=False)
        # Exclusive: it is deleted with the connection.
        channel.queue_declare(name, exclusive=True, durable=False, auto_delete=True)
        channel.queue_bind(name, self._exchange, routing_key="#")
        channel.basic_consume(name, no_ack=True, callback=self._message)
        self._housekeeping.connected(None)
        log.info("subscribed to task events %s", fields(queue=name))

    def _consume(self, connection: Any, stop: threading.Event) -> None:
        ticked = time.monotonic()
        while not stop.is_set():
            try:
                connection.drain_events()
            except TimeoutError:
                ticked = 0.0
            if time.monotonic() - ticked > TICK_SECONDS:
                ticked = time.monotonic()
                connection.heartbeat_tick()
                self._housekeeping.tidy()

    def _message(self, message: Any) -> None:
        body, properties = message.body, message.properties
        raw = body if isinstance(body, bytes) else str(body).encode()
        content = properties.get("content_type", ""), properties.get("content_encoding") or "utf-8"
        try:
            events = decode_body(raw, *content)
        except UndecodableError:
            self._state.undecodable += 1
            return
        now = time.time()
        self._state.take(events, time.monotonic(), now)
        self._state.note_lag(events, now)
        if self.watch is not None:
            self.watch(objects(raw, *content))
