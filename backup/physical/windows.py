"""The windows that can be recovered from base backups and the WAL after them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backup.physical import lsn
from backup.physical.archive import Gap, WalObject
from backup.physical.spans import Span, contiguous_end, spans
from backup.physical.timelines import Fork


@dataclass(frozen=True)
class Base:
    """The facts about a base backup that decide what can be recovered from it.

    Attributes:
        start: the position from which its recovery replays WAL. Recovery reads the WAL from the beginning of that segment.
        end: the position at which it becomes consistent: the earliest target.
    """

    id: str
    timeline: int
    start: int
    end: int


@dataclass(frozen=True)
class Window:
    """Each position from ``start`` to ``end`` can be recovered from a base backup, following a timeline.

    Attributes:
        path: the WAL that this requires, in the order of its use.
    """

    base: str
    timeline: int
    start: int
    end: int
    path: tuple[Span, ...]


def windows(
    bases: Iterable[Base],
    wal: Iterable[WalObject | Span],
    histories: Mapping[int, Sequence[Fork]],
    gaps: Iterable[Gap | Span] = (),
    *,
    segment_size: int,
) -> list[Window]:
    """The recoverable windows: one for each base backup and timeline that its WAL leads to, in order of the bases.

    A base backup whose WAL does not reach its own end is not recoverable, and has no window.

    Args:
        histories: the forks of each timeline that has a history, see :func:`backup.physical.timelines.parse_history`.
    """
    stretches = spans(wal, gaps)
    found = []
    for base in bases:
        for timeline in sorted({span.timeline for span in stretches} | {base.timeline}):
            path = _path(base, timeline, stretches, histories.get(timeline, ()), segment_size)
            if path and path[-1].end >= base.end:
                found.append(Window(base.id, timeline, base.end, path[-1].end, path))
    return found


def _path(
    base: Base, timeline: int, stretches: Sequence[Span], forks: Sequence[Fork], segment_size: int
) -> tuple[Span, ...]:
    """The contiguous WAL from the start of a base to the end of a timeline; nothing if it does not lead to that timeline.

    The first segment of a timeline repeats what its ancestor has of that segment, so the ancestor's end is not needed.
    """
    ancestors = {fork.timeline: fork.position for fork in forks}
    if base.timeline != timeline and ancestors.get(base.timeline, -1) < base.end:
        return ()
    path: list[Span] = []
    # Each file begins with a header that recovery reads.
    position = lsn.segment_start(base.start, segment_size)
    for fork in forks:
        limit = lsn.segment_start(fork.position, segment_size)
        if fork.timeline >= base.timeline and position < limit:
            if contiguous_end(stretches, fork.timeline, position) < limit:
                return ()
            path.append(Span(fork.timeline, position, limit))
            position = limit
    end = contiguous_end(stretches, timeline, position)
    return (*path, Span(timeline, position, end)) if end > position else ()
