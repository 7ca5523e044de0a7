"""The event receiver for RabbitMQ.

RabbitMQ keeps unread events in a queue of the exporter. kombu and py-amqp connect and subscribe; after that
the bare socket is read with our own parser, as on Redis.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterable

from exporters.amqp import AmqpLink, is_connection_error
from exporters.backoff import delays
from exporters.broker import Broker
from exporters.decode import Event, UndecodableError, decode_body, objects
from exporters.events.deliveries import CLOSE, HEARTBEAT, Deliveries, Message
from exporters.events.receiver import REST_SECONDS, SMALL_READ, Health, Housekeeping, Watch
from exporters.events.redis import MAX_CHUNKS, Backlog
from exporters.events.sockets import BareSocket, DisconnectedError
from exporters.tables.state import EventState
from sidecar.logs import fields

log = logging.getLogger(__name__)

WAIT_SECONDS = 0.5
HEARTBEAT_SECONDS = 10
# RabbitMQ closes a connection without heartbeats, even a busy one, because a consumer sends nothing else.
TICK_SECONDS = 1.0
# RabbitMQ sends something at least once in each interval.
SILENT_HEARTBEATS = 2
FIRST_VERSION_WITHOUT_GLOBAL_QOS = (4,)


class AmqpReceiver:
    """Events from RabbitMQ.

    Args:
        broker: the broker to receive from.
        state: the state that counts the events.
        exchange: Celery's ``event_exchange``.
    """

    def __init__(self, broker: Broker, state: EventState, *, exchange: str = "celeryev") -> None:
        self.health = Health()
        # No backlog on our side: the broker keeps it.
        self.backlog = Backlog(0)
        self.watch: Watch | None = None
        self.prefetch_is_global = True
        self._broker = broker
        self._state = state
        self._exchange = exchange
        self._housekeeping = Housekeeping(state, self.health, self.backlog)

    def run(self, stop: threading.Event) -> None:
        """Receive events until stopped; only faults in our code are raised."""
        waits = delays()
        while not stop.is_set():
            lost = self.health.disconnects
            try:
                self._connected(stop)
            except Exception as error:
                self._housekeeping.disconnected(error)
                if self.health.disconnects > lost:
                    waits = delays()
                if not is_connection_error(error):
                    raise
                stop.wait(next(waits))

    def _connected(self, stop: threading.Event) -> None:
        link = AmqpLink(self._broker, heartbeat=HEARTBEAT_SECONDS)
        try:
            self.prefetch_is_global = link.server_version < FIRST_VERSION_WITHOUT_GLOBAL_QOS
            self._subscribe(link)
            self._consume(link, stop)
        except Exception as error:
            # Reported before the connection is closed, which may take a while.
            self._housekeeping.disconnected(error)
            raise
        finally:
            link.drop()

    def _subscribe(self, link: AmqpLink) -> None:
        channel = link.connection.channel()
        name = f"celeryev.exporter.{uuid.uuid4()}"
        channel.exchange_declare(self._exchange, "topic", durable=True, auto_delete=False)
        # Exclusive: it is deleted with the connection.
        channel.queue_declare(name, exclusive=True, durable=False, auto_delete=True)
        channel.queue_bind(name, self._exchange, routing_key="#")
        channel.basic_consume(name, no_ack=True)
        self._housekeeping.connected(None)
        log.info("subscribed to task events %s", fields(queue=name))

    def _consume(self, link: AmqpLink, stop: threading.Event) -> None:
        bare, deliveries = BareSocket(link.socket), Deliveries()
        self._count(deliveries.feed(link.read_ahead()))
        heard = ticked = time.monotonic()
        while not stop.is_set():
            if bare.wait(WAIT_SECONDS):
                size = self._drain(bare, deliveries)
                heard = time.monotonic()
                if size < SMALL_READ:
                    time.sleep(REST_SECONDS)
            now = time.monotonic()
            if now - heard > SILENT_HEARTBEATS * HEARTBEAT_SECONDS:
                raise DisconnectedError(f"silent for {now - heard:.0f} s")
            if now - ticked > TICK_SECONDS:
                ticked = now
                bare.send(HEARTBEAT)
            self._housekeeping.tidy()
        bare.send(CLOSE)

    def _drain(self, bare: BareSocket, deliveries: Deliveries) -> int:
        """Read and count what the socket has; returns the number of bytes read."""
        size = 0
        for _ in range(MAX_CHUNKS):
            data = bare.receive()
            if data is None:
                break
            size += len(data)
            self._count(deliveries.feed(data))
        return size

    def _count(self, messages: Iterable[Message]) -> None:
        state, now, events = self._state, time.time(), list[Event]()
        for kind, encoding, body in messages:
            try:
                events += decode_body(body, kind, encoding)
            except UndecodableError:
                state.undecodable += 1
                continue
            if self.watch is not None:
                self.watch(objects(body, kind, encoding))
        state.take(events, time.monotonic(), now)
        state.note_lag(events, now)
