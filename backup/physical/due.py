"""Whether a base backup is needed before its schedule: no older one leads past a gap in the log. Pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from backup.catalogue.records import Attempt
from backup.physical.archive import Gap
from backup.physical.retention import HeldBase

# After an attempt that failed: its cause rarely ends within seconds, and each attempt reads the whole server.
RETRY = timedelta(minutes=15)


def base_due(
    bases: Sequence[HeldBase], gaps: Iterable[Gap], newest: Attempt | None, now: datetime
) -> Gap | None:
    """The newest gap that no base backup is past, if one is to be made now; None if there is none, or it is too early.

    The first base backup of a server is left to its schedule.

    Args:
        bases: the base backups whose objects are all there.
        newest: the newest attempt to make one; None if there was none.
    """
    missing = [gap for gap in gaps if not any(_is_past(held, gap) for held in bases)]
    if not bases or not missing:
        return None
    if newest is not None and newest.outcome != "success" and now - newest.started < RETRY:
        return None
    return max(missing, key=lambda gap: (gap.noticed, gap.end))


def _is_past(held: HeldBase, gap: Gap) -> bool:
    """By the time as well as by the position: a server that was set back begins before the gap, on another timeline, and
    the clocks of the server and of the sidecar may differ."""
    same = held.system == gap.system_identifier and held.base.timeline >= gap.timeline
    return held.taken > gap.noticed or (same and held.base.start >= gap.end)
