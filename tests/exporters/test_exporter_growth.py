"""What the growth of an installation costs: the exponent of a curve, and queues among a million other keys."""

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from bench.growth.curve import Curve
from bench.growth.exporter import redis_cpu
from exporters.broker import parse_broker, redis_settings
from exporters.pipeline import wait_until
from exporters.queues.bindings import MAX_COUNT, MIN_COUNT, Bindings, StepSize
from exporters.queues.collector import Consumers
from exporters.queues.redis import RedisPoller
from exporters.supervise import Periodic
from exporters.tables.state import EventState
from stack.servers import Redis


@pytest.mark.parametrize(
    ("points", "exponent"),
    [
        ({10: 5, 100: 5, 1_000: 5}, 0),
        ({10: 2, 100: 20, 1_000: 200}, 1),
        ({1: 3, 100: 30_000}, 2),
        ({10: 5}, None),
        ({10: 0, 100: 5}, None),
        ({}, None),
    ],
)
def test_the_exponent_of_a_curve(points: dict[int, float], exponent: int | None) -> None:
    assert Curve("cost", "size", "ours", points).exponent == pytest.approx(exponent)


def test_a_queue_among_a_million_other_keys_is_found_in_short_steps(tmp_path: Path) -> None:
    options = {"enable-debug-command": "local"}
    with Redis(tmp_path, options=options) as server, redis.Redis(port=server.port) as client:
        client.execute_command("DEBUG", "POPULATE", 1_000_000, "cache", 10)
        client.sadd("_kombu.binding.lonely", "lonely\x06\x16\x06\x16lonely")
        client.lpush("lonely", json.dumps({"headers": {"id": "x", "task": "shop.add"}, "body": "e30="}))
        client.config_resetstat()
        before = redis_cpu(client)
        poller = RedisPoller(redis_settings(parse_broker(server.url)), EventState())
        snapshot = None
        while snapshot is None or not snapshot.is_whole:
            snapshot = poller.poll()
        poller.close()
        assert snapshot.queues["lonely"].length == 1
        stats: Any = client.info("commandstats")
        # All the time that Redis used meanwhile, even what was not for the scan.
        assert (redis_cpu(client) - before) / stats["cmdstat_scan"]["calls"] < 0.002


class VirtualRedis:
    """A Redis with many keys, in virtual time.

    Args:
        key_seconds: Redis's time for each key that it scans.
        distance: seconds of each request, in addition.
        delay: further seconds of nine of ten requests, because the hosts do other work.
    """

    KEYS = 1_000_000

    def __init__(self, key_seconds: float, distance: float, delay: float) -> None:
        self.now = 0.0
        self.steps: list[float] = []
        self._key_seconds, self._distance, self._delay = key_seconds, distance, delay
        self._requests = 0

    def ping(self) -> None:
        self._requests += 1
        self.now += self._distance + (self._delay if self._requests % 10 else 0)

    def scan(self, cursor: int, count: int, **_: object) -> tuple[int, list[bytes]]:
        self.ping()
        self.steps.append(count * self._key_seconds)
        self.now += self.steps[-1]
        return (0 if cursor + count >= self.KEYS else cursor + count), []

    def pipeline(self, **_: object) -> list[object]:
        return []

    def clock(self) -> float:
        return self.now

    def bindings(self) -> Bindings:
        settings = redis_settings(parse_broker("redis://127.0.0.1"))
        return Bindings(cast("Any", self), settings, "celeryev", pytest.fail, self.clock)


@pytest.mark.parametrize(
    ("redis", "max_seconds"),
    [
        (VirtualRedis(1e-6, 0.0001, 0), 2),
        (VirtualRedis(1e-6, 0.0001, 0.008), 10),
        (VirtualRedis(0.3e-6, 0.0001, 0.02), 10),
        (VirtualRedis(1e-6, 0.002, 0), 6),
        (VirtualRedis(3e-6, 0.0001, 0), 4),
    ],
    ids=["quiet", "busy", "busier", "distant", "slow"],
)
def test_a_scan_takes_as_much_of_redis_in_each_step_as_it_may(
    redis: VirtualRedis, max_seconds: float
) -> None:
    """On busy hosts, each step is delayed, so a million keys in steps of 500 took 13 s."""
    bindings = redis.bindings()
    while not bindings.scanned:
        bindings.refresh()
    assert redis.now <= max_seconds
    assert max(redis.steps) < 0.0016


def test_a_step_that_has_become_too_slow_is_made_shorter() -> None:
    size = StepSize()
    for _ in range(40):
        size.judge(size.count * 0.1e-6)
    assert size.count == MAX_COUNT
    for _ in range(400):
        size.judge(size.count * 3e-6)
    assert size.count == MIN_COUNT


def test_the_number_of_keys_of_a_step_does_not_grow_in_a_database_that_has_few() -> None:
    small = VirtualRedis(1e-6, 0.0001, 0)
    small.KEYS = 10
    bindings = small.bindings()
    for _ in range(100):
        bindings.refresh()
    assert set(small.steps) == {500 * 1e-6}


def test_an_unfinished_search_continues_at_once_but_not_after_a_failure() -> None:
    rounds: list[float] = []

    def search() -> None:
        rounds.append(time.monotonic())
        if len(rounds) == 3:
            raise ValueError("Redis is away")

    periodic = Periodic("search", search, 60, unfinished=lambda: True)
    periodic.thread.start()
    try:
        assert wait_until(lambda: periodic.errors == 1, 30)
        assert len(rounds) == 3
    finally:
        periodic.thread.stop()
        periodic.thread.join(5)
    assert (periodic.thread.alive, len(rounds)) == (False, 3)


class Name(str):
    """The name of a queue, which counts how often it is looked at."""

    __slots__ = ()
    looks = 0

    def startswith(self, *_: object) -> bool:
        Name.looks += 1
        return False


def test_consumers_are_counted_once_for_each_queue_not_for_each_worker() -> None:
    state, queues = EventState(), tuple(Name(f"queue-{number}") for number in range(50))
    state.roster.connection.restored()
    for number in range(101):
        worker = state.roster.worker(f"w@host-{number}")
        worker.seen = state.roster.connection.observed_at()
        # The last one consumes one queue, with a number of processes that is not known.
        worker.queues = queues if number < 100 else queues[:1]
        worker.queues_known, worker.pool_size = True, (4, 8)[number % 2] if number < 100 else None
    found = Consumers(state)
    assert found.queues == set(queues)
    assert [found.workers[queue] for queue in queues[:2]] == [101, 100]
    # Where the processes of one worker are not known, neither is their sum.
    assert [found.processes.get(queue) for queue in queues[:2]] == [None, 600]
    assert Name.looks == len(queues)
