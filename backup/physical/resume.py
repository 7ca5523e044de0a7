"""The position at which the stream resumes after an interruption, computed from stored positions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from backup.physical import lsn
from backup.physical.spans import Span
from backup.physical.timelines import Fork

# If a process dies with two uploads in transit, perhaps only the later one has arrived. Such a hole is shorter than this.
# Retention never leaves such a short hole.
SHORT_SEGMENTS = 4


@dataclass(frozen=True)
class ResumePoint:
    """The first position of a timeline that the store lacks. The stream begins at the start of its segment."""

    timeline: int
    position: int


def resume_point(
    forks: Sequence[Fork], timeline: int, stretches: Sequence[Span], anchor: int | None, *, segment_size: int
) -> ResumePoint | None:
    """Where to resume; None if the stored WAL has no ancestor of the server's timeline.

    Args:
        forks: the ancestors of the server's timeline, oldest first.
        timeline: the server's own.
        stretches: the contiguous WAL that is stored.
        anchor: the position that was last confirmed to the slot; None without a slot.
    """
    ends = [*((fork.timeline, fork.position) for fork in forks), (timeline, None)]
    starts = [0, *(lsn.segment_start(fork.position, segment_size) for fork in forks)]
    for index in reversed(range(len(ends))):
        own, limit = ends[index]
        of_timeline = [
            span for span in stretches if span.timeline == own and (limit is None or span.start < limit)
        ]
        end = _end(of_timeline, anchor, starts[index], segment_size)
        if end is None:
            continue
        if limit is None or end < limit:
            return ResumePoint(own, end)
        # The next timeline repeats the segment in which this one ends.
        return ResumePoint(ends[index + 1][0], starts[index + 1])
    return None


def timeline_at(forks: Sequence[Fork], timeline: int, position: int, segment_size: int) -> int:
    """The timeline whose files have the segment that begins at a position."""
    for fork in forks:
        if position < lsn.segment_start(fork.position, segment_size):
            return fork.timeline
    return timeline


def _end(stored: Sequence[Span], anchor: int | None, begin: int, segment_size: int) -> int | None:
    """The end of the stretch that was being written, without what arrived after a hole."""
    if anchor is not None:
        fitting = [span for span in stored if span.start <= max(anchor, begin)]
        return fitting[-1].end if fitting else None
    newest = None
    for span in reversed(stored):
        if newest is not None and newest.start - span.end >= SHORT_SEGMENTS * segment_size:
            break
        newest = span
    return newest.end if newest else None
