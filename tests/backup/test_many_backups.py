"""The catalogue of many backups: what it costs is counted in requests and decoded documents, not in time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from backup.catalogue import layout
from backup.catalogue.cache import _fetched
from backup.catalogue.document import D, decode, encode
from backup.catalogue.manifest import Manifest, StoredObject, Table
from backup.catalogue.reader import Reader
from backup.catalogue.signatures import Keyring, Trust
from backup.cli.common import find
from backup.replication.offsite import copy_missing
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.store import MemoryStore, ObjectInfo, RetryingStore, RetryPolicy
from backup.wiring import Wiring
from tests.backup.conftest import Wire
from tests.backup.documents import KEYS, NOW, attempt, manifest, put

COUNT = 200
HOUR = timedelta(hours=1)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of times that a document was decoded, by its key."""
    decoded: Counter[str] = Counter()

    def counting(kind: type[D], data: bytes, where: str, keys: Keyring) -> tuple[D, Trust]:
        decoded[where] += 1
        return decode(kind, data, where, keys)

    monkeypatch.setattr("backup.catalogue.cache.decode", counting)
    return decoded


class CountingStore(MemoryStore):
    """A store that counts its requests, and how many of them were in progress at once."""

    def __init__(self, name: str = "main", parallel: int = 16) -> None:
        self.parallel = parallel
        self.requests: Counter[str] = Counter()
        super().__init__(name, fault=lambda operation, _: self.requests.update([operation]))

    @property
    def total(self) -> int:
        return sum(self.requests.values())


def filled(store: CountingStore, count: int = COUNT, database: str = "shop", **more: Any) -> CountingStore:
    for number in range(count):
        put(store, manifest(NOW - (count - number) * HOUR, database=database, **more), KEYS)
        made = attempt(NOW - (count - number) * HOUR, database=database, kind="prune")
        store.put(layout.attempt(database, made.id, made.kind), encode(made, KEYS))
    store.requests.clear()
    return store


@pytest.fixture
def wiring(wired: Wire) -> Wiring:
    """With 200 backups in a store in memory."""
    return wired_to(wired(), filled(CountingStore()))


def wired_to(wiring: Wiring, store: CountingStore, **more: Any) -> Wiring:
    policy = RetryPolicy(attempts=1)
    return replace(
        wiring,
        store=RetryingStore(store, policy),
        keys=KEYS,
        clock=lambda: NOW,
        readers={},
        **more,
    )


def inner(wiring: Wiring) -> CountingStore:
    assert isinstance(wiring.store.inner, CountingStore)
    return wiring.store.inner


@pytest.mark.parametrize("parallel", [1, 16])
def test_each_document_is_fetched_and_decoded_once(counted: Counter[str], parallel: int) -> None:
    store = filled(CountingStore(parallel=parallel))
    one = Reader(store, KEYS)
    first = one.read(NOW).history("shop")
    assert len(first.backups) == COUNT
    assert all(entry.verified for entry in first.backups)
    assert set(counted.values()) == {1}
    # The newest attempts only.
    assert store.requests == {"list": 2, "get": 2 * COUNT + 50}
    store.requests.clear()
    again = one.read(NOW).history("shop")
    assert again == first
    assert store.requests == {"list": 2}
    assert set(counted.values()) == {1}


def test_what_is_fetched_at_a_time_reads_the_same_as_one_by_one() -> None:
    one, many = filled(CountingStore(parallel=1), 20), CountingStore(parallel=16)
    put(one, manifest(NOW - HOUR / 2), proven=False)  # unsigned
    one.put(f"shop/{manifest(NOW).id}/{layout.MANIFEST}", b"{")
    many.objects = one.objects
    first, second = (Reader(store, KEYS).read(NOW).history("shop") for store in (one, many))
    assert [each.id for each in first.broken] == [each.id for each in second.broken] != []
    assert replace(first, broken=()) == replace(second, broken=())
    assert first.others


def test_many_are_asked_for_at_the_same_time() -> None:
    both = Barrier(2, timeout=60)
    store = filled(CountingStore(), 2)

    def together(operation: str, key: str) -> None:
        if operation == "get" and key.endswith(layout.MANIFEST):
            both.wait()  # the first one returns only when the second one has begun

    store.fault = together
    assert len(Reader(store, KEYS).read(NOW).history("shop").backups) == 2


def test_one_reader_for_everything_that_a_service_does(wiring: Wiring, counted: Counter[str]) -> None:
    state = new_state(wiring)
    state.refresh()
    target = wiring.targets[0].name
    wiring.reader().recent_manifests("shop", 7)
    with wiring.journal(target).attempt("prune"):
        pass
    state.refresh()
    state.refresh(target)
    assert set(counted.values()) <= {1}


def test_refreshing_one_database_asks_for_no_other(wired: Wire, database: str) -> None:
    store = filled(CountingStore(), 3, database)
    filled(store, 3, "other")
    base = wired(BACKUP_DATABASE_URLS=f"{database}=postgresql://a/b,other=postgresql://a/c", DATABASE_URL="")
    wiring = wired_to(base, store)
    state = new_state(wiring)
    state.refresh()
    put(store, manifest(NOW, database=database), KEYS)
    asked: list[str] = []
    store.fault = lambda _, key: asked.append(key)
    state.refresh(database)
    assert len(state.history(database).backups) == 4
    assert len(state.history("other").backups) == 3
    assert asked
    assert not [key for key in asked if key.startswith("other")]


def test_finding_the_latest_takes_few_requests(wiring: Wiring) -> None:
    store = inner(wiring)
    found = find(wiring, "shop", "latest", verified=True)
    assert found.id == max(key.split("/")[1] for key in store.objects if key.endswith(layout.MANIFEST))
    # One listing, a few manifests with their reports, and the prune that says what was deleted.
    assert store.total <= 10
    store.requests.clear()
    before = find(wiring, "shop", "latest", verified=True, before=NOW - 100 * HOUR + HOUR / 2)
    assert before.manifest.taken == NOW - 100 * HOUR
    assert store.total <= 10


def test_finding_by_the_end_of_an_id_reads_that_one(wiring: Wiring) -> None:
    store = inner(wiring)
    backup_id = sorted(key.split("/")[1] for key in store.objects if key.endswith(layout.MANIFEST))[50]
    assert find(wiring, "shop", backup_id[-6:]).id == backup_id
    assert store.total <= 6


def test_the_latest_verified_one_is_found_behind_many_others(wired: Wire) -> None:
    store = filled(CountingStore(), 3)
    wanted = find(wired_to(wired(), store), "shop", "latest").id
    for number in range(10):
        put(store, manifest(NOW + number * HOUR / 20), KEYS, proven=False)
    found = find(wired_to(wired(), store), "shop", "latest", verified=True)
    assert found.id == wanted


def test_a_backup_that_was_put_back_is_not_the_latest(wired: Wire) -> None:
    """Even if only the newest backups are read."""
    store = filled(CountingStore(), 5)
    newest = manifest(NOW)
    put(store, newest, KEYS)
    gone = attempt(NOW + HOUR / 10, kind="prune", deleted=(newest.id,))
    store.put(layout.attempt("shop", gone.id, gone.kind), encode(gone, KEYS))
    later = attempt(NOW + HOUR / 9, kind="prune", outcome="failure")
    store.put(layout.attempt("shop", later.id, later.kind), encode(later, KEYS))
    assert find(wired_to(wired(), store), "shop", "latest", verified=True).id != newest.id


def test_an_off_site_round_with_nothing_to_copy(wired: Wire, tmp_path: Path) -> None:
    archive = StoredObject(
        name="database.dump.zst",
        role="archive",
        raw_bytes=9,
        stored_bytes=9,
        sha256=sha256(b"0" * 9).hexdigest(),
    )
    main, offsite = filled(CountingStore(), 50, objects=(archive,)), CountingStore("offsite")
    base = wired(BACKUP_DATABASE_URLS="shop=postgresql://a/b", DATABASE_URL="")
    wiring = wired_to(base, main, offsite=RetryingStore(offsite, RetryPolicy(attempts=1)))
    target = wiring.targets[0]
    state = new_state(wiring)
    assert copy_missing(wiring, target) == 50
    # The next round reads what it has just written.
    copy_missing(wiring, target)
    main.requests.clear()
    offsite.requests.clear()
    Jobs(state).copy_offsite()
    assert main.requests == offsite.requests == {"list": 1}
    # What an interrupted copy has left is removed, even if its backup is gone.
    offsite.put(f"shop/{manifest(NOW).id}/database.dump.zst", b"0")
    Jobs(state).copy_offsite()
    assert offsite.requests["delete"] == 1


def test_equal_tables_are_in_memory_once() -> None:
    tables = tuple(Table(schema="public", name=f"t{number}", rows=number) for number in range(100))
    changed = (*tables[:-1], Table(schema="public", name="t99", rows=-0))
    store = CountingStore()
    for number in range(10):
        put(store, manifest(NOW - number * HOUR, tables=changed if number == 5 else tables), KEYS)
    found = Reader(store, KEYS).read(NOW).history("shop").backups
    assert all(entry.manifest.tables in (tables, changed) for entry in found)
    in_memory = {id(table) for entry in found for table in entry.manifest.tables}
    assert len(in_memory) <= 100 + 2
    assert all(Manifest.decode(entry.manifest.encode(KEYS), "", KEYS).tables for entry in found)
    # Its digest is that of the stored bytes.
    assert all(entry.report is not None for entry in found)


def test_no_more_documents_are_fetched_ahead_than_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.catalogue.cache.WAITING_BYTES", 10)
    sizes = [4, 4, 4, 40, 1, 1, 1]
    wanted: list[tuple[type[Any], ObjectInfo]] = [
        (Manifest, ObjectInfo(str(number), size, NOW, "1")) for number, size in enumerate(sizes)
    ]
    begun: list[str] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, get: Any, info: Any) -> Any:  # type: ignore[override]
            begun.append(info.key)
            return super().submit(get, info)

    with Pool(1) as pool:
        ahead = [(info.key, len(begun)) for _, info, _ in _fetched(pool, lambda _: b"", wanted, 2)]
    # Never three, never more than ten bytes with another one; and the next one begins as soon as one has been read.
    assert ahead == [("0", 2), ("1", 3), ("2", 3), ("3", 4), ("4", 6), ("5", 7), ("6", 7)]
