"""Stored WAL as the files that a server replays, and the stored pieces that a whole segment replaces."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest

from backup.catalogue.signatures import NO_KEYS
from backup.errors import NoIdentityError, VerificationError
from backup.physical import lsn
from backup.physical.archive import Archive
from backup.physical.measures import Measures
from backup.physical.pack import pack
from backup.physical.segments import Segments
from backup.physical.spans import Span
from backup.physical.storage import Outlet, Storage
from backup.physical.upkeep import stored
from backup.physical.uploads import Parcel
from backup.pipeline import PackingOptions
from backup.store import MemoryStore

SIZE = 1 << 20
ARCHIVE = Archive("main", "7", SIZE)
IDENTITY = pyrage.x25519.Identity.generate()
PACKING = PackingOptions(recipients=(IDENTITY.to_public(),))
FIRST, SECOND, THIRD = (lsn.segment_name(1, number, SIZE) for number in (4, 5, 6))
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)


def wal(start: int, end: int) -> bytes:
    return b"".join(position.to_bytes(4, "big") for position in range(start, end, 4))


def put(store: MemoryStore, start: int, end: int, timeline: int = 1, *, plain: bytes | None = None) -> str:
    """Store WAL under the name of its own bytes, whatever the object contains."""
    data = wal(start, end)
    key = ARCHIVE.wal_key(timeline, start, end, hashlib.sha256(data).hexdigest())
    store.put(key, pack(data if plain is None else plain, PACKING).data)
    return key


def segments(store: MemoryStore, *path: Span, timeline: int = 1) -> Segments:
    return Segments(store, ARCHIVE, ARCHIVE.listing(stored(store, "main")), path, timeline, (IDENTITY,))


def put_history(store: MemoryStore, timeline: int) -> bytes:
    data = f"{timeline - 1}\t0/600000\tno recovery target\n".encode()
    store.put(ARCHIVE.history_key(timeline, hashlib.sha256(data).hexdigest()), pack(data, PACKING).data)
    return data


def test_all_that_replay_needs_is_promised_in_its_order() -> None:
    store = MemoryStore()
    for timeline in (2, 3, 4):
        put_history(store, timeline)
    there = segments(
        store, Span(1, 4 * SIZE + 8, 5 * SIZE + 100), Span(2, 5 * SIZE + 100, 6 * SIZE + 4), timeline=3
    )
    # The segment in which the path leaves a timeline is needed of both; the last one although it is not full.
    assert there.promised() == [
        "00000002.history",
        "00000003.history",
        FIRST,
        SECOND,
        lsn.segment_name(2, 5, SIZE),
        lsn.segment_name(2, 6, SIZE),
    ]
    # A segment of a later timeline follows one of the same number.
    assert there.promised(lsn.segment_name(2, 5, SIZE))[2:] == [
        SECOND,
        lsn.segment_name(2, 5, SIZE),
        lsn.segment_name(2, 6, SIZE),
    ]


def test_files_are_whole_and_what_was_never_written_is_zero(tmp_path: Path) -> None:
    store, target = MemoryStore(), tmp_path / "file"
    put(store, 4 * SIZE, 5 * SIZE)
    put(store, 5 * SIZE, 5 * SIZE + 8)
    put(store, 5 * SIZE + 8, 5 * SIZE + 100)
    there = segments(store, Span(1, 4 * SIZE, 5 * SIZE + 100))
    there.fetch(FIRST, target)
    assert target.read_bytes() == wal(4 * SIZE, 5 * SIZE)
    there.fetch(SECOND, target)
    assert target.read_bytes() == wal(5 * SIZE, 5 * SIZE + 100).ljust(SIZE, b"\0")
    history = put_history(store, 2)
    segments(store).fetch("00000002.history", target)
    assert target.read_bytes() == history


@pytest.mark.parametrize(
    ("plain", "why"),
    [
        (wal(0, SIZE), "its SHA-256 is not the one in its name"),
        (wal(4 * SIZE, 5 * SIZE - 4), f"it has {SIZE - 4} bytes, not {SIZE}"),
        (wal(4 * SIZE, 5 * SIZE + 4), f"it unpacks to more than {SIZE} bytes"),
    ],
    ids=["other bytes", "too few", "too many"],
)
def test_only_the_bytes_that_were_streamed_are_handed_over(tmp_path: Path, plain: bytes, why: str) -> None:
    store = MemoryStore()
    put(store, 4 * SIZE, 5 * SIZE, plain=plain)
    with pytest.raises(VerificationError, match=why):
        segments(store, Span(1, 4 * SIZE, 5 * SIZE)).fetch(FIRST, tmp_path / "file")


def test_wal_that_is_missing_is_named_with_its_position(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, 4 * SIZE, 4 * SIZE + 8)
    there = segments(store, Span(1, 4 * SIZE, 6 * SIZE))
    for name, position in ((FIRST, 4 * SIZE + 8), (SECOND, 5 * SIZE)):
        with pytest.raises(VerificationError, match=f"{name} is missing .* from {lsn.text(position)} on"):
            there.fetch(name, tmp_path / "file")
    put(store, 4 * SIZE, 5 * SIZE)
    without = replace(segments(store, Span(1, 4 * SIZE, 5 * SIZE)), identities=())
    with pytest.raises(NoIdentityError, match="no identity is set"):
        without.fetch(FIRST, tmp_path / "file")


def test_pieces_that_are_replaced_meanwhile_are_looked_for_again(tmp_path: Path) -> None:
    store = MemoryStore()
    pieces = [put(store, 4 * SIZE, 4 * SIZE + 8), put(store, 4 * SIZE + 8, 5 * SIZE)]
    there = segments(store, Span(1, 4 * SIZE, 5 * SIZE))
    put(store, 4 * SIZE, 5 * SIZE)
    store.delete(pieces)
    there.fetch(FIRST, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == wal(4 * SIZE, 5 * SIZE)


def storage(store: MemoryStore) -> Storage:
    clock = lambda: UNTIL - timedelta(days=30)  # noqa: E731 - it has no name in what it is given to
    outlet = Outlet(store, NO_KEYS, PACKING, 1.0, clock, lambda _: UNTIL)
    return Storage(ARCHIVE, outlet, Measures())


def send(made: Storage, start: int, end: int) -> None:
    parcel = Parcel(1, start, end, wal(start, end))
    made.put(parcel)
    made.remove_replaced_pieces(parcel)


def test_a_whole_segment_replaces_its_pieces_and_is_locked() -> None:
    """Pieces are not locked: a store with a lock would keep every one of them."""
    store = MemoryStore()
    made = storage(store)
    send(made, 4 * SIZE, 4 * SIZE + 8)
    send(made, 5 * SIZE, 5 * SIZE + 8)
    assert (len(store.objects), store.locked) == (2, {})
    send(made, 4 * SIZE, 5 * SIZE)
    # This piece has overtaken nothing: it arrives after the segment that replaces it.
    send(made, 4 * SIZE + 8, 4 * SIZE + 16)
    names = [key.rpartition("/")[2][:24] for key in store.objects]
    assert sorted(names) == [FIRST, SECOND]
    assert list(store.locked.values()) == [UNTIL]
    assert FIRST in next(iter(store.locked))
    assert made.measures.objects == 4


def test_pieces_of_an_earlier_process_are_replaced_too() -> None:
    store = MemoryStore()
    before = put(store, 4 * SIZE, 4 * SIZE + 8)
    left = [put(store, 5 * SIZE, 5 * SIZE + 8), put(store, 6 * SIZE, 6 * SIZE + 8, timeline=2)]
    # The process ended between the whole segment and the removal of its pieces.
    whole = put(store, 4 * SIZE, 5 * SIZE)
    made = storage(store)
    made.take_stock(ARCHIVE.listing(stored(store, "main")), 1)
    assert before not in store.objects
    assert set(store.objects) == {*left, whole}
    send(made, 5 * SIZE, 6 * SIZE)
    assert left[0] not in store.objects
    assert left[1] in store.objects
