"""Queues on RabbitMQ: a passive declaration tells length and consumers, and changes nothing."""

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

    def poll(self) -> Snapshot:
        """One round; raises what the transport raises when the broker cannot be asked."""
        self._link.ensure_connection(max_retries=1)
        names = sorted(self._configured | names_from(self._tables))
        return Snapshot({name: self._ask(name) for name in names})

    def close(self) -> None:
        self._link.release()

    def _ask(self, name: str) -> Queue:
        try:
            told = self._channel().queue_declare(queue=name, passive=True)
        except self._link.channel_errors:
            # No such queue; the broker has closed the channel over it.
            return Queue()
        return Queue(length=told.message_count, consumers=told.consumer_count)

    def _channel(self) -> Any:
        channel = self._link.default_channel
        return channel if getattr(channel, "is_open", True) else self._link.channel()


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
