"""Queues on RabbitMQ: a passive declaration tells length and consumers, and changes nothing."""

import contextlib
from collections.abc import Iterable
from typing import Any

from exporters.broker import Broker
from exporters.intake_kombu import connection
from exporters.queues import Queue, Snapshot, names_from
from exporters.remote import Answer, answer_from
from exporters.tasks import Tables


class AmqpPoller:
    """Asks a broker about queues by name; AMQP cannot list them.

    Args:
        broker: where.
        tables: what task events and workers say about queues.
        configured: queues that are asked about even when nothing else mentions them.
    """

    def __init__(self, broker: Broker, tables: Tables, *, configured: Iterable[str] = ()) -> None:
        self._link = connection(broker)
        self._tables = tables
        self._configured = frozenset(configured)
        # Any: each transport has a class of its own.
        self._channel: Any = None

    def poll(self) -> Snapshot:
        """One round; raises what the transport raises when the broker cannot be asked."""
        self._link.ensure_connection(max_retries=1)
        names = sorted(self._configured | names_from(self._tables))
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


class CeleryAsker:
    """Remote control through Celery, for brokers without a path of our own."""

    def __init__(self, broker: Broker, *, patience: float = 2.0) -> None:
        # Loaded here only: Redis brokers do without it.
        from celery import Celery

        self._app = Celery(broker=broker.url, broker_transport_options=dict(broker.options))
        self._patience = patience

    def ask(self) -> dict[str, Answer]:
        inspect = self._app.control.inspect(timeout=self._patience)
        queues, stats = inspect.active_queues() or {}, inspect.stats() or {}
        return {node: answer_from(queues.get(node), stats.get(node)) for node in {*queues, *stats}}

    def close(self) -> None:
        self._app.close()
