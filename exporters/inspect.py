"""Celery's remote control (``inspect``): the queues that workers consume, their pools, and their tasks.

Sends the same broadcast as ``celery inspect``, without Celery. The number of workers that will reply is unknown, so it
always waits for its whole timeout. It therefore runs rarely, on its own thread, and never during a scrape.
"""

import contextlib
import time
import uuid
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import redis

from exporters.broker import Broker, RedisSettings, redis_pool
from exporters.decode import UndecodableError, decode_general, objects
from exporters.tables.held import HeldTask
from exporters.tables.state import EventState

if TYPE_CHECKING:
    from exporters.amqp import AmqpLink

# Seconds; workers that are busy for longer do not reply.
REPLY_TTL = 60
# Seconds; the longest time that closing the exporter waits for replies.
STEP_SECONDS = 0.3
BLOCKED = "RabbitMQ accepts no messages: it is short of memory or disk space"
METHODS = ("active_queues", "stats", "registered")
# The tasks that a worker holds: running, waiting for a free process, waiting for their eta.
TASK_METHODS = ("active", "reserved", "scheduled")
# Maximum number of task names kept for each worker, and of tasks that it holds.
MAX_NAMES = 2_000
MAX_HELD_TASKS = 20_000


@dataclass(frozen=True)
class WorkerReply:
    """The replies of one worker; None for requests that it did not answer.

    Attributes:
        queues: the queues that it consumes.
        pool_size: processes or threads.
        prefetch: number of unacknowledged messages that it may have, as it reports.
        tasks: names of the tasks that it has registered, without Celery's own.
    """

    queues: tuple[str, ...] | None = None
    pool_size: int | None = None
    prefetch: int | None = None
    tasks: tuple[str, ...] | None = None


# One worker's reply to one request: node name and value.
Reply = tuple[str, Any]


class Inspector(Protocol):
    """Asks every worker of one broker.

    ``blocked`` says why the broker accepted no messages when workers were last asked; empty if it did.
    """

    blocked: str

    def replies(self, methods: Sequence[str]) -> Iterator[Reply]:
        """The replies as they arrive, for some seconds; raises if the broker cannot be reached."""

    def close(self) -> None: ...


class Exchanges:
    """The exchanges of Celery's remote control.

    Args:
        control: Celery's ``control_exchange``.
    """

    def __init__(self, control: str = "celery") -> None:
        self.requests = f"{control}.pidbox"
        self.replies = f"reply.{control}.pidbox"


class RedisInspector:
    """Remote control over Redis.

    Args:
        settings: how to reach the broker.
        patience: seconds to wait for replies.
        control: Celery's ``control_exchange``.
    """

    def __init__(self, settings: RedisSettings, *, patience: float = 2.0, control: str = "celery") -> None:
        self._settings = settings
        self._patience = patience
        self._exchanges = Exchanges(control)
        self._closed = False
        self.blocked = ""
        self._client = redis.Redis(connection_pool=redis_pool(settings, name="celery-exporter-control"))

    def close(self) -> None:
        """Stop waiting for replies."""
        self._closed = True

    def replies(self, methods: Sequence[str]) -> Iterator[Reply]:
        """The replies as they arrive.

        Raises:
            redis.RedisError: the broker cannot be reached.
        """
        oid, replies = str(uuid.uuid4()), self._exchanges.replies
        prefix = self._settings.global_prefix
        queue, binding = f"{prefix}{oid}.{replies}", f"{prefix}_kombu.binding.{replies}"
        member = self._settings.separator.join((oid, "", f"{oid}.{replies}"))
        self._client.sadd(binding, member)
        try:
            for method in methods:
                self._client.publish(self._channel(), orjson.dumps(envelope(method, oid, self._exchanges)))
            yield from self._received(queue)
        finally:
            self._client.srem(binding, member)
            self._client.delete(queue)

    def _channel(self) -> str:
        return f"{self._settings.global_prefix}{self._settings.fanout_prefix}{self._exchanges.requests}"

    def _received(self, queue: str) -> Iterator[Reply]:
        end = time.monotonic() + self._patience
        while not self._closed and (left := end - time.monotonic()) > 0:
            popped = self._client.brpop([queue], timeout=min(max(left, 0.1), STEP_SECONDS))
            if popped is not None:
                with contextlib.suppress(UndecodableError):
                    yield from _replies_in(decode_general(bytes_of(popped[1])))


class AmqpInspector:
    """Remote control over RabbitMQ.

    Args:
        broker: the broker to ask.
        patience: seconds to wait for replies.
        control: Celery's ``control_exchange``.
    """

    def __init__(self, broker: Broker, *, patience: float = 2.0, control: str = "celery") -> None:
        self._broker = broker
        self._patience = patience
        self._exchanges = Exchanges(control)
        self._closed = False
        self.blocked = ""

    def close(self) -> None:
        """Stop waiting for replies."""
        self._closed = True

    def replies(self, methods: Sequence[str]) -> Iterator[Reply]:
        """The replies as they arrive.

        Raises:
            OSError: the broker cannot be reached.
        """
        # Imported only here, because RabbitMQ's client costs memory that Redis brokers do not need.
        from exporters.amqp import AmqpLink

        link = AmqpLink(self._broker)
        try:
            yield from self._received(link, methods)
        except Exception:
            link.drop()
            raise
        link.close()

    def _received(self, link: "AmqpLink", methods: Sequence[str]) -> Iterator[Reply]:
        arrived: list[Reply] = []
        reasons: list[str] = []
        # RabbitMQ notifies a connection only when it publishes something.
        link.connection.on_blocked = reasons.append
        self._ask(link.connection.channel(), methods, arrived)
        end = time.monotonic() + self._patience
        link.wait_at_most(STEP_SECONDS)
        while not self._closed and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                link.connection.drain_events()
            yield from arrived
            arrived.clear()
        self.blocked = BLOCKED if reasons else ""

    def _ask(self, channel: Any, methods: Sequence[str], arrived: list[Reply]) -> None:
        from amqp import Message

        def take(message: Any) -> None:
            body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            content = message.properties.get("content_type", ""), "utf-8"
            with contextlib.suppress(UndecodableError):
                arrived.extend(_replies_in(objects(body, *content)))

        oid, replies = str(uuid.uuid4()), self._exchanges.replies
        queue = f"{oid}.{replies}"
        channel.exchange_declare(replies, "direct", durable=False, auto_delete=False)
        channel.queue_declare(queue, exclusive=True, durable=False, auto_delete=True)
        channel.queue_bind(queue, replies, routing_key=oid)
        channel.basic_consume(queue, no_ack=True, callback=take)
        # Declared as workers do, because before the first worker starts, the exchange may not exist.
        channel.exchange_declare(self._exchanges.requests, "fanout", durable=False, auto_delete=False)
        for method in methods:
            message = Message(
                orjson.dumps(request(method, oid, self._exchanges)),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=1,
                application_headers={"clock": 1, "expires": time.time() + REPLY_TTL},
            )
            channel.basic_publish(message, exchange=self._exchanges.requests)


def request(method: str, oid: str, exchanges: Exchanges) -> dict[str, Any]:
    """The body of a remote-control message as Celery sends it."""
    return {
        "method": method,
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": str(uuid.uuid4()),
        "reply_to": {"exchange": exchanges.replies, "routing_key": oid},
    }


def envelope(method: str, oid: str, exchanges: Exchanges) -> dict[str, Any]:
    """The same in kombu's envelope for Redis."""
    return {
        "body": b64encode(orjson.dumps(request(method, oid, exchanges))).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"clock": 1, "expires": time.time() + REPLY_TTL},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": exchanges.requests, "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def bytes_of(value: bytes | str) -> bytes:
    """A Redis reply as bytes. Our connections always return bytes, but the type hints cannot express that."""
    return value if isinstance(value, bytes) else value.encode()


def _replies_in(objects_: Iterable[Any]) -> Iterator[Reply]:
    """The replies in a message: ``{node: value}``."""
    for item in objects_:
        if isinstance(item, dict):
            yield from ((str(node), value) for node, value in item.items())


# One worker's replies, by method.
Parts = dict[str, Any]


def ask(inspector: Inspector) -> dict[str, WorkerReply]:
    """What workers reply about their queues, pools and tasks, by node name; only the type of a value identifies the
    method.

    Raises:
        OSError, redis.RedisError: the broker cannot be reached.
    """
    found: dict[str, Parts] = {}
    for node, value in inspector.replies(METHODS):
        found.setdefault(node, {})[_method_of(value)] = value
    return {node: reply_from(parts) for node, parts in found.items()}


def adopt_held(inspector: Inspector, state: EventState) -> None:
    """Add the tasks that workers hold to the event state, reply by reply: their events preceded the subscription.

    Raises:
        OSError, redis.RedisError: the broker cannot be reached.
    """
    for _, value in inspector.replies(TASK_METHODS):
        if isinstance(value, list):
            state.adoption.add(
                [task for item in value[:MAX_HELD_TASKS] if (task := held_task(item)) is not None]
            )


def held_task(item: Any) -> HeldTask | None:
    """A task in a reply to active, reserved or scheduled; None if it is not one."""
    if not isinstance(item, dict):
        return None
    eta, task = item.get("eta"), item.get("request", item)
    if not isinstance(task, dict):
        return None
    uuid_, name, info = task.get("id"), task.get("name"), task.get("delivery_info")
    if not isinstance(uuid_, str) or not isinstance(name, str):
        return None
    info = info if isinstance(info, dict) else {}
    exchange, key = info.get("exchange"), info.get("routing_key")
    # The default exchange, and Celery's own direct ones, route by the name of the queue.
    queue = key if isinstance(key, str) and key and exchange in ("", key) else None
    return HeldTask(uuid_, name, queue, eta if isinstance(eta, str) else None)


def _method_of(value: Any) -> str:
    if isinstance(value, dict):
        return "stats"
    names_tasks = isinstance(value, list) and all(isinstance(item, str) for item in value) and value
    return "registered" if names_tasks else "active_queues"


def reply_from(parts: Parts) -> WorkerReply:
    """One worker's replies, combined."""
    queues, stats = parts.get("active_queues"), parts.get("stats")
    names = None
    if isinstance(queues, list):
        names = tuple(str(queue["name"]) for queue in queues if isinstance(queue, dict) and "name" in queue)
    stats = stats if isinstance(stats, dict) else {}
    tasks = parts.get("registered")
    return WorkerReply(
        names,
        _pool_size(stats.get("pool")),
        _count(stats.get("prefetch_count")),
        # Details in brackets may follow the name.
        tuple(task.partition(" ")[0] for task in tasks[:MAX_NAMES]) if tasks else None,
    )


def _pool_size(pool: Any) -> int | None:
    if not isinstance(pool, dict):
        return None
    processes = pool.get("processes")
    return len(processes) if isinstance(processes, list) else _count(pool.get("max-concurrency"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def apply(replies: Mapping[str, WorkerReply], state: EventState) -> None:
    """Store the replies for the collectors. Workers that did not reply keep their previous values."""
    roster, now = state.roster, time.monotonic()
    for node, reply in replies.items():
        worker = roster.answered(node, now)
        if worker is None:
            continue
        if reply.queues is not None:
            worker.queues, worker.queues_known, roster.replied = reply.queues, True, True
        if reply.pool_size is not None:
            worker.pool_size = reply.pool_size
        if reply.prefetch is not None:
            worker.prefetch = reply.prefetch
    state.expected.set(
        {(task, reply.queues or ()) for reply in replies.values() for task in reply.tasks or ()}
    )
