"""Real servers for every test, one of each per test run (a worker process), on free ports and in temporary folders."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sidecar import OpsError
from stack.programs import postgres_bin, server_bin
from stack.servers import ObjectStore, Postgres, Redis
from tests.quickinit import quick

POLITE = 10
# The duration of an example depends more on the machine than on the code under test.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
# Temporary files are in memory: by default, each server would keep up to 1 GB of WAL that it no longer needs.
FRUGAL = {"max_wal_size": "128MB", "min_wal_size": "32MB"}
# The only setting that a physical backup needs: a limit to what a slot may keep.
PHYSICAL = {**FRUGAL, "max_slot_wal_keep_size": "1GB"}


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Run the tests that share a fixture of their module in one process, so that the fixture is created only once.

    The longest groups, those of the whole stack, begin first, and then the other groups. Single tests fill the end, so
    that no process works on a long group while the others have nothing left.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (shared := shared_fixtures(item)):
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}: {', '.join(shared)}"))
    yield
    items.sort(key=turn)


def pytest_collection_finish() -> None:
    """Leave out of garbage collections what lives as long as the process: the modules and thousands of tests."""
    gc.collect()
    gc.freeze()


def shared_fixtures(item: pytest.Item) -> list[str]:
    """The fixtures of its module that a test uses: those with parameters and their values, otherwise just "all"."""
    if not isinstance(item, pytest.Function):
        return []
    values = item.callspec.params if hasattr(item, "callspec") else {}
    used = [
        (name, found[-1])
        for name, found in item._fixtureinfo.name2fixturedefs.items()
        if found and found[-1].scope == "module"
    ]
    # By value: a test for the newest server only has different numbers from one for all of them.
    varied = [f"{name} {values[name]}" for name, found in used if found.params and name in values]
    return varied or (["all"] if used else [])


def turn(item: pytest.Item) -> int:
    """0 for the groups that are named in the tests themselves, 1 for those that share a fixture, 2 for a single test."""
    group = item.get_closest_marker("xdist_group")
    if group is None:
        return 2
    return 1 if ": " in group.args[0] else 0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Lower the priority of ordinary tests, once in each process, so that the whole stack keeps its times next to them."""
    if turn(item) and os.environ.get("PYTEST_XDIST_WORKER"):
        os.setpriority(os.PRIO_PROCESS, 0, max(POLITE, os.getpriority(os.PRIO_PROCESS, 0)))


@pytest.fixture(autouse=True)
def _log_handlers_are_removed() -> Iterator[None]:
    """Commands and Celery log to the stream of the test that runs them here. It is closed afterwards."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    for handler in root.handlers[:]:
        if handler not in before:
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def servers_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded PostgreSQL's programs for the backup sidecar, whose verifications create a server each time."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own
    return quick(postgres_bin(), shared / "programs")


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Postgres]:
    with Postgres(servers_folder / "postgres", options=FRUGAL) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[Redis]:
    with Redis(servers_folder / "redis") as server:
        yield server


@pytest.fixture(scope="session")
def object_store(servers_folder: Path) -> Iterator[ObjectStore]:
    with ObjectStore(servers_folder / "s3") as server:
        yield server


@pytest.fixture(scope="session")
def postgres_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Postgres]]:
    """Starts one shared server of each supported major version when it is first requested; skips the test if its programs are not available."""
    servers: dict[int, Postgres] = {}

    def start(version: int) -> Postgres:
        if version not in servers:
            servers[version] = Postgres(
                tmp_path_factory.mktemp(f"postgres{version}"),
                programs=programs_of(version),
                options=PHYSICAL,
            ).start()
        return servers[version]

    yield start
    for server in servers.values():
        server.stop()


def programs_of(version: int) -> Path:
    """The folder of PostgreSQL's programs of a major version; the test is skipped if they are not available."""
    try:
        return server_bin(version)
    except OpsError as error:
        pytest.skip(f"{error.message}; {error.hint}")
