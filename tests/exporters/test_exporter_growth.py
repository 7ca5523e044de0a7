"""What the growth of an installation costs: the exponent of a curve, and queues among a million other keys."""

import json
from pathlib import Path

import pytest
import redis

from bench.growth.curve import Curve
from exporters.broker import parse_broker, redis_settings
from exporters.queues.bindings import FIRST_SCAN_SECONDS
from exporters.queues.collector import Consumers
from exporters.queues.redis import RedisPoller
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
        poller = RedisPoller(redis_settings(parse_broker(server.url)), EventState())
        rounds, snapshot = 0, None
        # A round each 5 s, of which it may search for four: two rounds are within 10 s.
        while snapshot is None or not snapshot.is_whole:
            rounds, snapshot = rounds + 1, poller.poll()
        poller.close()
        assert snapshot.queues["lonely"].length == 1
        assert rounds * FIRST_SCAN_SECONDS <= 10
        assert client.info("commandstats")["cmdstat_scan"]["usec_per_call"] < 2_000


class Name(str):
    """The name of a queue, which counts how often it is looked at."""

    __slots__ = ()
    looks = 0

    def startswith(self, *_: object) -> bool:
        Name.looks += 1
        return False


def test_consumers_are_counted_once_for_each_queue_not_for_each_worker() -> None:
    state, queues = EventState(), tuple(Name(f"queue-{number}") for number in range(50))
    state.roster.connected()
    for number in range(101):
        worker = state.roster.worker(f"w@host-{number}")
        worker.seen = state.roster.observed_at()
        # The last one consumes one queue, with a number of processes that is not known.
        worker.queues = queues if number < 100 else queues[:1]
        worker.queues_known, worker.pool_size = True, (4, 8)[number % 2] if number < 100 else None
    found = Consumers(state)
    assert found.queues == set(queues)
    assert [found.workers[queue] for queue in queues[:2]] == [101, 100]
    # Where the processes of one worker are not known, neither is their sum.
    assert [found.processes.get(queue) for queue in queues[:2]] == [None, 600]
    assert Name.looks == len(queues)
