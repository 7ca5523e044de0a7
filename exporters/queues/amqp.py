"""Queues on RabbitMQ: a passive declaration returns length and consumers and changes nothing.

AMQP cannot list queues. Their names come from task events, workers and the settings, or from RabbitMQ's management API if
it is configured.
"""

import logging
from collections.abc import Iterable
from typing import Any

from exporters.amqp import AmqpLink
from exporters.broker import Broker
from exporters.queues.model import Queue, Snapshot, names_from
from exporters.queues.rabbitmq_api import RabbitMqApi
from exporters.tables.state import EventState

log = logging.getLogger(__name__)

MAX_QUEUES = 5_000
NOT_FOUND = 404
# The text of the 404 for a queue that does not exist; one on a node that is down has a 404 with another text.
NO_QUEUE = "no queue"


class AmqpPoller:
    """Polls the queues of RabbitMQ.

    Args:
        broker: the broker to poll.
        state: the event state, with the queues named by task events and workers.
        configured: queues that are polled even if nothing else names them.
        api: the management API; None if it is not used.
    """

    def __init__(
        self,
        broker: Broker,
        state: EventState,
        *,
        configured: Iterable[str] = (),
        api: RabbitMqApi | None = None,
    ) -> None:
        self._broker = broker
        self._state = state
        self._configured = frozenset(configured)
        self._api = api
        self._link: AmqpLink | None = None
        # Any: py-amqp has no types.
        self._channel: Any = None

    def poll(self) -> Snapshot:
        """Poll once.

        Raises:
            OSError: the broker cannot be polled.
        """
        if self._api is not None:
            return self._with_api(self._api)
        names = sorted(self._configured | names_from(self._state))
        snapshot = self._declared(names[:MAX_QUEUES])
        snapshot.left_out = max(0, len(names) - MAX_QUEUES)
        return snapshot

    def close(self) -> None:
        """Close the connections."""
        if self._link is not None:
            self._link.close()
        if self._api is not None:
            self._api.close()

    def _with_api(self, api: RabbitMqApi) -> Snapshot:
        listing = api.queues()
        names = sorted({*listing.queues, *listing.uncounted})
        shown = names[:MAX_QUEUES]
        # New queues, and all queues of a server that collects no statistics.
        uncounted = [name for name in shown if name in listing.uncounted]
        snapshot = self._declared(uncounted) if uncounted else Snapshot()
        snapshot.queues.update((name, listing.queues[name]) for name in shown if name in listing.queues)
        snapshot.queues = dict(sorted(snapshot.queues.items()))
        snapshot.refused += listing.refused
        snapshot.blocked = listing.blocked
        snapshot.left_out = len(names) - len(shown) + listing.unread
        return snapshot

    def _declared(self, names: list[str]) -> Snapshot:
        is_new = self._link is None
        try:
            return self._ask_all(names)
        except Exception:
            self._drop()
            if is_new:
                raise
        # The connection may have been closed since the last round although the broker is up.
        try:
            return self._ask_all(names)
        except Exception:
            self._drop()
            raise

    def _ask_all(self, names: list[str]) -> Snapshot:
        if self._link is None:
            # Without heartbeats, because nothing would send any between two rounds.
            self._link = AmqpLink(self._broker)
        snapshot = Snapshot()
        for name in names:
            queue = self._ask(self._link, name, snapshot)
            if queue is not None:
                snapshot.queues[name] = queue
        return snapshot

    def _ask(self, link: AmqpLink, name: str, snapshot: Snapshot) -> Queue | None:
        """None if there is no such queue, or the broker refuses to answer: neither means an empty queue."""
        if self._channel is None:
            self._channel = link.connection.channel()
        try:
            answer = self._channel.queue_declare(queue=name, passive=True)
        except link.channel_errors as error:
            # The broker has closed the channel.
            self._channel = None
            text = str(getattr(error, "reply_text", "") or error)
            if getattr(error, "reply_code", 0) != NOT_FOUND or NO_QUEUE not in text:
                snapshot.refused.append(f"queue {name}: {text}")
            return None
        return Queue(length=answer.message_count, consumers=answer.consumer_count)

    def _drop(self) -> None:
        link, self._link, self._channel = self._link, None, None
        if link is not None:
            link.drop()
