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
# Seconds that a round may spend on the scan for bindings: until all keys were seen once, and afterwards. The broker may
# share its database with a large cache.
FIRST_SCAN_SECONDS = 1.0
LATER_SCAN_SECONDS = 0.05
# Target duration of one step of the scan, in seconds. During a step, Redis answers no other client.
STEP_SECONDS = 0.001
# Minimum and maximum number of keys of a step.
MIN_COUNT, MAX_COUNT = 500, 5_000
# Steps are judged in groups of this size, by the fastest of each. After this number of groups in a row that were all too
# slow, steps become shorter.
STEPS_TO_JUDGE, SLOW_TO_SHRINK = 8, 8


class StepSize:
    """The number of keys that Redis scans in one step: as many as it can in about :data:`STEP_SECONDS`.

    On a busy host most steps are delayed by other work, so only the fastest ones show how long Redis takes.
    """

    def __init__(self) -> None:
        self.count = MIN_COUNT
        self._took: list[float] = []
        self._slow = 0

    def judge(self, seconds: float) -> None:
        """Take the duration of one more step, as the client sees it."""
        self._took.append(seconds)
        if len(self._took) < STEPS_TO_JUDGE:
            return
        fastest = min(self._took)
        self._took.clear()
        self._slow = self._slow + 1 if fastest > 1.5 * STEP_SECONDS else 0
        if not self._slow:
            self._change(STEP_SECONDS / max(fastest, STEP_SECONDS / 2))
        elif self._slow == SLOW_TO_SHRINK:
            self._slow = 0
            self._change(0.5)

    def _change(self, factor: float) -> None:
        self.count = round(min(max(self.count * factor, MIN_COUNT), MAX_COUNT))


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.routes: dict[tuple[str, str], set[str]] = {}
        self.scanned = False
        self._client = client
        self._refuse = refuse
        self._clock = clock
        self._step = StepSize()
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
        begun = self._clock()
        end = begun + (LATER_SCAN_SECONDS if self.scanned else FIRST_SCAN_SECONDS)
        while True:
            self._cursor, keys = self._client.scan(
                self._cursor, match=f"{glob_escaped(self._prefix)}*", count=self._step.count, _type="SET"
            )
            self._keys.update(bytes_of(key).decode(errors="replace") for key in keys)
            began, begun = begun, self._clock()
            if self._cursor == 0:
                # The last step of a pass may have had fewer keys.
                self.scanned = True
                break
            self._step.judge(begun - began)
            if begun > end:
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
