"""Whatever fails, no manifest claims a backup that does not exist, and older ones remain."""

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.cancellation import OutOfTimeError, StoppedError
from backup.catalogue.journal import Backlog
from backup.errors import DumpError, SpaceError, StoreAccessError, StoreError
from backup.replication.merged import Catalogues, read
from backup.replication.spool import forward
from backup.run import run
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.store import LocalStore, MemoryStore, Refusal, RetryingStore, RetryPolicy
from backup.verify import verify
from backup.wiring import Wiring
from sidecar import OpsError
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire, samples


class Faults:
    """Makes a store fail from the n-th operation of a kind on."""

    def __init__(self) -> None:
        self.operation = ""
        self.after = 0
        self.error: OpsError | None = None

    def arm(self, operation: str, after: int = 0) -> None:
        self.operation, self.after = operation, after

    def __call__(self, operation: str, key: str) -> None:
        if self.operation not in (operation, "all"):
            return
        if self.after:
            self.after -= 1
            return
        raise self.error or StoreError("the store is down", hint="", operation=operation, transient=True)


@pytest.fixture
def faults() -> Faults:
    return Faults()


def with_store(wiring: Wiring, faults: Faults, **more: Any) -> Wiring:
    store = RetryingStore(MemoryStore(fault=faults), RetryPolicy(attempts=2, first=0.001))
    return dataclasses.replace(wiring, store=store, **more)


def manifests(wiring: Wiring) -> list[str]:
    store = wiring.store.inner
    assert isinstance(store, MemoryStore)
    return [key for key in store.objects if key.endswith("manifest.json")]


@pytest.mark.parametrize(
    ("operation", "after"),
    [
        ("begin", 0),
        ("begin", 1),
        ("part", 0),
        ("complete", 0),
        ("complete", 1),
        ("head", 0),
        ("head", 1),
        ("put", 1),
    ],
)
def test_a_store_that_fails_in_the_middle(wired: Wire, faults: Faults, operation: str, after: int) -> None:
    wiring = with_store(wired(), faults)
    first = run(wiring, wiring.targets[0])
    faults.arm(operation, after)
    with pytest.raises(OpsError):
        run(wiring, wiring.targets[0])
    faults.arm("")
    assert [key.split("/")[1] for key in manifests(wiring)] == [first.id]
    made = run(wiring, wiring.targets[0])
    store = wiring.store.inner
    assert isinstance(store, MemoryStore)
    assert not store.uploads
    ids = {key.split("/")[1] for key in store.objects if "attempts" not in key}
    assert ids == {first.id, made.id}
    history = read(wiring).history(made.database)
    assert len(history.backups) == 2
    newest = history.newest("backup")
    assert newest is not None
    assert newest.totals["success"] == 2
    assert not any(record.outcome == "running" for record in history.attempts)


def test_the_spool_takes_over_and_is_brought_home(wired: Wire, faults: Faults, tmp_path: Path) -> None:
    wiring = with_store(wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool")), faults)
    target = wiring.targets[0]
    assert wiring.spool is not None
    before = run(wiring, target)
    catalogues = Catalogues(wiring)
    catalogues.read([target.name])
    faults.arm("all")
    away = run(wiring, target)
    faults.arm("")
    faults.arm("part")
    in_the_middle = run(wiring, target)
    faults.arm("all")
    # While the store is unreachable, its last known content and the spool are both visible.
    history = catalogues.read([target.name]).history(target.name)
    assert catalogues.problem is not None
    # The IDs of backups from the same second have no order.
    assert {(entry.id, entry.store) for entry in history.backups} == {
        (before.id, "main"),
        (away.id, "spool"),
        (in_the_middle.id, "spool"),
    }
    newest = history.newest("backup", finished=True)
    assert newest is not None
    assert newest.totals["success"] == 3
    faults.arm("")
    assert forward(wiring) == 2
    assert list(wiring.spool.walk()) == []
    history = read(wiring).history(target.name)
    assert {(entry.id, entry.store) for entry in history.backups} == {
        (before.id, "main"),
        (away.id, "main"),
        (in_the_middle.id, "main"),
    }
    newest = history.newest("backup", finished=True)
    assert newest is not None
    assert newest.totals["success"] == 3
    assert newest.store_errors["main:part"] > 0
    assert verify(wiring, history.backups[1]).ok


def test_a_store_that_breaks_while_the_spool_is_brought(wired: Wire, faults: Faults, tmp_path: Path) -> None:
    wiring = with_store(wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool")), faults)
    assert wiring.spool is not None
    faults.arm("all")
    made = run(wiring, wiring.targets[0])
    faults.arm("complete", 1)
    with pytest.raises(StoreError):
        forward(wiring)
    faults.arm("")
    assert manifests(wiring) == []
    assert wiring.spool.head(f"{made.database}/{made.id}/manifest.json") is not None
    assert forward(wiring) == 1
    assert len(manifests(wiring)) == 1


def test_a_damaged_spool_is_not_brought(wired: Wire, faults: Faults, tmp_path: Path) -> None:
    wiring = with_store(wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool")), faults)
    assert wiring.spool is not None
    faults.arm("all")
    made = run(wiring, wiring.targets[0])
    faults.arm("")
    key = f"{made.database}/{made.id}/database.dump.zst"
    wiring.spool.put(key, wiring.spool.get(key)[:-1] + b"?")
    with pytest.raises(OpsError, match="SHA-256"):
        forward(wiring)
    assert manifests(wiring) == []
    assert [info.key for info in wiring.store.walk(f"{made.database}/{made.id}/")] == []


def test_a_spool_without_room_is_seen_before(
    wired: Wire, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = with_store(wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool")), faults)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    faults.arm("all")
    with pytest.raises(SpaceError, match="the spool is too small"):
        run(wiring, wiring.targets[0])


def test_the_spool_needs_room_for_a_backup_of_the_last_size(
    wired: Wire, faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = with_store(
        wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool"), BACKUP_VERIFY_AFTER_BACKUP="false"), faults
    )
    made, state = run(wiring, wiring.targets[0]), new_state(wiring)
    state.refresh()
    usage = shutil.disk_usage(tmp_path)._replace(free=made.stored_bytes * 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    faults.arm("all")
    Jobs(state).back_up()
    assert sorted(entry.store for entry in state.history(made.database).backups) == ["main", "spool"]


def test_refused_credentials_are_an_error_by_hand_and_spooled_by_the_service(
    wired: Wire, faults: Faults, tmp_path: Path
) -> None:
    wiring = with_store(wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool")), faults)
    refused = StoreAccessError("no such key", hint="", operation="check")
    store = MemoryStore()
    store.check = lambda: (_ for _ in ()).throw(refused)  # type: ignore[method-assign]
    wiring = dataclasses.replace(wiring, store=RetryingStore(store, RetryPolicy(attempts=1)))
    with pytest.raises(StoreAccessError):
        run(wiring, wiring.targets[0])
    assert run(wiring, wiring.targets[0], strict=False).rows > 0
    assert len(list(LocalStore(tmp_path / "spool").walk())) > 0


def test_a_full_disk(wired: Wire, faults: Faults) -> None:
    """The store's own message is shown, and nothing is left behind."""
    wiring = with_store(wired(), faults)
    faults.error = StoreError("No space left on device", hint="", operation="part")
    faults.arm("part")
    with pytest.raises(StoreError, match="No space left"):
        run(wiring, wiring.targets[0])
    assert manifests(wiring) == []


def test_a_manifest_whose_answer_is_lost_claims_nothing(wired: Wire) -> None:
    """The manifest was stored, the confirmation was lost, and the run is killed while it cleans up."""
    store = MemoryStore()
    wiring = dataclasses.replace(wired(), store=RetryingStore(store, RetryPolicy(attempts=1)))
    put, delete = store.put, store.delete

    def lose(key: str, data: bytes, **more: Any) -> None:
        put(key, data, **more)
        if key.endswith("manifest.json"):
            raise StoreError("the answer was lost", hint="", operation="put")

    def die(keys: Iterable[str]) -> list[Refusal]:
        if wanted := list(keys):
            delete(wanted[:1])
            raise SystemExit
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "put", lose)
        patch.setattr(store, "delete", die)
        with pytest.raises(SystemExit):
            run(wiring, wiring.targets[0])
    assert manifests(wiring) == []
    made = run(wiring, wiring.targets[0])
    assert {key.split("/")[1] for key in store.objects if "attempts" not in key} == {made.id}


def test_objects_that_are_swept_under_the_manifest(wired: Wire) -> None:
    store = MemoryStore()
    wiring = dataclasses.replace(wired(), store=RetryingStore(store, RetryPolicy(attempts=1)))
    put = store.put

    def sweep_before(key: str, data: bytes, **more: Any) -> None:
        if key.endswith("manifest.json"):
            store.objects = {known: kept for known, kept in store.objects.items() if ".dump." not in known}
        put(key, data, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "put", sweep_before)
        with pytest.raises(DumpError, match="but has nothing"):
            run(wiring, wiring.targets[0])
    assert manifests(wiring) == []


def test_a_loss_while_the_store_is_unavailable_is_an_anomaly(
    wired: Wire, faults: Faults, tmp_path: Path, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database("CREATE TABLE t AS SELECT i FROM generate_series(1, 5000) i")
    settings = {"DATABASE_URL": postgres.url_for(name), "BACKUP_SPOOL_DIR": str(tmp_path / "spool")}
    wiring = with_store(wired(**settings), faults)
    for _ in range(3):
        run(wiring, wiring.targets[0])
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("DELETE FROM t WHERE i > 10")
    faults.arm("all")
    made = run(wiring, wiring.targets[0])
    faults.arm("")
    assert forward(wiring) == 1
    entry = read(wiring).history(name).find(made.id)
    assert entry is not None
    assert any("rows of public.t fell to 10" in anomaly for anomaly in entry.manifest.anomalies)


def test_a_failure_is_recorded_once_the_store_answers_again(wired: Wire, faults: Faults) -> None:
    wiring = with_store(wired(), faults)
    name, state = wiring.targets[0].name, new_state(wiring)
    run(wiring, wiring.targets[0])

    def totals(outcome: str) -> tuple[float, float]:
        value = samples(state)
        return (
            value[f'backup_last_attempt_success{{database="{name}"}}'],
            value[f'backup_runs_total{{database="{name}",outcome="{outcome}"}}'],
        )

    faults.arm("all")
    Jobs(state).back_up()
    assert totals("failure") == (0, 1)
    faults.arm("")
    state.refresh()
    assert totals("failure") == (0, 1)
    other = new_state(dataclasses.replace(wiring, backlog=Backlog()))
    other.refresh()
    assert [record.outcome for record in other.history(name).attempts] == ["success", "failure"]
    newest = other.history(name).newest("backup")
    assert newest is not None
    assert newest.totals == {"success": 1, "failure": 1}
    assert newest.store_errors["main:check"] > 0


def test_a_lasting_store_error_counts_too(wired: Wire, faults: Faults) -> None:
    wiring = with_store(wired(), faults)
    faults.error = StoreError("No space left on device", hint="", operation="part")
    faults.arm("part")
    with pytest.raises(StoreError):
        run(wiring, wiring.targets[0])
    newest = read(wiring).history(wiring.targets[0].name).newest("backup")
    assert newest is not None
    assert newest.store_errors["main:part"] > 0


def test_out_of_time(wired: Wire) -> None:
    wiring = wired(BACKUP_TIMEOUT="0.001")
    with pytest.raises(OutOfTimeError, match="BACKUP_TIMEOUT"):
        run(wiring, wiring.targets[0])
    # The thread's next work, copying and forwarding the spool, has its own time limit.
    wiring.stop.check()
    assert [info.key for info in wiring.store.walk() if "attempts" not in info.key] == []


def test_stopped_before_it_is_committed(wired: Wire) -> None:
    wiring = wired()

    def stop(operation: str, key: str) -> None:
        if operation == "complete" and ".dump." in key:
            wiring.stop.request()

    store = MemoryStore(fault=stop)
    wiring = dataclasses.replace(wiring, store=RetryingStore(store, RetryPolicy(attempts=1)))
    with pytest.raises(StoppedError, match="on request"):
        run(wiring, wiring.targets[0])
    assert [key for key in store.objects if "attempts" not in key] == []


def test_stopped_on_request_leaves_nothing(wired: Wire) -> None:
    wiring = wired()
    with pytest.raises(StoppedError, match="on request"):
        run(wiring, wiring.targets[0], lambda _: wiring.stop.request())
    assert [info.key for info in wiring.store.walk() if "attempts" not in info.key] == []
    history = read(wiring).history(wiring.targets[0].name)
    assert [record.outcome for record in history.attempts] == ["failure"]
