"""Base backups and their WAL in two stores: each store keeps what can be recovered from it alone."""

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Literal

import pyrage
import pytest

from backup.catalogue.document import encode
from backup.catalogue.manifest import Manifest, Physical, Server, StoredObject
from backup.errors import NoIdentityError
from backup.physical import lsn
from backup.physical.archive import Archive, Gap, Stored, WalObject
from backup.physical.coverage import coverage, coverage_of, periods
from backup.physical.measures import Measures
from backup.physical.service import Upkeep, Watched
from backup.physical.timelines import Fork
from backup.physical.upkeep import clusters
from backup.replication.offsite import copy_missing
from backup.service import status_page
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import LocalStore, RetryingStore, Store
from backup.wiring import Wiring, wire
from sidecar.humanize import moment
from tests.backup.documents import manifest, put

SEGMENT = 16 << 20
ROLES: dict[str, Literal["base", "base-manifest"]] = {"base.tar": "base", "backup_manifest": "base-manifest"}
SYSTEM = "7713437366875807143"
TAKEN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
# Late enough that everything is older than the window.
LATER = timedelta(days=30)


@pytest.fixture
def wiring(tmp_path: Path) -> Wiring:
    for name in ("main", "offsite"):
        (tmp_path / name).mkdir()
    settings = BackupSettings.load(
        {
            "BACKUP_SERVERS": "main=postgresql://nobody@127.0.0.1:1/postgres",
            "BACKUP_STORE_URL": f"file://{tmp_path}/main",
            "BACKUP_OFFSITE_STORE_URL": f"file://{tmp_path}/offsite",
            "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
            "BACKUP_WAL_KEEP": "7d",
        }
    )
    return replace(wire(settings), clock=lambda: datetime.now(UTC) + LATER)


def base(number: int, hours: float) -> Manifest:
    """A base backup that needs one segment, this many hours after the first."""
    start = number * SEGMENT + 40
    stored = tuple(
        StoredObject(
            name=f"{name}.zst.age",
            role=role,
            raw_bytes=10,
            stored_bytes=10,
            sha256=hashlib.sha256(b"0" * 10).hexdigest(),
        )
        for name, role in ROLES.items()
    )
    return manifest(
        TAKEN + timedelta(hours=hours),
        database="main",
        kind="server",
        objects=stored,
        server=Server(version="18.6", version_number=180006, system_identifier=SYSTEM),
        physical=Physical(timeline=1, start=start, end=start + 100, segment_size=SEGMENT),
    )


def archive() -> Archive:
    return Archive("main", SYSTEM, SEGMENT)


def fill(store: RetryingStore, numbers: range, at: datetime | None = None) -> None:
    """Whole segments with almost no content, stored at some time."""
    assert isinstance(store.inner, LocalStore)
    for number in numbers:
        start = number * SEGMENT
        key = archive().wal_key(1, start, start + SEGMENT, f"{number:064x}")
        store.put(key, b"0")
        if at is not None:
            os.utime(store.inner.folder / key, (at.timestamp(), at.timestamp()))


def segments(store: Store) -> list[int]:
    found = archive().listing(Stored(info.key, info.size, info.modified) for info in store.walk(".wal/main/"))
    return [each.start // SEGMENT for each in found.wal]


def upkeep(wiring: Wiring, *, prune: bool) -> Measures:
    """One round; returns what it found."""
    measures = Measures(segment_size=SEGMENT)
    Upkeep(wiring, Watched(wiring.servers[0], measures)).once(prune=prune)
    return measures


def test_a_store_keeps_the_wal_of_the_base_backups_that_it_has(wiring: Wiring) -> None:
    """Off-site, the newest base backup is still missing: the WAL that leads on from the one before stays there."""
    assert wiring.offsite is not None
    old, new = base(2, 0), base(20, 1)
    fill(wiring.store, range(2, 30))
    put(wiring.store, old)
    copy_missing(wiring, wiring.servers[0])
    put(wiring.store, new)
    upkeep(wiring, prune=True)
    assert segments(wiring.store) == [2, *range(20, 30)]
    assert segments(wiring.offsite) == list(range(2, 30))
    # Once it is there, both keep the same.
    assert copy_missing(wiring, wiring.servers[0]) == 1
    upkeep(wiring, prune=True)
    assert segments(wiring.offsite) == segments(wiring.store) == [2, *range(20, 30)]


def test_without_a_proof_nothing_is_deleted(wiring: Wiring) -> None:
    fill(wiring.store, range(2, 30))
    put(wiring.store, base(2, 0), proven=False)
    put(wiring.store, base(20, 1), proven=False)
    upkeep(wiring, prune=True)
    assert segments(wiring.store) == list(range(2, 30))


def test_what_can_be_recovered_is_shown_with_its_gaps(wiring: Wiring) -> None:
    first, second = base(2, 0), base(20, 1)
    fill(wiring.store, range(2, 10), TAKEN + timedelta(minutes=20))
    fill(wiring.store, range(20, 30), TAKEN + timedelta(minutes=90))
    put(wiring.store, first)
    put(wiring.store, second)
    [early, late] = periods(coverage_of(wiring, "main").candidates)
    assert (early.earliest, late.earliest) == (first.taken, second.taken)
    assert (early.latest, late.latest) == (TAKEN + timedelta(minutes=20), TAKEN + timedelta(minutes=90))
    assert (early.open, late.open) == (False, True)
    found = upkeep(wiring, prune=False).recoverable
    assert found.earliest == second.taken
    assert found.latest == TAKEN + timedelta(minutes=90)
    state = new_state(wiring)
    state.refresh()
    state.read_wal()
    page = status_page.render(state)
    kept, gap = (
        "<li>{} to {}: any moment can be recovered",
        '<li><span class="bad">{} to {}: nothing can be recovered',
    )
    times = [moment(TAKEN + timedelta(minutes=minutes)) for minutes in (0, 20, 60, 90)]
    assert kept.format(*times[:2]) in page
    assert gap.format(*times[1:3]) in page
    assert kept.format(*times[2:]) in page


def test_two_base_backups_without_a_gap_are_one_period(wiring: Wiring) -> None:
    fill(wiring.store, range(2, 30))
    put(wiring.store, base(2, 0))
    put(wiring.store, base(20, 1))
    [only] = periods(coverage_of(wiring, "main").candidates)
    assert only.earliest == TAKEN
    assert only.open


def test_a_base_backup_that_lacks_an_object_is_not_recovered_from(wiring: Wiring) -> None:
    fill(wiring.store, range(2, 30))
    put(wiring.store, base(2, 0))
    damaged = base(20, 1)
    folder = put(wiring.store, damaged)
    wiring.store.delete([f"{folder}/{damaged.objects[0].name}"])
    found = coverage_of(wiring, "main")
    assert [each.window.base for each in found.candidates] == ids(wiring)[:1]
    assert [reason for _, reason in found.unusable] == [
        f"some of its objects are missing or differ in size: {damaged.objects[0].name}"
    ]


def ids(wiring: Wiring) -> list[str]:
    history = wiring.reader().read(wiring.clock(), ["main"]).history("main")
    return [entry.id for entry in history.backups]


def test_the_newest_timeline_is_followed_unless_another_is_asked_for(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(wiring.store, range(2, 20))
    for number in range(10, 12):
        start = number * SEGMENT
        wiring.store.put(archive().wal_key(2, start, start + SEGMENT, f"{number:064x}"), b"0")
    put(wiring.store, base(2, 0))
    monkeypatch.setattr("backup.physical.coverage.forks", lambda *_: {2: (Fork(1, 10 * SEGMENT + 9),)})
    windows = [coverage_of(wiring, "main", timeline).candidates[0].window for timeline in (None, 1, 2)]
    assert [(each.timeline, each.end // SEGMENT) for each in windows] == [(2, 12), (1, 20), (2, 12)]


def test_wal_before_a_recorded_gap_does_not_grow(wiring: Wiring) -> None:
    """Nothing is stored after it yet, and the latest state cannot be recovered."""
    fill(wiring.store, range(2, 30))
    put(wiring.store, base(2, 0))
    assert coverage_of(wiring, "main").candidates[0].open
    start, end = 30 * SEGMENT, 31 * SEGMENT
    lost = Gap(
        server="main",
        system_identifier=SYSTEM,
        timeline=1,
        start=start,
        end=end,
        noticed=TAKEN + timedelta(hours=2),
        reason="the slot was lost",
    )
    wiring.store.put(archive().gap_key(1, start, end), encode(lost, wiring.keys))
    assert not coverage_of(wiring, "main").candidates[0].open


def test_the_wal_of_another_cluster_is_not_this_ones(wiring: Wiring) -> None:
    """The server was initialized again under the same name."""
    put(wiring.store, base(2, 0))
    other = Archive("main", "1111111111111111111", SEGMENT)
    for number in range(2, 30):
        start = number * SEGMENT
        wiring.store.put(other.wal_key(1, start, start + SEGMENT, f"{number:064x}"), b"0")
    found = coverage_of(wiring, "main")
    assert found.candidates == ()
    assert [reason for _, reason in found.unusable] == ["the store lacks WAL that it needs"]
    fill(wiring.store, range(2, 4))
    assert [each.window.end // SEGMENT for each in coverage_of(wiring, "main").candidates] == [4]


class Passes(tuple[WalObject, ...]):
    """The WAL of a cluster, which counts how often all of it is looked at."""

    __slots__ = ()
    number = 0

    def __iter__(self) -> Iterator[WalObject]:
        Passes.number += 1
        return super().__iter__()


def test_all_wal_is_not_looked_at_for_each_base_and_each_segment(wiring: Wiring, tmp_path: Path) -> None:
    """Both grow with the days that are kept."""
    fill(wiring.store, range(2, 30))
    passes = []
    for number in (2, 3, 4, 5):
        put(wiring.store, base(number, number / 4))
        history = wiring.reader().read(wiring.clock(), ["main"]).history("main")
        [cluster] = clusters(wiring, wiring.store, "main", SEGMENT)
        listing = replace(cluster.listing, wal=Passes(cluster.listing.wal))
        Passes.number = 0
        found = coverage(wiring, history, [replace(cluster, listing=listing)])
        assert [each.window.end // SEGMENT for each in found.candidates] == [30] * (number - 1)
        passes.append(Passes.number)
    assert len(set(passes)) == 1
    read = found.segments(wiring.store, found.candidates[0])
    Passes.number = 0
    with pytest.raises(NoIdentityError):
        read.fetch(lsn.segment_name(1, 7, SEGMENT), tmp_path / "segment")
    assert Passes.number == 0


def test_a_silent_store_does_not_keep_the_service_from_its_other_refreshes(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(wiring.store, base(2, 0))
    state, silent = new_state(wiring), Event()
    state.refresh()
    monkeypatch.setattr("backup.service.state.REFRESH_SECONDS", 0.5)
    monkeypatch.setattr(LocalStore, "walk", lambda *_: silent.wait(30) and ())
    began = time.monotonic()
    state.read_wal()
    assert time.monotonic() - began < 15
    silent.set()
