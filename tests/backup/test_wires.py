"""The connections between parts that are tested alone: settings that must reach the store, findings that must stop a prune.

The database is a fake, because these tests concern the steps around a dump.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from pyrage import x25519

import backup.prune as pruning
from backup import foreign
from backup import run as running
from backup.catalogue import layout
from backup.catalogue.commit import commit, discard
from backup.catalogue.document import encode
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest, Role
from backup.catalogue.reader import Reader
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.engine import DumpContext, DumpResult, PreflightResult
from backup.errors import DumpError, StoreError
from backup.load import throwaway
from backup.pipeline import transfer
from backup.pipeline.source import Source
from backup.postgres.dsn import Address
from backup.postgres.lock import AdvisoryLock
from backup.programs import clean_environment
from backup.prune import plan_for, prune
from backup.replication.merged import read
from backup.replication.spool import forward
from backup.run import run
from backup.service import jobs
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import MemoryStore, RetryingStore, RetryPolicy
from backup.store.base import ObjectInfo
from backup.verify import scratch
from backup.wiring import Wiring, wire
from tests.backup.documents import SERVER, attempt, history, manifest, put, put_attempt, report

NOW = datetime.now(UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
AGE = b"age-encryption.org/v1"


class Bytes(Source):
    """A dump of a few bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        data, self._data = self._data, b""
        return data

    def close(self) -> None:
        """Nothing is open."""


class FakeLock:
    """A lock; it can be lost."""

    def __init__(self) -> None:
        self.lost = False

    def confirm(self) -> None:
        if self.lost:
            raise DumpError("the lock was lost", hint="run it again")


ROLES: dict[str, Role] = {"globals.sql": "globals", "database.dump": "archive"}


class FakeEngine:
    """An engine whose database is two objects."""

    def __init__(self, lock: FakeLock) -> None:
        self._lock = lock

    def preflight(self) -> PreflightResult:
        return PreflightResult("18.6", 100)

    @contextmanager
    def lock(self) -> Iterator[FakeLock]:
        yield self._lock

    def dump(self, context: DumpContext) -> DumpResult:
        objects = tuple(
            transfer(
                Bytes(name.encode() * 100),
                context.store,
                context.folder,
                name,
                role=role,
                packing=context.packing,
            )
            for name, role in ROLES.items()
        )
        return DumpResult(datetime.now(UTC), SERVER, objects)


@pytest.fixture
def lock(monkeypatch: pytest.MonkeyPatch) -> FakeLock:
    lock = FakeLock()
    monkeypatch.setattr(running, "engine_for", lambda *_: FakeEngine(lock))
    return lock


def wired(folder: Path, store: MemoryStore, *names: str, **settings: str) -> Wiring:
    urls = ",".join(f"{name}=postgresql://u@127.0.0.1:9/{name}" for name in names or ("shop",))
    given = {"BACKUP_DATABASE_URLS": urls, "BACKUP_STORE_URL": f"file://{folder}", **settings}
    retrying = RetryingStore(store, RetryPolicy(attempts=1), sleep=lambda _: None)
    return replace(wire(BackupSettings.load(given)), store=retrying)


def objects(store: MemoryStore) -> dict[str, bytes]:
    """What a run stores in addition to its records."""
    return {key: data for key, (data, _) in store.objects.items() if layout.ATTEMPTS not in key}


def test_the_spool_is_encrypted_like_the_store(lock: FakeLock, tmp_path: Path) -> None:
    away = True

    def fault(operation: str, key: str) -> None:
        if away:
            raise StoreError("it is down", hint="", operation=operation)

    store, spool = MemoryStore(fault=fault), tmp_path / "spool"
    recipient = str(x25519.Identity.generate().to_public())
    wiring = wired(tmp_path, store, BACKUP_SPOOL_DIR=str(spool), BACKUP_AGE_RECIPIENTS=recipient)
    made = run(wiring, wiring.targets[0])
    names = {stored.name for stored in made.objects}
    spooled = [path for path in spool.rglob("*") if path.name in names]
    assert len(spooled) == 2
    assert all(path.read_bytes().startswith(AGE) for path in spooled)
    assert {stored.encryption for stored in made.objects} == {"age"}
    away = False
    assert forward(wiring) == 1
    brought = {key: data for key, data in objects(store).items() if key.rpartition("/")[2] in names}
    assert len(brought) == 2
    assert all(data.startswith(AGE) for data in brought.values())


def test_every_object_of_a_backup_is_locked(lock: FakeLock, tmp_path: Path) -> None:
    store = MemoryStore()
    wiring = wired(tmp_path, store, BACKUP_S3_OBJECT_LOCK_DAYS="7")
    made = run(wiring, wiring.targets[0])
    folder = layout.folder("shop", made.id)
    assert {key for key in objects(store) if key.startswith(folder)} == store.locked.keys()
    assert len(store.locked) == 3
    assert {until - made.started for until in store.locked.values()} == {timedelta(days=7)}
    assert store.delete([layout.manifest("shop", made.id)]) != []


def test_every_object_of_an_imported_dump_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_describe", lambda *_: ({"client": "18.6", "server": SERVER}, []))
    monkeypatch.setattr(foreign, "_statements", lambda *_: iter(()))
    file, store = tmp_path / "old.dump", MemoryStore()
    file.write_bytes(b"PGDMP and so on")
    wiring = wired(tmp_path, store, BACKUP_S3_OBJECT_LOCK_DAYS="7")
    made = foreign.take_in(wiring, "old", file)
    assert len(objects(store)) == 3
    assert store.locked == dict.fromkeys(objects(store), made.started + 7 * DAY)


def test_what_is_brought_from_the_spool_is_locked_too(lock: FakeLock, tmp_path: Path) -> None:
    store = MemoryStore(fault=down)
    settings = {"BACKUP_SPOOL_DIR": str(tmp_path / "spool"), "BACKUP_S3_OBJECT_LOCK_DAYS": "7"}
    wiring = wired(tmp_path, store, **settings)
    run(wiring, wiring.targets[0])
    store.fault = lambda *_: None
    forward(wiring)
    assert len(objects(store)) == 3
    assert objects(store).keys() == store.locked.keys()


def down(operation: str, _: str) -> None:
    raise StoreError("it is down", hint="", operation=operation)


def test_a_store_that_loses_bytes_never_gets_a_manifest(lock: FakeLock, tmp_path: Path) -> None:
    """Under Object Lock a manifest could not be taken back."""
    put_keys: list[str] = []

    class Loses(MemoryStore):
        def put(self, key: str, data: bytes, **more: Any) -> None:
            put_keys.append(key)
            super().put(key, data, **more)

        def head(self, key: str) -> ObjectInfo | None:
            found = super().head(key)
            return replace(found, size=found.size - 1) if found and "dump" in key else found

    wiring = wired(tmp_path, Loses())
    with pytest.raises(DumpError, match="the store accepted"):
        run(wiring, wiring.targets[0])
    assert [key for key in put_keys if key.endswith(layout.MANIFEST)] == []


def test_objects_that_disappear_under_the_manifest_take_it_with_them(lock: FakeLock, tmp_path: Path) -> None:
    """A run on another host has swept them, when they had no manifest yet."""

    class Swept(MemoryStore):
        def put(self, key: str, data: bytes, **more: Any) -> None:
            super().put(key, data, **more)
            if key.endswith(layout.MANIFEST):
                self.objects = {name: one for name, one in self.objects.items() if "globals" not in name}

    store = Swept()
    with pytest.raises(DumpError, match=r"of globals\.sql\.zst but has nothing"):
        run(wired(tmp_path, store), wired(tmp_path, store).targets[0])
    assert objects(store) == {}


def test_a_commit_without_its_objects_leaves_no_manifest() -> None:
    """Even if no one cleans up afterwards, as when a backup is moved from the spool."""
    for size in (None, 9):
        store, made = MemoryStore(), manifest(NOW)
        if size:
            store.put(f"{layout.folder('shop', made.id)}/{made.objects[0].name}", b"0" * size)
        with pytest.raises(DumpError, match="the store accepted 10 bytes"):
            commit(store, made, NO_KEYS)
        assert store.head(layout.manifest("shop", made.id)) is None


def test_a_manifest_that_is_moved_keeps_its_bytes() -> None:
    """And with them the signature of the host that wrote it."""
    store, made = MemoryStore(), manifest(NOW)
    for one in made.objects:
        store.put(f"{layout.folder('shop', made.id)}/{one.name}", b"0" * one.stored_bytes)
    data = made.encode(NO_KEYS) + b"\n"
    commit(store, made, NO_KEYS, data=data)
    assert store.get(layout.manifest("shop", made.id)) == data


def test_a_manifest_that_cannot_be_deleted_keeps_its_objects() -> None:
    store, made = MemoryStore(), manifest(NOW - DAY)
    put(store, made)
    before = dict(store.objects)
    key = layout.manifest("shop", made.id)
    store.locked[key] = datetime.now(UTC) + DAY
    assert [refusal.key for refusal in discard(store, "shop", made.id)] == [key]
    assert store.objects == before
    store.locked.clear()
    assert discard(store, "shop", made.id) == []
    assert store.objects == {}


def test_a_lost_lock_fails_the_run(lock: FakeLock, tmp_path: Path) -> None:
    store = MemoryStore()
    wiring = wired(tmp_path, store)
    lock.lost = True
    with pytest.raises(DumpError, match="lock"):
        run(wiring, wiring.targets[0])
    assert objects(store) == {}


def test_the_lock_of_postgresql_is_lost_with_its_connection() -> None:
    class Gone:
        def execute(self, _: str) -> None:
            raise psycopg.OperationalError("terminating connection")

    with pytest.raises(DumpError, match="the connection that holds the backup lock was lost"):
        AdvisoryLock(Gone()).confirm()  # type: ignore[arg-type]


def month(store: MemoryStore, newest: Manifest | None = None) -> None:
    """A verified backup a day, and perhaps another newest one."""
    for days in range(1, 31):
        put(store, manifest(NOW - days * DAY))
    put(store, newest or manifest(NOW - HOUR))


def test_a_prune_of_a_good_month_deletes(tmp_path: Path) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    assert len(prune(wiring, wiring.targets[0], agreed=True).deleted) > 10


def test_a_backup_that_the_store_refuses_to_delete_is_not_reported_as_deleted(tmp_path: Path) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    doomed, *others = plan_for(wiring, read(wiring).history("shop"), agreed=True).deletions
    store.locked[layout.manifest("shop", doomed)] = datetime.now(UTC) + DAY
    done = prune(wiring, wiring.targets[0], agreed=True)
    assert set(done.deleted) == set(others)
    assert [refusal.key for refusal in done.refused] == [layout.manifest("shop", doomed)]
    # A later prune deletes it, and still remembers the others.
    store.locked.clear()
    assert prune(wiring, wiring.targets[0], agreed=True).deleted == (doomed,)
    last = read(wiring).history("shop").newest("prune", finished=True)
    assert last is not None
    assert set(last.deleted) == {doomed, *others}


def ids(store: MemoryStore) -> set[str]:
    """The backups of which anything is stored."""
    return {key.split("/")[1] for key in objects(store)}


def test_agreeing_to_many_deletions_includes_those_of_their_copies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, copies = MemoryStore(), MemoryStore(name="offsite")
    month(store)
    copies.objects.update(store.objects)
    everything = ids(copies)
    wiring = wired(tmp_path, store)
    pruned = prune(wiring, wiring.targets[0], agreed=True).deleted
    assert len(pruned) > 10
    retrying = RetryingStore(copies, RetryPolicy(attempts=1), sleep=lambda _: None)
    # The off-site store was away then. The daily prune does not delete that many copies unasked, and says so.
    wiring = replace(wiring, offsite=retrying)
    prune(wiring, wiring.targets[0])
    assert ids(copies) == everything
    assert "copies were not pruned off-site: it would delete" in caplog.text
    prune(wiring, wiring.targets[0], agreed=True)
    assert ids(copies) == ids(store) == everything - set(pruned)


def test_agreeing_to_a_prune_excludes_copies_that_it_did_not_show(tmp_path: Path) -> None:
    store, copies = MemoryStore(), MemoryStore(name="offsite")
    month(store)
    copies.objects.update(store.objects)
    everything = ids(copies)
    # An attacker has deleted the originals.
    for key in [key for key in store.objects if key.split("/")[1] in sorted(everything)[:20]]:
        del store.objects[key]
    retrying = RetryingStore(copies, RetryPolicy(attempts=1), sleep=lambda _: None)
    wiring = replace(wired(tmp_path, store), offsite=retrying)
    shown = set(prune(wiring, wiring.targets[0], agreed=True).deleted)
    assert everything - ids(copies) == shown


def test_a_given_server_passes_no_files(tmp_path: Path) -> None:
    """Its address may have no host."""
    address = Address({"dbname": "postgres"}, "")
    given = scratch.Scratch(
        wired(tmp_path, MemoryStore()), manifest(NOW), tmp_path, address, "18.6", given=True
    )
    assert given.exchange is None


NOTHING = {"verified": False, "damaged": False, "report": object(), "unprovable": False, "doubtful": False}


@pytest.mark.parametrize(
    ("known", "state"),
    [
        ({"verified": True}, "verified"),
        ({"damaged": True, "report": None}, "failed"),
        ({"report": None}, "unverified"),
        ({"unprovable": True, "doubtful": True}, "unprovable"),
        ({"doubtful": True}, "doubtful"),
        ({}, "failed"),
    ],
)
def test_what_is_known_of_a_backup_decides_how_it_counts(known: dict[str, Any], state: str) -> None:
    entry: Any = SimpleNamespace(
        id="a", manifest=SimpleNamespace(taken=NOW, anomalies=()), on_hold=False, **{**NOTHING, **known}
    )
    assert pruning._stored(entry).state == state


@pytest.mark.parametrize(
    ("verified", "passed_once", "missing", "state"),
    [
        (True, True, False, "verified"),
        (True, True, True, "failed"),
        (False, True, False, "doubtful"),
        (False, False, False, "unverified"),
    ],
)
def test_a_copy_is_judged_by_itself(verified: bool, passed_once: bool, missing: bool, state: str) -> None:
    entry: Any = SimpleNamespace(
        id="a", manifest=SimpleNamespace(taken=NOW), on_hold=False, verified=verified, missing=missing
    )
    assert pruning._copy(entry, passed_once=passed_once).state == state


def test_the_newest_attempts_and_those_that_count_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "KEPT", 2)
    store = MemoryStore()
    ids = [f"2026010{day}T000000Z-abcdef" for day in range(1, 6)]
    for one in ids:
        store.put(layout.attempt("shop", one, "backup"), b"{}")
    counts: Any = SimpleNamespace(
        database="shop", attempts=[SimpleNamespace(database="shop", id=ids[0], kind="backup")]
    )
    pruning._prune_attempts(store, counts)
    assert sorted(store.objects) == [layout.attempt("shop", one, "backup") for one in (ids[0], *ids[3:])]


def test_copies_in_another_store_are_not_among_those_that_stay(tmp_path: Path) -> None:
    """A month off site does not allow the last backup of this store to be deleted."""
    store = MemoryStore()
    month(store)
    found = history(store)
    off_site = [replace(entry, store="offsite") for entry in found.backups[1:]]
    wiring = wired(tmp_path, store)
    plan = plan_for(wiring, replace(found, backups=(found.backups[0], *off_site)), agreed=True)
    assert [each.id for each in plan.decisions] == [found.backups[0].id]
    assert plan.deletions == []


@pytest.mark.parametrize("agreed", [True, False])
def test_an_anomaly_stops_the_prune(tmp_path: Path, agreed: bool) -> None:
    store = MemoryStore()
    month(store, manifest(NOW - HOUR, anomalies=("rows of posts fell to 0",)))
    wiring = wired(tmp_path, store)
    done = prune(wiring, wiring.targets[0], agreed=agreed)
    assert done.deleted == ()
    assert any("is anomalous" in reason for reason in done.plan.blocked)


@pytest.mark.parametrize("damage", ["", "{", "{}"])
def test_a_damaged_manifest_stops_the_prune(tmp_path: Path, damage: str) -> None:
    store = MemoryStore()
    month(store)
    oldest = min(key for key in store.objects if key.endswith(layout.MANIFEST))
    store.objects[oldest] = (damage.encode(), NOW)
    wiring = wired(tmp_path, store)
    done = prune(wiring, wiring.targets[0], agreed=True)
    assert done.deleted == ()
    assert any("is damaged" in reason for reason in done.plan.blocked)


def test_a_backup_that_lacks_an_object_is_not_verified(tmp_path: Path) -> None:
    """Whatever its verification found, when the object was still there."""
    store = MemoryStore()
    month(store)
    del store.objects[max(key for key in store.objects if key.endswith("dump.zst"))]
    wiring = wired(tmp_path, store)
    newest = read(wiring).history("shop").backups[-1]
    assert (newest.verified, newest.damaged, newest.state) == (False, True, "incomplete")
    assert any(
        "failed its verification" in why for why in prune(wiring, wiring.targets[0], agreed=True).plan.blocked
    )


def test_a_verification_that_was_not_possible_takes_nothing_back(tmp_path: Path) -> None:
    store, made = MemoryStore(), manifest(NOW - HOUR)
    put(store, made)
    later = report(made, ok=False, unprovable=("a locale is missing",), finished=NOW)
    store.put(layout.report("shop", made.id, NOW), encode(later))
    [entry] = read(wired(tmp_path, store)).history("shop").backups
    assert (entry.verified, entry.unprovable, entry.state, len(entry.reports)) == (True, False, "verified", 2)


@pytest.mark.parametrize(("ahead", "latest"), [(timedelta(minutes=9), True), (timedelta(minutes=12), False)])
def test_a_backup_from_the_future_is_not_the_latest(tmp_path: Path, ahead: timedelta, latest: bool) -> None:
    store, now = MemoryStore(), datetime.now(UTC)
    old, new = manifest(now - DAY), manifest(now + ahead)
    for made in (old, new):
        put(store, made)
    history = read(wired(tmp_path, store)).history("shop")
    for found in (history.latest, history.last_verified):
        assert found is not None
        assert found.id == (new if latest else old).id


def test_a_copied_manifest_is_not_a_backup(tmp_path: Path) -> None:
    """In the folder of another backup, and in that of another database."""
    store, made = MemoryStore(), manifest(NOW - DAY)
    put(store, made)
    data = store.get(layout.manifest("shop", made.id))
    other = manifest(NOW - HOUR)
    for key in (layout.manifest("shop", other.id), layout.manifest("crm", made.id)):
        store.put(key, data)
    catalogue = read(wired(tmp_path, store, "shop", "crm"))
    assert [entry.id for entry in catalogue.history("shop").backups] == [made.id]
    assert [broken.id for broken in catalogue.history("shop").broken] == [other.id]
    assert catalogue.history("crm").backups == ()


def test_an_odd_hold_is_a_hold(tmp_path: Path) -> None:
    """When in doubt, the backup is kept."""
    store, made = MemoryStore(), manifest(NOW - DAY)
    put(store, made)
    for data, held in (
        (b"{", True),
        (b"", True),
        (released(made, held=True), True),
        (released(made, held=False), False),
    ):
        store.put(layout.hold("shop", made.id), data)
        [entry] = read(wired(tmp_path, store)).history("shop").backups
        assert entry.on_hold == held, data


def released(made: Manifest, *, held: bool) -> bytes:
    return encode(Hold(backup=made.id, database="shop", held=held, moment=NOW))


def test_only_our_own_backups_are_what_a_new_one_is_compared_with(tmp_path: Path) -> None:
    store, keys = MemoryStore(), Keyring.parse("k" * 32)
    mine, theirs = manifest(NOW - DAY), manifest(NOW - HOUR)
    put(store, mine, keys)
    put(store, theirs)
    assert [one.id for one in Reader(store, keys).recent_manifests("shop", 5)] == [mine.id]
    assert [one.id for one in Reader(store, NO_KEYS).recent_manifests("shop", 1)] == [theirs.id]


def test_a_failed_run_stops_the_prune(tmp_path: Path) -> None:
    store = MemoryStore()
    month(store)
    put_attempt(store, attempt(NOW, outcome="failure"))
    wiring = wired(tmp_path, store)
    done = prune(wiring, wiring.targets[0], agreed=True)
    assert done.deleted == ()
    assert "the last run failed" in done.plan.blocked


def test_a_backup_on_hold_is_not_pruned(tmp_path: Path) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    history = read(wiring).history("shop")
    doomed = plan_for(wiring, history, agreed=True).deletions[0]
    on_hold = replace(
        history, backups=tuple(replace(one, on_hold=one.id == doomed) for one in history.backups)
    )
    assert doomed not in plan_for(wiring, on_hold, agreed=True).deletions


class Pings:
    """The calls of the dead man's switch."""

    def __init__(self, *_: Any) -> None:
        self.calls: list[str] = []

    def started(self) -> None:
        self.calls.append("started")

    def proven(self) -> None:
        self.calls.append("proven")

    def failed(self, why: str) -> None:
        self.calls.append(f"failed {why.partition(':')[0]}")


@pytest.mark.parametrize("wrong", ["", "a", "b"])
def test_one_database_that_fails_is_not_a_success(
    lock: FakeLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Either of two databases, in any order."""
    pings = Pings()
    monkeypatch.setattr(jobs, "Pings", lambda _: pings)
    wiring = wired(tmp_path, MemoryStore(), "a", "b")

    class Report:
        unprovable: tuple[str, ...] = ()

        def __init__(self, ok: bool) -> None:
            self.ok, self.differences = ok, ("a row is missing",)

    monkeypatch.setattr(jobs, "verify", lambda _, entry: Report(entry.manifest.database != wrong))
    Jobs(new_state(wiring)).back_up()
    assert ("proven" in pings.calls) == (not wrong)
    assert sum(one.startswith("failed") for one in pings.calls) == bool(wrong)


def test_a_database_that_cannot_be_dumped_is_not_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings = Pings()
    monkeypatch.setattr(jobs, "Pings", lambda _: pings)
    locks = {"a": FakeLock(), "b": FakeLock()}
    locks["a"].lost = True
    monkeypatch.setattr(running, "engine_for", lambda _, target: FakeEngine(locks[target.name]))

    class Report:
        ok, unprovable, differences = True, (), ()

    monkeypatch.setattr(jobs, "verify", lambda *_: Report())
    Jobs(new_state(wired(tmp_path, MemoryStore(), "a", "b"))).back_up()
    assert pings.calls == ["started", "failed a"]


def test_children_get_no_other_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "AWS_SECRET_ACCESS_KEY",
        "SECRET_KEY",
        "CELERY_BROKER_URL",
        "BACKUP_AGE_IDENTITY",
        "PGPASSWORD",
    ):
        monkeypatch.setenv(name, "hunter2")
    assert "hunter2" not in clean_environment().values()
    assert clean_environment()["PATH"] == os.environ["PATH"]


def test_the_throwaway_server_listens_on_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regardless of the user's options."""
    started: list[list[str]] = []
    monkeypatch.setattr(throwaway, "start", lambda words, **_: started.append(words))
    programs: Any = SimpleNamespace(path=lambda name: name)
    throwaway._start(programs, tmp_path, {"listen_addresses": "*", "work_mem": "8MB"}, ())
    [words] = started
    assert [word for word in words if word.startswith("listen_addresses")] == ["listen_addresses="]
    assert f"unix_socket_directories={tmp_path}" in words
    assert "work_mem=8MB" in words


class ServerWithRoles:
    """A server on which only roles are created and dropped."""

    def __init__(self) -> None:
        self.ids, self.dropped = {10, 16384}, [0]

    def role_ids(self) -> set[int]:
        return set(self.ids)

    def drop_roles(self, ids: set[int]) -> None:
        self.dropped = sorted(ids)

    def sweep(self, _: str) -> None: ...

    def drop(self, _: str) -> None: ...

    def lock(self, _: str) -> AbstractContextManager[None]:
        return nullcontext()


def test_new_roles_on_a_given_server_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the verification fails; roles that were there before stay."""
    server = ServerWithRoles()
    monkeypatch.setattr(scratch, "databases", lambda _: nullcontext(server))
    monkeypatch.setattr(scratch, "_version", lambda _: "18.6")

    def verification() -> None:
        with scratch._temporary(None):  # type: ignore[arg-type]
            server.ids.add(16385)
            raise DumpError("it failed", hint="")

    with pytest.raises(DumpError):
        verification()
    assert server.dropped == [16385]
