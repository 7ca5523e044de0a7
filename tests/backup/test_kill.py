"""kill -9 of the dump, of our process and of the store, at random moments, leaves no false manifest and no leftovers."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest
from backup.catalogue.sweep import uncommitted
from backup.replication.merged import read
from backup.run import run
from backup.store import PartSizes, RetryingStore, RetryPolicy, Store
from backup.wiring import Wiring
from sidecar import OpsError
from stack.servers import ObjectStore, Postgres
from tests.backup.conftest import NewDatabase, Wire

MOMENTS = 10
# Bytes that do not compress, so that an upload has several parts.
DATA = (
    "CREATE TABLE noise AS SELECT i / 40 AS i, string_agg(md5(random()::text), '') AS body"
    " FROM generate_series(1, 360000) i GROUP BY 1"
)


@pytest.fixture(scope="module")
def noisy(new_database: NewDatabase) -> str:
    return new_database(DATA, "noise")


@pytest.fixture
def mortal_store(tmp_path: Path) -> Iterator[ObjectStore]:
    """A separate store, to be killed."""
    with ObjectStore(tmp_path / "s3") as server:
        server.bucket("kill")
        yield server


@pytest.fixture
def wiring(wired: Wire, mortal_store: ObjectStore, postgres: Postgres, noisy: str) -> Wiring:
    wiring = wired(
        DATABASE_URL=postgres.url_for(noisy),
        BACKUP_STORE_URL="s3://kill/prod",
        BACKUP_S3_ENDPOINT_URL=mortal_store.endpoint,
        BACKUP_S3_ACCESS_KEY_ID=mortal_store.access_key,
        BACKUP_S3_SECRET_ACCESS_KEY=mortal_store.secret_key,
    )
    # Other tests cover the retries.
    store = RetryingStore(wiring.store.inner, RetryPolicy(attempts=1))
    packing = dataclasses.replace(wiring.packing, sizes=PartSizes(first=1 << 20), threads=1)
    return dataclasses.replace(wiring, store=store, packing=packing)


def check_store(store: Store, database: str) -> set[str]:
    """Check that every manifest's objects are complete; returns the ids."""
    committed = set()
    for info in store.walk(f"{database}/"):
        if info.key.endswith(f"/{layout.MANIFEST}"):
            manifest = Manifest.decode(store.get(info.key), info.key)
            for stored in manifest.objects:
                found = store.head(f"{layout.folder(database, manifest.id)}/{stored.name}")
                assert found is not None
                assert found.size == stored.stored_bytes
            committed.add(manifest.id)
    return committed


def check_clean(store: Store, database: str) -> None:
    assert list(store.pending(f"{database}/")) == []
    assert uncommitted(store, database) == []


def attempt(wiring: Wiring) -> str | None:
    """Run once; returns the id of the backup, or None if it failed."""
    try:
        return run(wiring, wiring.targets[0]).id
    except OpsError:
        return None


def moments(wiring: Wiring) -> list[float]:
    """Random moments within the length of a run."""
    begin = time.monotonic()
    assert attempt(wiring)
    length = time.monotonic() - begin
    pick = random.Random(1)
    return [pick.uniform(0.0, length) for _ in range(MOMENTS)]


def test_the_dump_is_killed(wiring: Wiring) -> None:
    database, known = wiring.targets[0].name, set()
    killed = 0
    for moment in moments(wiring):
        killed_at: list[int] = []
        killer = threading.Timer(moment, _kill_dumps, [killed_at])
        killer.start()
        made = attempt(wiring)
        killer.join()
        killed += len(killed_at)
        known |= {made} if made else set()
        assert made or killed_at, "it failed, and was not killed"
        assert known <= check_store(wiring.store, database)
        check_clean(wiring.store, database)
    assert killed, "no moment hit a dump"
    history = read(wiring).history(database)
    failed = [record for record in history.attempts if record.outcome == "failure"]
    assert all("killed by signal 9" in (record.error or "") for record in failed)


def _kill_dumps(killed: list[int]) -> None:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.name() in {"pg_dump", "pg_dumpall"}:
                child.kill()
                killed.append(child.pid)


def test_the_store_is_killed(wiring: Wiring, mortal_store: ObjectStore) -> None:
    database, known = wiring.targets[0].name, set()
    for moment in moments(wiring):
        killer = threading.Timer(moment, mortal_store.kill)
        killer.start()
        made = attempt(wiring)
        killer.join()
        mortal_store.start()
        known |= {made} if made else set()
        assert known <= check_store(wiring.store, database)
        # The next run succeeds without help, and sweeps.
        again = attempt(wiring)
        assert again
        known.add(again)
        check_clean(wiring.store, database)
    assert known <= check_store(wiring.store, database)


# Starting Python takes longer than the backup: one process that is ready forks a victim for each line it reads.
NURSERY = """
import os, sys
from backup.cli.run import run
from sidecar import cli
for _ in sys.stdin:
    victim = os.fork()
    if victim == 0:
        os._exit(cli.run(run, []))
    print(victim, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(victim, 0)[1]), flush=True)
"""


@pytest.fixture
def nursery(
    wiring: Wiring, environ: dict[str, str], mortal_store: ObjectStore
) -> Iterator[subprocess.Popen[str]]:
    settings = {
        **environ,
        "DATABASE_URL": environ["DATABASE_URL"].rpartition("/")[0] + f"/{wiring.targets[0].name}",
        "BACKUP_STORE_URL": "s3://kill/prod",
        "BACKUP_S3_ENDPOINT_URL": mortal_store.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": mortal_store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": mortal_store.secret_key,
    }
    with subprocess.Popen(
        [sys.executable, "-c", NURSERY],
        env={**os.environ, **settings},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        yield process
        process.kill()


def test_we_are_killed(wiring: Wiring, nursery: subprocess.Popen[str]) -> None:
    database = wiring.targets[0].name
    for moment in moments(wiring):
        _kill_a_run(nursery, moment)
        check_store(wiring.store, database)
        again = _insist(wiring)
        assert again in check_store(wiring.store, database)
        check_clean(wiring.store, database)
    history = read(wiring).history(database)
    died = [record for record in history.attempts if record.error == "the process died in the middle"]
    assert died, "no moment hit a run"


def _kill_a_run(nursery: subprocess.Popen[str], moment: float) -> None:
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    assert nursery.stderr is not None
    nursery.stdin.write("another\n")
    nursery.stdin.flush()
    victim = int(nursery.stdout.readline())
    # The time starts with the run.
    while "backup begins" not in nursery.stderr.readline():
        pass
    time.sleep(moment)
    with suppress(ProcessLookupError):  # it had already ended
        os.kill(victim, signal.SIGKILL)
    while not nursery.stdout.readline().strip().lstrip("-").isdigit():
        pass


def _insist(wiring: Wiring, seconds: float = 10.0) -> str:
    """The dead run's lock ends with its connection, which the server notices within moments."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if made := attempt(wiring):
            return made
        time.sleep(0.1)
    raise AssertionError("the lock of a dead run blocks")
