"""Names of stored WAL, contiguous ranges, and recoverable windows."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.catalogue.document import encode
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.errors import CatalogueError
from backup.physical import archive as names
from backup.physical import lsn, marks
from backup.physical.archive import Archive, Gap, GapObject, HistoryObject, Stored, WalObject
from backup.physical.offsite import OffsiteCopy
from backup.physical.spans import Span, conflicts, contiguous_end, cover, spans
from backup.physical.targets import AtMark
from backup.physical.timelines import Fork, parse_history
from backup.physical.upkeep import clusters
from backup.physical.windows import Base, Window, windows
from backup.store import MemoryStore, ObjectInfo
from sidecar import UsageError
from tests.backup.conftest import Wire

MIB = 1 << 20
NOW = datetime(2026, 11, 29, tzinfo=UTC)
PLAIN = Archive("main", "7388000000000000001", MIB)
SIGNED = Archive("main", "7388000000000000001", MIB, Keyring((b"k" * 32,)))
OTHER_KEY = Archive("main", "7388000000000000001", MIB, Keyring((b"o" * 32,)))
ARCHIVES = st.sampled_from([PLAIN, SIGNED])
SHA = hashlib.sha256(b"some WAL").hexdigest()
TIMELINES = st.integers(1, lsn.MAX_TIMELINES)


def stored(key: str) -> Stored:
    return Stored(key, 100, NOW)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    first = draw(st.integers(0, 2**44 - 2)) * MIB
    start = draw(st.integers(0, MIB - 1))
    return first + start, first + draw(st.integers(start + 1, MIB))


@given(ARCHIVES, TIMELINES, ranges())
def test_an_object_is_read_as_it_was_named(archive: Archive, timeline: int, between: tuple[int, int]) -> None:
    key = archive.wal_key(timeline, *between, SHA)
    found = archive.parse(stored(key))
    assert found == WalObject(timeline, *between, SHA[:32], stored(key))


@given(ARCHIVES, TIMELINES)
def test_a_history_is_read_as_it_was_named(archive: Archive, timeline: int) -> None:
    key = archive.history_key(timeline, SHA)
    assert archive.parse(stored(key)) == HistoryObject(timeline, SHA[:32], stored(key))


@given(TIMELINES, ranges())
def test_a_gap_is_read_as_it_was_named(timeline: int, between: tuple[int, int]) -> None:
    key = PLAIN.gap_key(timeline, *between)
    assert PLAIN.parse(stored(key)) == GapObject(timeline, *between, stored(key))


def test_names_are_those_of_the_documentation() -> None:
    root = ".wal/main/7388000000000000001/00000002/"
    assert PLAIN.wal_key(2, 3 * MIB, 4 * MIB, SHA) == f"{root}000000020000000000000003-{SHA[:32]}.zst.age"
    piece = f"{root}000000020000000000000003.00000010-00000100-{SHA[:32]}.zst.age"
    assert PLAIN.wal_key(2, 3 * MIB + 16, 3 * MIB + 256, SHA) == piece
    assert PLAIN.history_key(2, SHA) == f"{root}00000002.history-{SHA[:32]}.zst.age"
    assert PLAIN.gap_key(2, 16, 255) == f"{root}gaps/0000000000000010-00000000000000FF.json"
    assert SIGNED.history_key(2, SHA).startswith(f"{root}00000002.history-{SHA[:32]}-")


@pytest.mark.parametrize("between", [(0, MIB + 1), (MIB - 1, MIB + 1), (5, 5), (6, 5)])
def test_wal_of_two_segments_or_none_has_no_name(between: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not within one segment"):
        PLAIN.wal_key(1, *between, SHA)


@given(ranges(), st.data())
def test_a_name_that_was_changed_is_ignored(between: tuple[int, int], data: st.DataObject) -> None:
    """With a key, a change of any character of a name is noticed: folder, segment, positions, seal."""
    key = SIGNED.wal_key(1, *between, SHA)
    at = data.draw(st.integers(0, len(key) - 1))
    other = data.draw(st.sampled_from("0123456789abcdefABCDEF./-").filter(lambda char: char != key[at]))
    changed = f"{key[:at]}{other}{key[at + 1 :]}"
    assert SIGNED.parse(stored(changed)) is None


def test_only_what_we_have_signed_counts() -> None:
    for other in (PLAIN, OTHER_KEY):
        keys = [other.wal_key(1, 0, MIB, SHA), other.history_key(2, SHA)]
        listing = SIGNED.listing(map(stored, keys))
        assert (listing.wal, listing.histories) == ((), ())
        assert set(listing.strangers) == set(keys)
    rotated = Archive("main", SIGNED.system, MIB, Keyring((b"n" * 32, b"k" * 32)))
    assert rotated.parse(stored(SIGNED.wal_key(1, 0, MIB, SHA))) is not None


@given(st.text(max_size=60) | st.from_regex(r"[0-9A-F]{8}/[0-9A-F]{24}[.\-0-9a-f]{0,90}\.zst\.age"))
def test_any_name_is_something_or_nothing(name: str) -> None:
    found = PLAIN.parse(stored(f"{PLAIN.prefix}{name}"))
    if isinstance(found, WalObject):
        assert PLAIN.wal_key(found.timeline, found.start, found.end, found.sha) == found.stored.key


@pytest.mark.parametrize(
    "name",
    [
        "00000001/000000020000000000000003-{sha}.zst.age",  # of another timeline's folder
        "00000001/000000010000000000001000-{sha}.zst.age",  # of another segment size
        "00000001/000000010000000000000003.00000000-00100001-{sha}.zst.age",  # longer than a segment
        "00000001/000000010000000000000003.00000005-00000005-{sha}.zst.age",  # empty
        "00000001/000000010000000000000003-{sha}.zst",  # not encrypted
        "00000000/000000000000000000000003-{sha}.zst.age",  # timeline 0
        "00000001/00000002.history-{sha}.zst.age",
        "00000001/gaps/0000000000000010-0000000000000010.json",
        "00000001/gaps/10-20.json",
        "00000001/../../x",
    ],
)
def test_a_name_that_contradicts_itself_is_ignored(name: str) -> None:
    key = PLAIN.prefix + name.format(sha=SHA[:32])
    assert PLAIN.listing([stored(key)]).strangers == (key,)


def test_another_servers_or_clusters_wal_is_left_out() -> None:
    for other in (Archive("mai", PLAIN.system, MIB), Archive("main", "738", MIB)):
        assert PLAIN.listing([stored(other.wal_key(1, 0, MIB, SHA))]) == names.Listing()


def test_two_contents_of_the_same_positions_are_a_conflict() -> None:
    other = hashlib.sha256(b"other WAL").hexdigest()
    keys = [PLAIN.wal_key(1, 0, MIB, SHA), PLAIN.wal_key(1, 0, MIB, other), PLAIN.wal_key(2, 0, MIB, other)]
    listing = PLAIN.listing(map(stored, keys))
    assert [{one.sha, two.sha} for one, two in conflicts(listing.wal)] == [{SHA[:32], other[:32]}]


# --- histories


def test_a_history_names_the_ancestors() -> None:
    data = b"# a comment\n1\t0/3000060\tno recovery target specified\n\n  2 \t0/5000000\tbefore 2026\n"
    assert parse_history(data, 3, "x") == (Fork(1, 0x3000060), Fork(2, 0x5000000))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"# nothing\n",
        b"1\n",
        b"x\t0/3000060\n",
        b"2\t0/3000060\n1\t0/4000060\n",  # goes back
        b"1\t0/4000060\n2\t0/3000060\n",
        b"3\t0/3000060\n",  # of itself
        b"0\t0/3000060\n",
        b"1\t0/3000060\n1\t0/3000060\n",
        b"\xff\xfe\x00",
        b"1\t0/3000060\n" * 10,
    ],
)
def test_what_is_not_a_history_is_refused(data: bytes) -> None:
    with pytest.raises(CatalogueError, match="not the history"):
        parse_history(data, 3, "x")


@given(st.binary(max_size=200), st.integers(1, 9))
def test_any_bytes_are_a_history_or_an_error(data: bytes, timeline: int) -> None:
    try:
        forks = parse_history(data, timeline, "x")
    except CatalogueError:
        return
    assert all(1 <= fork.timeline < timeline for fork in forks)


# --- contiguity, against a model that checks each position separately

SMALL = st.builds(
    lambda timeline, start, length: Span(timeline, start, start + length),
    st.integers(1, 3),
    st.integers(0, 40),
    st.integers(1, 12),
)
WAL = st.lists(SMALL, max_size=12)


def positions(of: list[Span]) -> set[tuple[int, int]]:
    return {(span.timeline, at) for span in of for at in range(span.start, span.end)}


@given(WAL, st.lists(SMALL, max_size=3))
def test_spans_have_exactly_the_positions_of_the_objects(wal: list[Span], gaps: list[Span]) -> None:
    found = spans(wal, gaps)
    assert positions(found) == positions(wal) - positions(gaps)
    for one, two in pairwise(found):
        assert (one.timeline, one.end) < (two.timeline, two.start) or one.timeline < two.timeline


@given(WAL, st.integers(1, 3), st.integers(0, 50))
def test_the_contiguous_end_is_the_first_position_that_is_missing(
    wal: list[Span], timeline: int, start: int
) -> None:
    end, known = contiguous_end(spans(wal), timeline, start), positions(wal)
    assert all((timeline, at) in known for at in range(start, end))
    assert (timeline, end) not in known


@given(WAL, st.integers(0, 30), st.integers(1, 20))
def test_a_cover_reads_all_that_is_contiguous(wal: list[Span], start: int, length: int) -> None:
    objects = [
        WalObject(span.timeline, span.start, span.end, SHA[:32], stored(str(i))) for i, span in enumerate(wal)
    ]
    chosen = cover(objects, 1, start, start + length)
    reached = start
    for each in chosen:
        assert each.start <= reached < each.end
        reached = each.end
    assert min(reached, start + length) == min(contiguous_end(spans(wal), 1, start), start + length)


class Looks:
    """Positions that count how often they are looked at."""

    number = 0

    def __init__(self, start: int, end: int) -> None:
        self.timeline, self.sha, self._place = 1, SHA[:32], (start, end)

    @property
    def start(self) -> int:
        Looks.number += 1
        return self._place[0]

    @property
    def end(self) -> int:
        return self._place[1]


def test_a_cover_looks_at_each_object_a_few_times() -> None:
    wal: Any = [Looks(number, number + 2) for number in range(2_000)]
    assert len(cover(wal, 1, 0, 2_000)) == 1_000
    assert Looks.number < 10 * len(wal)


@given(WAL, st.integers(1, 3), st.integers(0, 40), st.integers(0, 40))
def test_a_part_of_a_listing(wal: list[Span], timeline: int, start: int, end: int) -> None:
    ordered = sorted(wal, key=lambda span: (span.timeline, span.start, span.end))
    objects = tuple(
        WalObject(span.timeline, span.start, span.end, SHA[:32], stored(str(i)))
        for i, span in enumerate(ordered)
    )
    on_it, found = [each for each in objects if each.timeline == timeline], names.Listing(objects)
    assert list(found.between(timeline, start, end)) == [each for each in on_it if start <= each.start < end]
    assert found.continues(timeline, start) == any(each.start >= start for each in on_it)


# --- windows


def test_a_base_reaches_as_far_as_its_wal() -> None:
    base = Base("b", 1, 5 * MIB + 100, 6 * MIB + 10)
    whole = [Span(1, 5 * MIB, 9 * MIB)]
    window = Window("b", 1, base.end, 9 * MIB, (Span(1, 5 * MIB, 9 * MIB),))
    assert windows([base], whole, {}, segment_size=MIB) == [window]
    assert windows([base], [], {}, segment_size=MIB) == []
    # Without WAL up to its own end it is not recoverable.
    assert windows([base], [Span(1, 5 * MIB, base.end - 1)], {}, segment_size=MIB) == []
    # Recovery reads the header at the beginning of the segment.
    assert windows([base], [Span(1, 5 * MIB + 1, 9 * MIB)], {}, segment_size=MIB) == []


def test_nothing_recovers_past_a_gap() -> None:
    before, after = Base("1", 1, 0, 10), Base("2", 1, 7 * MIB, 7 * MIB + 10)
    wal, gaps = [Span(1, 0, 9 * MIB)], [Span(1, 3 * MIB, 4 * MIB)]
    found = windows([before, after], wal, {}, gaps, segment_size=MIB)
    assert [(window.base, window.start, window.end) for window in found] == [
        ("1", 10, 3 * MIB),
        ("2", 7 * MIB + 10, 9 * MIB),
    ]


def test_a_base_is_followed_over_a_promotion() -> None:
    base, fork = Base("b", 1, 0, 10), Fork(1, 3 * MIB + 500)
    # The rest of the old timeline's last segment never arrived; the new one repeats it.
    wal = [Span(1, 0, 3 * MIB), Span(2, 3 * MIB, 5 * MIB)]
    found = windows([base], wal, {2: [fork]}, segment_size=MIB)
    assert [(window.timeline, window.start, window.end) for window in found] == [
        (1, 10, 3 * MIB),
        (2, 10, 5 * MIB),
    ]
    assert found[1].path == (Span(1, 0, 3 * MIB), Span(2, 3 * MIB, 5 * MIB))
    # Without its history, the timeline's origin is unknown.
    assert [window.timeline for window in windows([base], wal, {}, segment_size=MIB)] == [1]


def test_a_base_after_the_fork_is_not_followed_there() -> None:
    base = Base("b", 1, 4 * MIB, 4 * MIB + 10)
    wal = [Span(1, 0, 6 * MIB), Span(2, 3 * MIB, 5 * MIB)]
    found = windows([base], wal, {2: [Fork(1, 3 * MIB + 500)]}, segment_size=MIB)
    assert [window.timeline for window in found] == [1]


def test_a_base_of_the_segment_of_the_fork_is_followed() -> None:
    base = Base("b", 1, 3 * MIB + 100, 3 * MIB + 400)
    found = windows([base], [Span(2, 3 * MIB, 5 * MIB)], {2: [Fork(1, 3 * MIB + 500)]}, segment_size=MIB)
    assert [(window.timeline, window.end) for window in found] == [(2, 5 * MIB)]


def test_several_promotions_are_followed() -> None:
    forks = [Fork(1, 2 * MIB + 5), Fork(2, 2 * MIB + 50), Fork(4, 5 * MIB)]
    wal = [
        Span(1, 0, 3 * MIB),
        Span(2, 2 * MIB, 3 * MIB),
        Span(4, 2 * MIB, 5 * MIB),
        Span(5, 5 * MIB, 6 * MIB),
    ]
    histories = {2: forks[:1], 4: forks[:2], 5: forks}
    found = windows([Base("b", 1, 0, 10)], wal, histories, segment_size=MIB)
    assert {(window.timeline, window.end) for window in found} == {
        (1, 3 * MIB),
        (2, 3 * MIB),
        (4, 5 * MIB),
        (5, 6 * MIB),
    }


@given(WAL, st.lists(SMALL, max_size=2), st.integers(0, 20), st.integers(1, 10), st.integers(0, 40))
def test_all_of_a_window_is_stored(
    wal: list[Span], gaps: list[Span], start: int, length: int, forked: int
) -> None:
    """Segments of four positions, and a second timeline that forks from the first."""
    base = Base("b", 1, start, start + length)
    found = windows([base], wal, {2: [Fork(1, forked)]}, gaps, segment_size=4)
    known = positions(wal) - positions(gaps)
    for window in found:
        assert positions(list(window.path)) <= known
        assert window.path[0].start <= base.start
        assert window.start == base.end <= window.end == window.path[-1].end
        assert window.path[-1].timeline == window.timeline
        assert all(one.end == two.start for one, two in pairwise(window.path))


def gap(**more: object) -> Gap:
    recorded = {"server": "main", "system_identifier": "77", "timeline": 1, "start": 0, "end": MIB, **more}
    return Gap.model_validate({**recorded, "noticed": datetime(2026, 11, 27, tzinfo=UTC), "reason": "gone"})


@pytest.mark.parametrize(
    "more", [{"server": "other"}, {"system_identifier": "78"}, {"timeline": 2}, {"end": 5}]
)
def test_the_record_of_another_gap_is_not_believed(wired: Wire, more: dict[str, object]) -> None:
    """Signed by us, but copied from another cluster's folder: existing WAL would count as lost."""
    wiring = wired(BACKUP_MANIFEST_KEY="k" * 40)
    archive = Archive("main", "77", MIB, wiring.keys)
    for each, count in ((gap(), 1), (gap(**more), 0)):
        wiring.store.put(archive.gap_key(1, 0, MIB), encode(each, wiring.keys))
        [cluster] = clusters(wiring, wiring.store, "main", MIB)
        assert len(cluster.gaps) == count


class Huge(MemoryStore):
    """Lists objects that would not fit into memory."""

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (replace(info, size=5 << 30) for info in super().walk(prefix))

    def head(self, key: str) -> ObjectInfo | None:
        info = super().head(key)
        return replace(info, size=5 << 30) if info else None

    def get(self, key: str) -> bytes:
        raise AssertionError("it must not be fetched")


def test_what_is_too_large_is_not_fetched(wired: Wire) -> None:
    store, archive = Huge(), Archive("main", "77", MIB)
    store.put(archive.gap_key(1, 0, MIB), encode(gap()))
    store.put(archive.wal_key(1, 0, MIB, "0" * 64), b"0")
    store.put(f".wal/main/marks/{hashlib.sha256(b'now').hexdigest()[:32]}.json", b"0")
    [cluster] = clusters(wired(), store, "main", MIB)  # marks do not form a cluster
    assert cluster.gaps == ()
    assert OffsiteCopy(store, MemoryStore("offsite")).copy(archive, cluster.listing) == 0
    with pytest.raises(UsageError, match="5368709120 bytes"):
        marks.find(store, "main", AtMark("now"), NO_KEYS)
