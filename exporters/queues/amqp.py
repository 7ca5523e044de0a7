"""Queues on RabbitMQ: a passive declaration tells length and consumers, and changes nothing."""

import contextlib
from collections.abc import Iterable
from typing import Any

from exporters.broker import Broker
from exporters.events.amqp import connection
from exporters.queues.collector import Queue, Snapshot, names_from
from exporters.tables.state import EventState


class AmqpPoller:
    """Asks a broker about queues by name; AMQP cannot list them.

    Args:
        broker: where.
        state: what task events and workers say about queues.
        configured: queues that are asked about even when nothing else mentions them.
    """

    def __init__(self, broker: Broker, state: EventState, *, configured: Iterable[str] = ()) -> None:
        self._link = connection(broker)
        self._state = state
        self._configured = frozenset(configured)
        # Any: each transport has a class of its own.
        self._channel: Any = None

    def poll(self) -> Snapshot:
        """One round; raises what the transport raises when the broker cannot be asked."""
        self._link.ensure_connection(max_retries=1)
        names = sorted(self._configured | names_from(self._state))
        try:
            asked = {name: self._ask(name) for name in names}
        except Exception:
            # The connection may be gone, and the channel with it.
            self._drop_channel()
            raise
        return Snapshot({name: queue for name, queue in asked.items() if queue is not None})

    def close(self) -> None:
        self._link.release()

    def _ask(self, name: str) -> Queue | None:
        """None when there is no such queue: that is not an empty one."""
        if self._channel is None:
            self._channel = self._link.channel()
        try:
            told = self._channel.queue_declare(queue=name, passive=True)
        except self._link.channel_errors:
            # The broker closes a channel over a queue that is missing.
            self._drop_channel()
            return None
        return Queue(length=told.message_count, consumers=told.consumer_count)

    def _drop_channel(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            with contextlib.suppress(Exception):
                channel.close()
