"""Queues on Redis, polled in pipelines. A full queue costs as much as an empty one."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import redis

from exporters.broker import RedisSettings, redis_pool
from exporters.instrument import HEADER as STAMP
from exporters.queues.bindings import Bindings, pipelined
from exporters.queues.model import Queue, Snapshot, names_from
from exporters.queues.unacked import Unacked
from exporters.tables.state import EventState

MAX_QUEUES = 5_000
BEAT_HEADER = "periodic_task_name"


class RedisPoller:
    """Polls the queues of a Redis broker.

    Args:
        settings: how to reach the broker, and which names kombu uses in it.
        state: the event state, with the join table for the ages of messages, and the queues named by events.
        configured: queues that are exposed even if nothing else names them.
        own_client: the client ID of the event subscription, to read its output buffer.
        event_exchange: Celery's setting of that name; queues bound to it carry events.
    """

    def __init__(
        self,
        settings: RedisSettings,
        state: EventState,
        *,
        configured: Iterable[str] = (),
        own_client: Callable[[], int | None] = lambda: None,
        event_exchange: str = "celeryev",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._state = state
        self._clock = clock
        self._own_client = own_client
        self._client = redis.Redis(connection_pool=redis_pool(settings, name="celery-exporter-queues"))
        self._configured = frozenset(configured)
        self._bindings = Bindings(self._client, settings, event_exchange, self._refuse)
        self._unacked = Unacked(self._client, settings, self._bindings, self._learn, self._refuse)
        # Redis list → (ID at its tail, epoch seconds at which it was first seen there).
        self._tails: dict[str, tuple[str, float]] = {}
        # Redis's reasons for not answering, in this round.
        self._refused: list[str] = []
        # Queues with an undated message that appeared in this round.
        self._unsure: set[str] = set()

    def close(self) -> None:
        self._client.close()

    def poll(self) -> Snapshot:
        """Poll once.

        Raises:
            redis.RedisError: the broker cannot be polled.
        """
        self._refused = []
        known = sorted(self._discovered())
        names = known[:MAX_QUEUES]
        lengths = self._lengths(names)
        ages = self._ages(lengths)
        unacked = self._unacked.counts()
        queues = {
            name: Queue(
                sum(lists.values()),
                None if unacked is None else unacked.pop(name, 0),
                ages.get(name, 0.0),
                age_is_known=name not in self._unsure,
            )
            for name, lists in lengths.items()
        }
        for name, count in (unacked or {}).items():
            queues.setdefault(name, Queue(None)).unacked = count
        return Snapshot(
            queues,
            self._output_buffer(),
            left_out=len(known) - len(names),
            refused=self._refused,
            is_whole=self._bindings.scanned,
        )

    def _discovered(self) -> frozenset[str]:
        self._bindings.refresh()
        return self._configured.union(names_from(self._state), *self._bindings.routes.values())

    def _refuse(self, reason: str) -> None:
        self._refused.append(reason)

    def _lists(self, queue: str) -> list[str]:
        settings = self._settings
        base = settings.global_prefix + queue
        # kombu uses the plain name for step 0; tools of other brokers push there too.
        others = [f"{base}{settings.separator}{step}" for step in settings.priority_steps if step]
        return [base, *others]

    def _lengths(self, names: list[str]) -> dict[str, dict[str, int]]:
        lists = {name: self._lists(name) for name in names}
        asked = [key for keys in lists.values() for key in keys]
        found = dict(zip(asked, pipelined(self._client, (("LLEN", key) for key in asked)), strict=True))
        lengths = {}
        for name, keys in lists.items():
            # A key that this user may not read, or that is not a list: neither is an empty queue.
            errors = [found[key] for key in keys if isinstance(found[key], Exception)]
            if errors:
                self._refused.append(f"queue {name}: {errors[0]}")
            else:
                lengths[name] = {key: found[key] for key in keys}
        return lengths

    def _ages(self, lengths: dict[str, dict[str, int]]) -> dict[str, float]:
        filled = [(name, key) for name, lists in lengths.items() for key, length in lists.items() if length]
        tails = pipelined(self._client, (("LINDEX", key, -1) for _, key in filled))
        now, ages, seen = self._clock(), dict[str, float](), dict[str, tuple[str, float]]()
        self._unsure.clear()
        for (name, key), raw in zip(filled, tails, strict=True):
            if isinstance(raw, bytes):
                task_id, since = self._since(name, key, raw, now)
                seen[key] = (task_id, since)
                ages[name] = max(ages.get(name, 0.0), now - since, 0.0)
        self._tails = seen
        return ages

    def _since(self, queue: str, key: str, raw: bytes, now: float) -> tuple[str, float]:
        headers, task_id = _identified(raw)
        self._learn(headers, queue)
        stamp = _stamp_of(headers)
        if stamp is not None:
            return task_id, stamp
        due = self._state.tasks.due(task_id)
        if due is not None:
            return task_id, due
        known = self._tails.get(key)
        if known and known[0] == task_id:
            return task_id, known[1]
        self._unsure.add(queue)
        return task_id, now

    def _learn(self, headers: Mapping[str, Any], queue: str) -> None:
        task = headers.get("task")
        if isinstance(task, str):
            self._state.groups.learn(task, queue)
            # django-celery-beat adds a header to what it sends.
            beat = self._state.beat
            if BEAT_HEADER in headers and len(beat.names) < MAX_QUEUES:
                beat.names |= {task}

    def _output_buffer(self) -> int | None:
        client = self._own_client()
        if client is None:
            return None
        (answer,) = pipelined(self._client, [("CLIENT", "LIST", "ID", client)])
        for part in (answer if isinstance(answer, bytes) else b"").split():
            if part.startswith(b"omem="):
                return int(part[5:])
        return None


def _identified(raw: bytes) -> tuple[dict[str, Any], str]:
    """A message's headers, and what distinguishes it from others: its task's ID where it has one."""
    try:
        message = orjson.loads(raw)
        headers, properties = message.get("headers"), message.get("properties")
    except (ValueError, AttributeError):
        headers = properties = None
    headers = headers if isinstance(headers, dict) else {}
    properties = properties if isinstance(properties, dict) else {}
    # Celery's protocol 1 has the ID in the properties only, and other senders may have none.
    return headers, str(headers.get("id") or properties.get("correlation_id") or hash(raw))


def _stamp_of(headers: Mapping[str, Any]) -> float | None:
    """When the message began to wait, according to the application's stamp."""
    stamp = headers.get(STAMP)
    return float(stamp) if isinstance(stamp, float | int) else None
