"""Messages on Redis that were delivered and not acknowledged, by queue."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import redis

from exporters.broker import RedisSettings
from exporters.queues.bindings import Bindings, pipelined

# Number of delivery tags that are read in one round; the rest is counted under `unknown`.
MAX_TAGS = 10_000
NEW_TAGS_A_ROUND = 500
UNKNOWN = "unknown"


class Unacked:
    """Counts unacknowledged messages.

    Args:
        bindings: name the queue of a message that was sent through an exchange.
        learn: called with the headers and the queue of each message that is read.
        refuse: called with each reason why Redis did not answer.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: RedisSettings,
        bindings: Bindings,
        learn: Callable[[Mapping[str, Any], str], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._client = client
        self._index = settings.global_prefix + settings.unacked_index
        self._values = settings.global_prefix + settings.unacked
        self._bindings = bindings
        self._learn = learn
        self._refuse = refuse
        self._tags: dict[bytes, str] = {}

    def counts(self) -> dict[str, int] | None:
        """Number of messages by queue; None if Redis does not answer. Each message is read only once."""
        total, tags = pipelined(
            self._client, [("ZCARD", self._index), ("ZRANGE", self._index, 0, MAX_TAGS - 1)]
        )
        for answer in (total, tags):
            if isinstance(answer, Exception):
                self._refuse(f"key {self._index}: {answer}")
                return None
        fresh = [tag for tag in tags if tag not in self._tags][:NEW_TAGS_A_ROUND]
        if fresh:
            (values,) = pipelined(self._client, [("HMGET", self._values, *fresh)])
            if isinstance(values, Exception):
                self._refuse(f"key {self._values}: {values}")
                values = ()
            self._tags.update(
                (tag, self._queue_of(value)) for tag, value in zip(fresh, values, strict=False) if value
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
            routed = self._bindings.routes.get((exchange, routing_key), set())
            # If several queues have the same binding, the message does not show which one it was in.
            queue = next(iter(routed)) if len(routed) == 1 else UNKNOWN if exchange else routing_key
            if queue != UNKNOWN:
                self._learn(message.get("headers") or {}, queue)
            return str(queue)
        except (ValueError, TypeError, AttributeError):
            return UNKNOWN
