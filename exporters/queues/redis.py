"""Queues on Redis, polled in pipelines. A full queue costs as much as an empty one."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
import redis

from exporters.broker import RedisSettings, redis_pool
from exporters.events.redis import glob_escaped
from exporters.inspect import bytes_of
from exporters.instrument import HEADER as STAMP
from exporters.queues.model import OF_ONE_PROCESS, Queue, Snapshot, names_from
from exporters.tables.state import EventState

BINDING = "_kombu.binding."
# kombu's own exchanges: their queues carry remote control and events, not tasks.
INTERNAL_ENDS = (".pidbox", ".celeryev")
# Number of keys that Redis scans in one step: less than 2 ms of its time.
SCAN_COUNT = 500
# Seconds of a round for the scan for bindings: until all keys were seen once, and afterwards. The broker may share its
# database with a large cache.
FIRST_SCAN_SECONDS = 4.0
LATER_SCAN_SECONDS = 0.05
# Number of delivery tags that are read in one round; the rest is counted under `unknown`.
MOST_TAGS = 10_000
NEW_TAGS_A_ROUND = 500
MOST_QUEUES = 5_000
BEAT_HEADER = "periodic_task_name"
UNKNOWN = "unknown"


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
        self._event_exchange = event_exchange
        self._bindings: set[str] = set()
        self._routes: dict[tuple[str, str], set[str]] = {}
        self._cursor = 0
        # Whether every key of the database was seen once.
        self._scanned = False
        self._tags: dict[bytes, str] = {}
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
        names = known[:MOST_QUEUES]
        lengths = self._lengths(names)
        ages = self._ages(lengths)
        unacked = self._unacked()
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
            is_whole=self._scanned,
        )

    # Discovery

    def _discovered(self) -> frozenset[str]:
        prefix = self._settings.global_prefix + BINDING
        self._scan(prefix)
        self._read_bindings(prefix)
        return self._configured.union(names_from(self._state), *self._routes.values())

    def _scan(self, prefix: str) -> None:
        """Scan the database's keys for bindings, in short steps, for a limited time."""
        end = time.monotonic() + (LATER_SCAN_SECONDS if self._scanned else FIRST_SCAN_SECONDS)
        while True:
            self._cursor, keys = self._client.scan(
                self._cursor, match=f"{glob_escaped(prefix)}*", count=SCAN_COUNT, _type="SET"
            )
            self._bindings.update(bytes_of(key).decode(errors="replace") for key in keys)
            if self._cursor == 0:
                self._scanned = True
            if self._cursor == 0 or time.monotonic() > end:
                break

    def _read_bindings(self, prefix: str) -> None:
        events = prefix + self._event_exchange
        keys = [key for key in self._bindings if not key.endswith(INTERNAL_ENDS) and key != events]
        # Read again each time: a deleted queue is no longer bound.
        self._routes = {}
        members = self._pipeline(("SMEMBERS", key) for key in keys)
        for key, found in zip(keys, members, strict=True):
            if isinstance(found, Exception):
                self._refused.append(f"key {key}: {found}")
                continue
            if not found:
                self._bindings.discard(key)
            for member in found:
                self._bind(key.removeprefix(prefix), member.decode(errors="replace"))

    def _bind(self, exchange: str, member: str) -> None:
        routing_key, _, rest = member.partition(self._settings.separator)
        queue = rest.rpartition(self._settings.separator)[2]
        if queue and not queue.endswith(INTERNAL_ENDS) and not queue.startswith(OF_ONE_PROCESS):
            self._routes.setdefault((exchange, routing_key), set()).add(queue)

    # Lengths and ages

    def _lists(self, queue: str) -> list[str]:
        settings = self._settings
        base = settings.global_prefix + queue
        # kombu uses the plain name for step 0; tools of other brokers push there too.
        others = [f"{base}{settings.separator}{step}" for step in settings.priority_steps if step]
        return [base, *others]

    def _lengths(self, names: list[str]) -> dict[str, dict[str, int]]:
        lists = {name: self._lists(name) for name in names}
        asked = [key for keys in lists.values() for key in keys]
        found = dict(zip(asked, self._pipeline(("LLEN", key) for key in asked), strict=True))
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
        tails = self._pipeline(("LINDEX", key, -1) for _, key in filled)
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

    # Delivered, not acknowledged

    def _unacked(self) -> dict[str, int] | None:
        """Unacknowledged messages by queue; None when Redis does not say."""
        settings = self._settings
        index, values = (
            settings.global_prefix + settings.unacked_index,
            settings.global_prefix + settings.unacked,
        )
        total, tags = self._pipeline([("ZCARD", index), ("ZRANGE", index, 0, MOST_TAGS - 1)])
        for answer in (total, tags):
            if isinstance(answer, Exception):
                self._refused.append(f"key {index}: {answer}")
                return None
        fresh = [tag for tag in tags if tag not in self._tags][:NEW_TAGS_A_ROUND]
        if fresh:
            (found,) = self._pipeline([("HMGET", values, *fresh)])
            if isinstance(found, Exception):
                self._refused.append(f"key {values}: {found}")
                found = ()
            self._tags.update(
                (tag, self._queue_of(value)) for tag, value in zip(fresh, found, strict=False) if value
            )
        self._tags = {tag: self._tags[tag] for tag in tags if tag in self._tags}
        counts: dict[str, int] = {}
        for queue in self._tags.values():
            counts[queue] = counts.get(queue, 0) + 1
        rest = total - len(self._tags)
        return {**counts, UNKNOWN: counts.get(UNKNOWN, 0) + rest} if rest > 0 else counts

    def _queue_of(self, value: bytes) -> str:
        try:
            message, exchange, routing_key = orjson.loads(value)[:3]
            routed = self._routes.get((exchange, routing_key), set())
            # If several queues have the same binding, the message does not show which one it was in.
            queue = next(iter(routed)) if len(routed) == 1 else UNKNOWN if exchange else routing_key
            if queue != UNKNOWN:
                self._learn(message.get("headers") or {}, queue)
            return str(queue)
        except (ValueError, TypeError, AttributeError):
            return UNKNOWN

    def _learn(self, headers: Mapping[str, Any], queue: str) -> None:
        task = headers.get("task")
        if isinstance(task, str):
            self._state.groups.learn(task, queue)
            # django-celery-beat adds a header to what it sends.
            beat = self._state.beat
            if BEAT_HEADER in headers and len(beat.names) < MOST_QUEUES:
                beat.names |= {task}

    # The rest

    def _output_buffer(self) -> int | None:
        client = self._own_client()
        if client is None:
            return None
        (answer,) = self._pipeline([("CLIENT", "LIST", "ID", client)])
        for part in (answer if isinstance(answer, bytes) else b"").split():
            if part.startswith(b"omem="):
                return int(part[5:])
        return None

    def _pipeline(self, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The replies to many commands in one round trip; an exception for each error."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        if not len(pipeline):
            return []
        return list(pipeline.execute(raise_on_error=False))


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
