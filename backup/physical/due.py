"""Whether a base backup is needed before its schedule, because no older one leads past a gap in the WAL. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from backup.catalogue.records import Attempt
from backup.physical.archive import Gap
from backup.physical.retention import RetainedBase

# After an attempt that failed: its cause rarely disappears within seconds, and each attempt reads the whole server.
RETRY = timedelta(minutes=15)


def base_due(
    bases: Sequence[RetainedBase], gaps: Iterable[Gap], newest: Attempt | None, now: datetime
) -> Gap | None:
    """The newest gap without a later base backup, if one should be taken now; None if there is none, or it is too early.

    The first base backup of a server is left to its schedule.

    Args:
        bases: the base backups whose objects all exist.
        newest: the newest attempt to take one; None if there was none.
    """
    missing = [gap for gap in gaps if not any(_is_past(retained, gap) for retained in bases)]
    if not bases or not missing:
        return None
    if newest is not None and newest.outcome != "success" and now - newest.started < RETRY:
        return None
    return max(missing, key=lambda gap: (gap.noticed, gap.end))


def _is_past(retained: RetainedBase, gap: Gap) -> bool:
    """Compare times as well as positions: a server that was restored to an earlier state continues before the gap, on another timeline, and
    the clocks of the server and of the sidecar may differ."""
    same = retained.system == gap.system_identifier and retained.base.timeline >= gap.timeline
    return retained.taken > gap.noticed or (same and retained.base.start >= gap.end)
