"""Whatever is next to the WAL, even without a key: it is read or reported, and everything else continues."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.catalogue import layout
from backup.catalogue.document import Document, decode, encode
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Physical, StoredObject
from backup.catalogue.notified import Notified
from backup.cli.wal import examine
from backup.errors import CatalogueError
from backup.physical.archive import Archive, Gap
from backup.physical.coverage import coverage_of
from backup.physical.marks import RestorePoint
from backup.physical.measures import Measures
from backup.physical.service import Upkeep, Watched
from backup.settings import BackupSettings
from backup.store import MemoryStore, RetryingStore, RetryPolicy
from backup.wiring import wire
from tests.backup.documents import BASE_ROLES, NOW, SERVER, attempt, manifest, redigested, report
from tests.backup.test_documents import altered, edited

IDENTITY = pyrage.x25519.Identity.generate()
WIRING = wire(
    BackupSettings.load(
        {
            "BACKUP_STORE_URL": "file:///nonexistent",
            "BACKUP_SERVERS": "main=postgresql://nobody@127.0.0.1:9/postgres",
            "BACKUP_AGE_RECIPIENTS": str(IDENTITY.to_public()),
            "BACKUP_AGE_IDENTITY": str(IDENTITY),
        }
    )
)
SIZE, SYSTEM = 1 << 20, "7388000000000000001"
LAST = (1 << 64) - SIZE
OBJECTS = tuple(
    StoredObject(name=f"{name}.zst", role=role, raw_bytes=10, stored_bytes=10, sha256="0" * 64)
    for name, role in BASE_ROLES.items()
)
BASE = manifest(
    NOW - timedelta(hours=3),
    database="main",
    kind="server",
    objects=OBJECTS,
    server=SERVER.model_copy(update={"system_identifier": SYSTEM}),
    physical=Physical(timeline=1, start=SIZE, end=SIZE + 5, segment_size=SIZE),
)
GAP = Gap(
    server="main",
    system_identifier=SYSTEM,
    timeline=1,
    start=5 * SIZE,
    end=6 * SIZE,
    noticed=NOW,
    reason="gone",
)
DOCUMENTS: dict[str, Document] = {
    "manifest": BASE,
    "report": report(BASE),
    "attempt": attempt(),
    "hold": Hold(backup=BASE.id, database="main", held=True, moment=NOW, reason="before the move"),
    "notified": Notified(database="main", faults={"late": "it is late"}),
    "wal-gap": GAP,
    "wal-mark": RestorePoint(
        server="main", system_identifier=SYSTEM, name="now", position=SIZE, timeline=1, moment=NOW
    ),
}


def test_every_kind_of_document_is_tried() -> None:
    assert {type(each) for each in DOCUMENTS.values()} == set(Document.__subclasses__())


@pytest.mark.parametrize("what", DOCUMENTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_are_a_document_or_an_error(what: str, data: st.DataObject) -> None:
    whole = encode(DOCUMENTS[what])
    if data.draw(st.booleans()):
        odd = edited(data, whole)
    else:
        value = altered(data, DOCUMENTS[what].model_dump(mode="json", by_alias=True))
        with suppress(ValueError):
            odd = redigested(value) if isinstance(value, dict) else repr(value).encode()
    with suppress(CatalogueError):
        decode(type(DOCUMENTS[what]), odd, "x")


POSITIONS = st.one_of(
    st.sampled_from([0, SIZE, 2 * SIZE, 5 * SIZE, LAST - SIZE, LAST]),
    st.integers(0, LAST // SIZE).map(lambda number: number * SIZE),
)
LENGTHS = st.sampled_from([1, 5, SIZE - 1, SIZE])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    wal=st.lists(st.tuples(st.integers(1, 3), POSITIONS, LENGTHS), max_size=8),
    gaps=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1 << 62), st.integers(1, 1 << 62)), max_size=2),
    place=st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 1 << 62), st.integers(0, 1 << 62)),
    names=st.lists(st.from_regex(r"\A[0-9A-F]{8}/[0-9A-F]{24}-[0-9a-f]{32}\.zst\.age\Z"), max_size=3),
)
def test_no_wal_however_it_is_named_stops_anything(
    wal: list[tuple[int, int, int]],
    gaps: list[tuple[int, int, int]],
    place: tuple[int, int, int],
    names: list[str],
) -> None:
    wiring = replace(WIRING, store=RetryingStore(MemoryStore(), RetryPolicy(attempts=1)))
    store, archive = wiring.store, Archive("main", SYSTEM, SIZE)
    timeline, start, more = place
    odd = BASE.model_copy(
        update={
            "id": f"{BASE.id[:-6]}ffffff",
            "physical": Physical(
                timeline=timeline, start=start, end=min(start + more, (1 << 63) - 1), segment_size=SIZE
            ),
        }
    )
    for made in (BASE, odd):
        store.put(layout.manifest("main", made.id), made.encode())
        for stored in made.objects:
            store.put(f"main/{made.id}/{stored.name}", bytes(10))
        proof = report(made)
        store.put(layout.report("main", made.id, proof.finished), encode(proof))
    for each, begin, length in wal:
        store.put(archive.wal_key(each, begin, begin + length, "0" * 64), b"x")
    for each, begin, length in gaps:
        end = min(begin + length, (1 << 63) - 1)
        found = GAP.model_copy(update={"timeline": each, "start": begin, "end": end})
        store.put(archive.gap_key(each, begin, end), encode(found))
    for name in names:
        store.put(f"{archive.prefix}{name}", b"x")
    coverage = coverage_of(wiring, "main")
    for candidate in coverage.candidates:
        coverage.segments(store, candidate).promised()
        assert candidate.choice
    examined = examine(wiring, wiring.servers[0])
    assert examined.facts()
    examined.show()
    watched = Watched(wiring.servers[0], Measures(segment_size=SIZE))
    Upkeep(wiring, watched).once(prune=True)
