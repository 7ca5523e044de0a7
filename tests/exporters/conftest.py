"""The exporter against a real broker with real workers."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from kombu import pools

from exporters.service import Exporter
from exporters.settings import ExporterSettings
from stack.servers import Redis
from tests.exporters.exporterkit import Running, Worker, captured


@pytest.fixture(scope="session")
def frames() -> list[bytes]:
    return captured()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts exporters and stops them after the test."""
    running: list[Exporter] = []

    def begin(url: str, **overrides: Any) -> Running:
        fast = {
            "host": "127.0.0.1",
            "port": 0,
            "queue_interval": 0.2,
            "render_interval": 0,
            "inspect_interval": 0,
        }
        exporter = Exporter(ExporterSettings.load({}, **{"broker_url": url, **fast, **overrides}))
        running.append(exporter.start())
        return Running(exporter)

    yield begin
    for exporter in running:
        exporter.stop()


@pytest.fixture
def worker() -> Iterator[Callable[..., Worker]]:
    """Starts workers and kills them after the test."""
    running: list[Worker] = []

    def begin(url: str, node: str = "worker-a@host-1", *, wait: bool = True, **options: Any) -> Worker:
        running.append(Worker(url, node, **options))
        if wait:
            running[-1].must_be_ready()
        return running[-1]

    yield begin
    for started in running:
        started.kill()
        started.show_log()


@pytest.fixture
def broker(redis_server: Redis) -> Iterator[str]:
    """The URL of an empty broker."""
    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    # kombu's pools remember the queues that they have declared; the flush removed the declarations.
    pools.reset()
    yield redis_server.url
    client.close()
