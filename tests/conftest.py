"""Real servers for every test, one of each a test run (a worker process), on free ports and temporary folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.servers import ObjectStore, Postgres, Redis

POLITE = 10


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The whole stack keeps its times while other tests run beside it: those step back, once in each process."""
    if item.get_closest_marker("xdist_group") is None and os.environ.get("PYTEST_XDIST_WORKER"):
        os.setpriority(os.PRIO_PROCESS, 0, max(POLITE, os.getpriority(os.PRIO_PROCESS, 0)))


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Postgres]:
    with Postgres(servers_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[Redis]:
    with Redis(servers_folder / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def object_store(servers_folder: Path) -> Iterator[ObjectStore]:
    with ObjectStore(servers_folder / "s3") as server:
        yield server
