"""Which stored WAL may be deleted. Pure: no plan ever deletes WAL that a kept base backup or the window needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from backup.physical import lsn
from backup.physical.archive import WalObject
from backup.physical.resume import SHORT_SEGMENTS
from backup.physical.spans import Span, contiguous_end, spans
from backup.physical.windows import Base


@dataclass(frozen=True)
class RetainedBase:
    """A base backup that exists.

    Attributes:
        proven: its newest verification passed.
        system: the identifier of its cluster.
    """

    base: Base
    taken: datetime
    proven: bool
    system: str = ""


@dataclass(frozen=True)
class WalPlan:
    """What may be deleted, or why nothing may.

    Attributes:
        deletions: objects that nothing needs.
        since: the base backup from which everything is kept; None if there is none.
    """

    deletions: tuple[WalObject, ...] = ()
    blocked: tuple[str, ...] = ()
    since: str | None = None


def plan(
    bases: Sequence[RetainedBase],
    wal: Sequence[WalObject],
    keep: timedelta,
    now: datetime,
    *,
    segment_size: int,
    last_gap: datetime | None = None,
    problems: Sequence[str] = (),
) -> WalPlan:
    """Decide what may be deleted: everything before the newest proven base backup older than the window, except what older base
    backups need to become consistent.

    Args:
        bases: every base backup in the store; BACKUP_KEEP_* decides about the base backups themselves.
        keep: how far back each moment must be recoverable.
        last_gap: when the last gap was noticed; None if there is none.
        problems: further reasons to delete nothing.
    """
    # The base backup's own record is not enough: its WAL must be stored.
    stretches = spans(wal)
    proven = [each for each in bases if each.proven and _is_covered(each.base, stretches, segment_size)]
    fitting = [retained for retained in proven if retained.taken <= now - keep]
    blocked = [*problems]
    if not fitting:
        blocked.append("no proven base backup is older than the window")
    if last_gap is not None and not any(retained.taken > last_gap for retained in proven):
        blocked.append("no base backup has been proven since the last gap")
    if blocked:
        return WalPlan(blocked=tuple(blocked))
    anchor = max(fitting, key=lambda retained: (retained.taken, retained.base.id))
    # Nearly all WAL is younger than the anchor, which needs it, so the anchor is looked at first.
    ordered = sorted(bases, key=lambda retained: (retained.taken < anchor.taken, retained.taken))
    needs = _Needs(anchor, ordered, segment_size)
    unneeded = [each for each in wal if each.stored.modified <= now - keep and not needs.include(each)]
    return WalPlan(tuple(_without_short_runs(unneeded, segment_size)), (), anchor.base.id)


def _is_covered(base: Base, stretches: Sequence[Span], segment_size: int) -> bool:
    start = lsn.segment_start(base.start, segment_size)
    return contiguous_end(stretches, base.timeline, start) >= base.end


@dataclass(frozen=True)
class _Needs:
    anchor: RetainedBase
    bases: Sequence[RetainedBase]
    segment_size: int

    def include(self, wal: WalObject) -> bool:
        """Whether any base backup needs an object. Whole segments are needed, with the header at their beginning."""
        return wal.timeline > self.anchor.base.timeline or any(
            self._needs(retained, wal) for retained in self.bases
        )

    def _needs(self, retained: RetainedBase, wal: WalObject) -> bool:
        base = retained.base
        if wal.timeline != base.timeline or wal.end <= lsn.segment_start(base.start, self.segment_size):
            return False
        return retained.taken >= self.anchor.taken or wal.start < lsn.segment_end(base.end, self.segment_size)


def _without_short_runs(wal: Iterable[WalObject], segment_size: int) -> list[WalObject]:
    """Keep what would leave a short hole: such holes would be mistaken for lost uploads."""
    runs: list[list[WalObject]] = []
    for each in sorted(wal, key=lambda each: (each.timeline, each.start, each.end)):
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.timeline == each.timeline
            and each.start <= max(segment.end for segment in runs[-1])
        ):
            runs[-1].append(each)
        else:
            runs.append([each])
    return [
        each
        for run in runs
        if max(segment.end for segment in run) - run[0].start >= SHORT_SEGMENTS * segment_size
        for each in run
    ]
