"""Contiguous WAL: which positions are stored without a hole, and which objects cover them. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backup.physical.archive import Gap, WalObject


@dataclass(frozen=True)
class Span:
    """Contiguous WAL of one timeline, from ``start`` up to ``end``."""

    timeline: int
    start: int
    end: int


def spans(wal: Iterable[WalObject | Span], gaps: Iterable[Gap | Span] = ()) -> list[Span]:
    """The contiguous stretches of each timeline, in order. Overlaps count once; WAL inside a gap is ignored."""
    by_timeline: dict[int, list[Span]] = defaultdict(list)
    for each in sorted(wal, key=lambda each: (each.timeline, each.start)):
        known = by_timeline[each.timeline]
        if known and each.start <= known[-1].end:
            known[-1] = Span(each.timeline, known[-1].start, max(known[-1].end, each.end))
        else:
            known.append(Span(each.timeline, each.start, each.end))
    for gap in gaps:
        cut = (piece for span in by_timeline[gap.timeline] for piece in _without(span, gap))
        by_timeline[gap.timeline] = list(cut)
    return [span for timeline in sorted(by_timeline) for span in by_timeline[timeline]]


def _without(span: Span, gap: Gap | Span) -> Iterator[Span]:
    for start, end in ((span.start, min(span.end, gap.start)), (max(span.start, gap.end), span.end)):
        if start < end:
            yield Span(span.timeline, start, end)


def contiguous_end(stretches: Iterable[Span], timeline: int, start: int) -> int:
    """The first position from ``start`` on that a timeline's WAL lacks."""
    return next(
        (span.end for span in stretches if span.timeline == timeline and span.start <= start < span.end),
        start,
    )


def cover(wal: Iterable[WalObject], timeline: int, start: int, end: int) -> list[WalObject]:
    """Which objects to read, in order, for the positions from ``start`` up to ``end``: as few as possible.

    They overlap where the stored pieces do, and reach as far as the WAL is contiguous, which may be less than ``end``.
    """
    chosen: list[WalObject] = []
    reached, best = start, None
    known = [each for each in wal if each.timeline == timeline and each.start < end and each.end > start]
    later = deque(sorted(known, key=lambda each: each.start))
    while reached < end:
        while later and later[0].start <= reached:
            each = later.popleft()
            if best is None or (each.end, -each.start, each.sha) > (best.end, -best.start, best.sha):
                best = each
        if best is None or best.end <= reached:
            break
        chosen.append(best)
        reached = best.end
    return chosen


def conflicts(wal: Iterable[WalObject]) -> list[tuple[WalObject, WalObject]]:
    """Pairs of objects of the same positions and different content: two servers wrote this timeline."""
    by_place: dict[tuple[int, int, int], list[WalObject]] = defaultdict(list)
    for each in wal:
        by_place[each.timeline, each.start, each.end].append(each)
    return [(same[0], other) for same in by_place.values() for other in same[1:] if other.sha != same[0].sha]
