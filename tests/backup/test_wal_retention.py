"""Which WAL may be deleted: no plan deletes WAL that a kept base backup or the window needs."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from backup.physical.archive import Stored, WalObject
from backup.physical.resume import SHORT_SEGMENTS, ResumePoint, resume_point
from backup.physical.retention import RetainedBase, plan
from backup.physical.spans import Span, spans
from backup.physical.timelines import Fork
from backup.physical.windows import Base, windows

SEGMENT = 4
NOW = datetime(2026, 11, 29, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP = timedelta(days=7)


def objects(spans: list[Span]) -> list[WalObject]:
    """Whole segments, one for each day, the newest from today."""
    found = []
    last = max((span.end for span in spans), default=0)
    for span in spans:
        for start in range(span.start, span.end, SEGMENT):
            age = (last - start) // SEGMENT
            end = min(start + SEGMENT, span.end)
            found.append(
                WalObject(
                    span.timeline,
                    start,
                    end,
                    "0" * 32,
                    Stored(f"{span.timeline}/{start}", 1, NOW - age * DAY),
                )
            )
    return found


def base(
    base_id: str, start: int, end: int, days: int, *, timeline: int = 1, proven: bool = True
) -> RetainedBase:
    return RetainedBase(Base(base_id, timeline, start, end), NOW - days * DAY, proven)


def test_everything_from_the_newest_proven_base_before_the_window_is_kept() -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    bases = [
        base("old", 2, 6, 39),
        base("anchor", 29 * SEGMENT + 1, 30 * SEGMENT, 10),
        base("new", 150, 156, 2),
    ]
    decided = plan(bases, wal, KEEP, NOW, segment_size=SEGMENT)
    assert decided.since == "anchor"
    gone = {each.start for each in decided.deletions}
    # The old base keeps the WAL that makes it consistent.
    assert gone == {start for start in range(0, 29 * SEGMENT, SEGMENT) if start not in (0, 4)}


def test_nothing_is_deleted_without_a_proven_base_before_the_window() -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    for bases in ([], [base("b", 100, 104, 10, proven=False)], [base("b", 150, 156, 2)]):
        decided = plan(bases, wal, KEEP, NOW, segment_size=SEGMENT)
        assert (decided.deletions, decided.blocked) == (
            (),
            ("no proven base backup is older than the window",),
        )


def test_nothing_is_deleted_after_a_gap_before_a_base_is_proven() -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    bases = [base("b", 100, 104, 10)]
    assert plan(bases, wal, KEEP, NOW, segment_size=SEGMENT, last_gap=NOW - DAY).blocked
    bases.append(base("c", 156, 158, 0))
    assert not plan(bases, wal, KEEP, NOW, segment_size=SEGMENT, last_gap=NOW - DAY).blocked


def test_a_base_backup_without_its_own_wal_does_not_allow_deletion() -> None:
    """Without a key anyone can write the manifest and the report of one, at whatever positions."""
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    genuine, forged = (
        base("a", 10 * SEGMENT, 10 * SEGMENT + 2, 30),
        base("f", 900 * SEGMENT, 901 * SEGMENT, 8),
    )
    decided = plan([genuine, forged], wal, KEEP, NOW, segment_size=SEGMENT)
    assert decided.since == "a"
    assert plan([forged], wal, KEEP, NOW, segment_size=SEGMENT).blocked


def test_a_newer_timeline_is_kept_whatever_its_age() -> None:
    """The way from the anchor may lead there."""
    wal = objects([Span(1, 0, 20 * SEGMENT), Span(2, 5 * SEGMENT, 40 * SEGMENT)])
    decided = plan([base("a", 10 * SEGMENT, 10 * SEGMENT + 2, 10)], wal, KEEP, NOW, segment_size=SEGMENT)
    assert {each.start for each in decided.deletions} == set(range(0, 10 * SEGMENT, SEGMENT))
    assert {each.timeline for each in decided.deletions} == {1}


def test_the_segment_in_which_a_base_begins_is_kept_from_its_first_byte() -> None:
    """Recovery reads the header of the file, which may be in another piece."""
    start = 10 * SEGMENT
    old = Stored("piece", 1, NOW - 20 * DAY)
    pieces = [
        WalObject(1, start, start + 1, "0" * 32, old),
        WalObject(1, start + 1, start + 4, "0" * 32, old),
    ]
    wal = [*objects([Span(1, 0, start)]), *pieces, *objects([Span(1, start + SEGMENT, 40 * SEGMENT)])]
    decided = plan([base("a", start + 2, start + 3, 10)], wal, KEEP, NOW, segment_size=SEGMENT)
    assert decided.deletions
    assert not set(pieces) & set(decided.deletions)


def test_the_segment_in_which_an_older_base_ends_is_kept_to_its_last_byte() -> None:
    """The file is handed over whole, although only its first part is needed."""
    end = 10 * SEGMENT + 2
    old = Stored("piece", 1, NOW - 30 * DAY)
    pieces = [WalObject(1, 10 * SEGMENT, end, "0" * 32, old), WalObject(1, end, end + 2, "0" * 32, old)]
    wal = [*objects([Span(1, 0, 10 * SEGMENT)]), *pieces, *objects([Span(1, 11 * SEGMENT, 40 * SEGMENT)])]
    bases = [base("old", 10 * SEGMENT, end, 30), base("anchor", 30 * SEGMENT, 30 * SEGMENT + 2, 10)]
    decided = plan(bases, wal, KEEP, NOW, segment_size=SEGMENT)
    assert {each.start // SEGMENT for each in decided.deletions} >= set(range(11, 30))
    assert not set(pieces) & set(decided.deletions)


def test_a_base_backup_whose_wal_ends_where_it_ends_is_whole() -> None:
    """What follows may be lost; the base backup is still recoverable."""
    wal = objects([Span(1, 0, 20 * SEGMENT), Span(1, 30 * SEGMENT, 40 * SEGMENT)])
    whole = base("a", 18 * SEGMENT + 1, 20 * SEGMENT, 10)
    assert plan([whole], wal, KEEP, NOW, segment_size=SEGMENT).since == "a"
    cut = base("a", 18 * SEGMENT + 1, 20 * SEGMENT + 1, 10)
    assert plan([cut], wal, KEEP, NOW, segment_size=SEGMENT).blocked


def test_only_a_proven_base_after_a_gap_allows_deletion() -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    bases = [base("b", 100, 104, 10), base("c", 156, 158, 0, proven=False)]
    assert plan(bases, wal, KEEP, NOW, segment_size=SEGMENT, last_gap=NOW - DAY).blocked


def test_a_damaged_manifest_blocks() -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    decided = plan([base("b", 100, 104, 10)], wal, KEEP, NOW, segment_size=SEGMENT, problems=["damaged"])
    assert (decided.deletions, decided.blocked) == ((), ("damaged",))


BASES = st.lists(
    st.builds(
        lambda number, segment, length, proven, timeline: base(
            str(number),
            segment * SEGMENT + 1,
            segment * SEGMENT + 1 + length,
            40 - segment,
            timeline=timeline,
            proven=proven,
        ),
        st.integers(),
        st.integers(0, 38),
        st.integers(1, 9),
        st.booleans(),
        st.integers(1, 2),
    ),
    max_size=6,
    unique_by=lambda each: each.base.id,
)


@given(BASES, st.integers(0, 39), st.lists(st.integers(0, 39), max_size=3))
def test_no_plan_deletes_what_a_base_or_the_window_needs(
    bases: list[RetainedBase], forked: int, holes: list[int]
) -> None:
    """Two timelines, the second forks from the first, with holes in both."""
    fork = forked * SEGMENT + 2
    wal = [
        each
        for each in objects([Span(1, 0, 40 * SEGMENT), Span(2, forked * SEGMENT, 40 * SEGMENT)])
        if each.start // SEGMENT not in holes
    ]
    decided = plan(bases, wal, KEEP, NOW, segment_size=SEGMENT)
    left = [each for each in wal if each not in decided.deletions]
    histories = {2: [Fork(1, fork)]}
    every = [one.base for one in bases]
    before = windows(every, wal, histories, segment_size=SEGMENT)
    after = {(one.base, one.timeline): one for one in windows(every, left, histories, segment_size=SEGMENT)}
    taken = {one.base.id: one.taken for one in bases}
    since = taken.get(decided.since or "")
    timelines = {one.base.id: one.base.timeline for one in bases}
    for window in before:
        if since is None or taken[window.base] >= since:
            # From the anchor on, each moment stays recoverable.
            assert after[window.base, window.timeline] == window
        elif window.timeline == timelines[window.base]:
            # An older base still becomes consistent.
            assert after[window.base, window.timeline].end >= window.start
    assert all(each.stored.modified <= NOW - KEEP for each in decided.deletions)


@given(BASES)
def test_no_plan_makes_a_hole_that_looks_like_a_lost_upload(bases: list[RetainedBase]) -> None:
    wal = objects([Span(1, 0, 40 * SEGMENT)])
    decided = plan(bases, wal, KEEP, NOW, segment_size=SEGMENT)
    left = spans(each for each in wal if each not in decided.deletions)
    for one, two in pairwise(left):
        assert two.start - one.end >= SHORT_SEGMENTS * SEGMENT
    # So the stream resumes at the end, with or without a slot.
    for anchor in (None, 160 - 2):
        assert resume_point((), 1, left, anchor, segment_size=SEGMENT) == ResumePoint(1, 40 * SEGMENT)


# --- where the stream resumes


def test_nothing_stored_begins_anywhere() -> None:
    assert resume_point((), 1, [], 100, segment_size=SEGMENT) is None


def test_a_lost_upload_is_filled_with_or_without_a_slot() -> None:
    stretches = [Span(1, 0, 41), Span(1, 44, 47)]
    assert resume_point((), 1, stretches, 41, segment_size=SEGMENT) == ResumePoint(1, 41)
    assert resume_point((), 1, stretches, None, segment_size=SEGMENT) == ResumePoint(1, 41)


def test_without_a_slot_a_hole_is_a_lost_upload_up_to_four_segments_short() -> None:
    behind = [Span(1, 0, 40), Span(1, 40 + 4 * SEGMENT - 1, 80)]
    assert resume_point((), 1, behind, None, segment_size=SEGMENT) == ResumePoint(1, 40)
    pruned = [Span(1, 0, 40), Span(1, 40 + 4 * SEGMENT, 80)]
    assert resume_point((), 1, pruned, None, segment_size=SEGMENT) == ResumePoint(1, 80)


def test_a_promotion_continues_on_the_next_timeline() -> None:
    forks = [Fork(1, 42)]
    assert resume_point(forks, 2, [Span(1, 0, 42)], 42, segment_size=SEGMENT) == ResumePoint(2, 40)
    # WAL that the old primary wrote after the fork does not count.
    assert resume_point(forks, 2, [Span(1, 0, 60)], 60, segment_size=SEGMENT) == ResumePoint(2, 40)
    # The old timeline is completed first.
    assert resume_point(forks, 2, [Span(1, 0, 39)], 39, segment_size=SEGMENT) == ResumePoint(1, 39)
    assert resume_point(forks, 2, [Span(1, 0, 42), Span(2, 40, 47)], 46, segment_size=SEGMENT) == ResumePoint(
        2, 47
    )


def test_the_stream_does_not_resume_on_an_unrelated_timeline() -> None:
    assert resume_point([Fork(1, 42)], 3, [Span(2, 0, 60)], 60, segment_size=SEGMENT) is None
