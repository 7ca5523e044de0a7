"""kombu's bindings on Redis: sets that name the queues of each exchange, found among all keys of the database."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import redis

from exporters.broker import RedisSettings
from exporters.events.redis import glob_escaped
from exporters.inspect import bytes_of
from exporters.queues.model import OF_ONE_PROCESS

BINDING = "_kombu.binding."
# kombu's own exchanges: their queues carry remote control and events, not tasks.
INTERNAL_ENDS = (".pidbox", ".celeryev")
# Number of keys that Redis scans in one step: less than 2 ms of its time.
SCAN_COUNT = 500
# Seconds of a round for the scan for bindings: until all keys were seen once, and afterwards. The broker may share its
# database with a large cache.
FIRST_SCAN_SECONDS = 4.0
LATER_SCAN_SECONDS = 0.05


class Bindings:
    """The bindings of one broker.

    Args:
        event_exchange: Celery's setting of that name; queues bound to it carry events.
        refuse: called with each reason why Redis did not answer.

    Attributes:
        routes: (exchange, routing key) → queues.
        scanned: whether every key of the database was seen once.
    """

    def __init__(
        self,
        client: redis.Redis,
        settings: RedisSettings,
        event_exchange: str,
        refuse: Callable[[str], None],
    ) -> None:
        self.routes: dict[tuple[str, str], set[str]] = {}
        self.scanned = False
        self._client = client
        self._refuse = refuse
        self._separator = settings.separator
        self._prefix = settings.global_prefix + BINDING
        self._events = self._prefix + event_exchange
        self._keys: set[str] = set()
        self._cursor = 0

    def refresh(self) -> None:
        """Scan further, and read all known bindings again."""
        self._scan()
        self._read()

    def _scan(self) -> None:
        """Scan the database's keys for bindings, in short steps, for a limited time."""
        end = time.monotonic() + (LATER_SCAN_SECONDS if self.scanned else FIRST_SCAN_SECONDS)
        while True:
            self._cursor, keys = self._client.scan(
                self._cursor, match=f"{glob_escaped(self._prefix)}*", count=SCAN_COUNT, _type="SET"
            )
            self._keys.update(bytes_of(key).decode(errors="replace") for key in keys)
            if self._cursor == 0:
                self.scanned = True
            if self._cursor == 0 or time.monotonic() > end:
                break

    def _read(self) -> None:
        keys = [key for key in self._keys if not key.endswith(INTERNAL_ENDS) and key != self._events]
        # Read again each time: a deleted queue is no longer bound.
        self.routes = {}
        replies = pipelined(self._client, (("SMEMBERS", key) for key in keys))
        for key, members in zip(keys, replies, strict=True):
            if isinstance(members, Exception):
                self._refuse(f"key {key}: {members}")
                continue
            if not members:
                self._keys.discard(key)
            for member in members:
                self._bind(key.removeprefix(self._prefix), member.decode(errors="replace"))

    def _bind(self, exchange: str, member: str) -> None:
        routing_key, _, rest = member.partition(self._separator)
        queue = rest.rpartition(self._separator)[2]
        if queue and not queue.endswith(INTERNAL_ENDS) and not queue.startswith(OF_ONE_PROCESS):
            self.routes.setdefault((exchange, routing_key), set()).add(queue)


def pipelined(client: redis.Redis, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """The replies to many commands in one round trip; an exception for each error."""
    pipeline: Any = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    if not len(pipeline):
        return []
    return list(pipeline.execute(raise_on_error=False))
