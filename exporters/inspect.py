"""What workers answer when they are asked: which queues they consume, how large their pools are.

The same broadcast that ``celery inspect`` makes, over Redis without Celery. It waits for its whole time-out, since
nobody knows how many will answer; so it runs at a slow pace on a thread of its own and never in a scrape.
"""

import time
import uuid
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import redis

from exporters.broker import Broker, RedisSettings, redis_pool
from exporters.decode import decode_general
from exporters.tables.state import EventState

REPLY_EXCHANGE = "reply.celery.pidbox"
# Workers that are busy for longer need not answer any more.
REPLY_TTL = 60
# A closing exporter need not wait for workers that do not answer.
STEP_SECONDS = 0.3


@dataclass(frozen=True)
class WorkerReply:
    """What one worker said; None where it did not."""

    queues: tuple[str, ...] | None = None
    pool_size: int | None = None
    prefetch: int | None = None


class Inspector(Protocol):
    """Asks every worker of one broker."""

    def ask(self) -> dict[str, WorkerReply]:
        """The answers by node name; raises when the broker cannot be reached."""

    def close(self) -> None: ...


class RedisInspector:
    """Remote control over Redis.

    Args:
        settings: how to reach the broker.
        patience: seconds to wait for answers.
        exchange: the fanout exchange of Celery's remote control.
    """

    def __init__(
        self, settings: RedisSettings, *, patience: float = 2.0, exchange: str = "celery.pidbox"
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._exchange = exchange
        self._closed = False
        self._client = redis.Redis(connection_pool=redis_pool(settings, name="celery-exporter-control"))

    def close(self) -> None:
        self._closed = True

    def ask(self) -> dict[str, WorkerReply]:
        oid = str(uuid.uuid4())
        prefix = self._settings.global_prefix
        queue, binding = f"{prefix}{oid}.{REPLY_EXCHANGE}", f"{prefix}_kombu.binding.{REPLY_EXCHANGE}"
        member = self._settings.separator.join((oid, "", f"{oid}.{REPLY_EXCHANGE}"))
        self._client.sadd(binding, member)
        try:
            for method in ("active_queues", "stats"):
                self._client.publish(self._channel(), request(method, oid))
            return self._answers(queue)
        finally:
            self._client.srem(binding, member)
            self._client.delete(queue)

    def _channel(self) -> str:
        return f"{self._settings.global_prefix}{self._settings.fanout_prefix}{self._exchange}"

    def _answers(self, queue: str) -> dict[str, WorkerReply]:
        found: dict[str, dict[str, Any]] = {}
        end = time.monotonic() + self._patience
        while not self._closed and (left := end - time.monotonic()) > 0:
            popped = self._client.brpop([queue], timeout=min(max(left, 0.1), STEP_SECONDS))
            if popped is not None:
                for reply in decode_general(bytes_of(popped[1])):
                    _merge(found, reply)
        return {node: _answer(parts) for node, parts in found.items()}


class CeleryInspector:
    """Remote control through Celery, for brokers without a path of our own."""

    def __init__(self, broker: Broker, *, patience: float = 2.0) -> None:
        # Loaded here only: Redis brokers do without it.
        from celery import Celery

        self._app = Celery(broker=broker.url, broker_transport_options=dict(broker.options))
        self._patience = patience

    def ask(self) -> dict[str, WorkerReply]:
        inspect = self._app.control.inspect(timeout=self._patience)
        queues, stats = inspect.active_queues() or {}, inspect.stats() or {}
        return {node: answer_from(queues.get(node), stats.get(node)) for node in {*queues, *stats}}

    def close(self) -> None:
        self._app.close()


def request(method: str, oid: str) -> bytes:
    """A remote-control message as Celery sends it."""
    body = {
        "method": method,
        "arguments": {},
        "destination": None,
        "pattern": None,
        "matcher": None,
        "ticket": str(uuid.uuid4()),
        "reply_to": {"exchange": REPLY_EXCHANGE, "routing_key": oid},
    }
    return orjson.dumps(
        {
            "body": b64encode(orjson.dumps(body)).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"clock": 1, "expires": time.time() + REPLY_TTL},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    )


def bytes_of(value: bytes | str) -> bytes:
    """An answer as bytes, which it is with the connections made here; the types cannot say so."""
    return value if isinstance(value, bytes) else value.encode()


def _merge(found: dict[str, dict[str, Any]], reply: Mapping[str, Any]) -> None:
    # {node: [queue, …]} answers active_queues, {node: {…}} answers stats.
    for node, said in reply.items():
        part = "queues" if isinstance(said, list) else "stats"
        found.setdefault(node, {})[part] = said


def _answer(parts: Mapping[str, Any]) -> WorkerReply:
    return answer_from(parts.get("queues"), parts.get("stats"))


def answer_from(queues: Any, stats: Any) -> WorkerReply:
    """One worker's answer from what ``active_queues`` and ``stats`` returned."""
    names = None
    if isinstance(queues, list):
        names = tuple(str(queue["name"]) for queue in queues if isinstance(queue, dict) and "name" in queue)
    stats = stats if isinstance(stats, dict) else {}
    return WorkerReply(names, _pool_size(stats.get("pool")), _count(stats.get("prefetch_count")))


def _pool_size(pool: Any) -> int | None:
    if not isinstance(pool, dict):
        return None
    processes = pool.get("processes")
    return len(processes) if isinstance(processes, list) else _count(pool.get("max-concurrency"))


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def apply(answers: Mapping[str, WorkerReply], state: EventState) -> None:
    """Put the answers where the collectors read them; silent workers keep what they said before."""
    state.inspected = True
    for node, answer in answers.items():
        worker = state.workers.get(node)
        if worker is None:
            continue
        if answer.queues is not None:
            worker.queues = answer.queues
        if answer.pool_size is not None:
            worker.pool_size = answer.pool_size
        if answer.prefetch is not None:
            worker.prefetch = answer.prefetch
