"""Parses the goals of a recovery, and chooses the base backup and position that lead there. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backup.physical import lsn
from sidecar import UsageError
from sidecar.humanize import moment as shown

LATEST = "latest"
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[ T](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?) ?(?P<zone>\S.*)?", re.ASCII
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?", re.ASCII)
# A name from the tz database with its area; abbreviations and POSIX zones are ambiguous.
_AREA = re.compile(r"[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z0-9_+-]+){1,2}", re.ASCII)
_MARK = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,61}[\x21-\x7e])?")
_EXAMPLE = 'write it with a numeric offset or an area: --at "2026-11-28 14:03:00+01:00", "2026-11-28 14:03 Europe/Prague"'


@dataclass(frozen=True)
class Latest:
    """The end of what is stored."""

    def __str__(self) -> str:
        return LATEST


@dataclass(frozen=True)
class AtTime:
    """Everything that was committed at a moment or earlier."""

    moment: datetime

    def __str__(self) -> str:
        return shown(self.moment)


@dataclass(frozen=True)
class AtPosition:
    """A position that a person has noted.

    Attributes:
        inclusive: whether the record that starts there is replayed. A noted position is the start of the *next* record,
            so by default it is not.
    """

    position: int
    inclusive: bool = False

    def __str__(self) -> str:
        return lsn.text(self.position)


@dataclass(frozen=True)
class AtMark:
    """A restore point that ``mark`` has made."""

    name: str

    def __str__(self) -> str:
        return f"the mark {self.name}"


Goal = Latest | AtTime | AtPosition | AtMark


def parse_moment(text: str) -> datetime:
    """A moment with its zone, in UTC.

    Raises:
        UsageError: it is not a time, has no zone or an ambiguous one, or its hour is not unique in the zone.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text[:60]!r} is not a time", hint=_EXAMPLE)
    try:
        local = datetime.fromisoformat(f"{found['date']} {found['time']}")
    except ValueError as error:
        raise UsageError(f"{text[:60]!r} is not a time: {error}", hint=_EXAMPLE) from None
    if not found["zone"]:
        raise UsageError(f"{text!r} has no time zone", hint=_EXAMPLE)
    try:
        return _in_zone(local, found["zone"], text).astimezone(UTC)
    except OverflowError:
        raise UsageError(f"{text[:60]!r} is not a time", hint=_EXAMPLE) from None


def parse_goal(text: str) -> Latest | AtTime:
    """The goal that ``--at`` describes: ``latest``, or a time."""
    return Latest() if text.strip() == LATEST else AtTime(parse_moment(text))


def parse_position(text: str) -> AtPosition:
    """The goal that ``--at-lsn`` describes.

    Raises:
        UsageError: it is not a position.
    """
    try:
        return AtPosition(lsn.parse(text.strip()))
    except ValueError as error:
        raise UsageError(
            f"--at-lsn: {error}", hint="as pg_current_wal_insert_lsn() and the log print it: 0/3000060"
        ) from None


def parse_mark(text: str) -> AtMark:
    """The name that ``--at-mark`` and ``mark`` give.

    Raises:
        UsageError: it is not a valid name of a mark.
    """
    if not _MARK.fullmatch(text):
        raise UsageError(
            f"{text[:70]!r} is not a name for a mark",
            hint="use 1 to 63 printable ASCII characters, with no blank at either end",
        )
    return AtMark(text)


def _in_zone(local: datetime, zone: str, text: str) -> datetime:
    if zone in ("Z", "UTC"):
        return local.replace(tzinfo=UTC)
    if offset := _OFFSET.fullmatch(zone):
        minutes = int(offset["hours"]) * 60 + int(offset["minutes"] or 0)
        if minutes > 15 * 60 or int(offset["minutes"] or 0) > 59:
            raise UsageError(f"{text!r}: {zone} is not an offset from UTC", hint=_EXAMPLE)
        sign = -1 if offset["sign"] == "-" else 1
        return local.replace(tzinfo=timezone(sign * timedelta(minutes=minutes)))
    if not _AREA.fullmatch(zone) or zone.startswith(("Etc/", "Posix/", "Right/", "SystemV/")):
        raise UsageError(
            f"{text!r}: the zone {zone[:40]!r} can mean several things, such as UTC+1, one hour WEST of Greenwich",
            hint=_EXAMPLE,
        )
    try:
        area = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"{text!r}: {zone[:40]} is not a known time zone", hint=_EXAMPLE) from None
    return _only_one(local, area, text)


def _only_one(local: datetime, area: ZoneInfo, text: str) -> datetime:
    """Check that a local time exists exactly once; an hour around a clock change exists twice or not at all."""
    first, second = (local.replace(tzinfo=area, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    back = first.astimezone(UTC).astimezone(area).replace(tzinfo=None)
    why = "occurs twice" if back == local else "does not exist"
    raise UsageError(
        f"{text!r} {why} in {area.key}: the clocks change",
        hint="write it with a numeric offset, such as +01:00",
    )


def settings(goal: AtTime | AtPosition | AtMark, timeline: int) -> Mapping[str, str]:
    """The settings with which PostgreSQL recovers up to a goal and then waits.

    Args:
        timeline: the timeline on which the goal is.
    """
    target = {"recovery_target_timeline": str(timeline), "recovery_target_action": "pause"}
    if isinstance(goal, AtTime):
        # Otherwise PostgreSQL would use the zone of its own configuration.
        return {**target, "recovery_target_time": f"{goal.moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"}
    if isinstance(goal, AtMark):
        return {**target, "recovery_target_name": goal.name}
    inclusive = "on" if goal.inclusive else "off"
    return {**target, "recovery_target_lsn": lsn.text(goal.position), "recovery_target_inclusive": inclusive}


def consistent(timeline: int) -> Mapping[str, str]:
    """The settings with which PostgreSQL recovers to the end of the base backup, and then waits."""
    return {
        "recovery_target": "immediate",
        "recovery_target_action": "pause",
        "recovery_target_timeline": str(timeline),
    }


@dataclass(frozen=True)
class Base:
    """The facts about a base backup that the choice needs.

    Attributes:
        start, end: positions; a recovery needs the WAL from ``start`` on, and is consistent from ``end`` on.
        finished: when it was complete, which is the first moment that can be recovered.
        until: the position up to which the WAL after it is stored without a gap.
        stored: the newest known moment in that WAL.
        open: whether nothing is stored after that, so that ``until`` still grows.
    """

    id: str
    timeline: int
    start: int
    end: int
    finished: datetime
    until: int
    stored: datetime
    open: bool = True


def choose(bases: Sequence[Base], goal: Goal, position: int | None = None) -> Base:
    """The newest base backup from which a goal can be reached.

    Args:
        bases: in any order.
        position: where the goal is, if it is a mark.

    Raises:
        UsageError: the goal is before the first base backup, in a gap, or after the end of what is stored.
    """
    if not bases:
        raise UsageError(
            "there is no base backup to recover from", hint="take one: python -m backup run -d NAME"
        )
    ordered = sorted(bases, key=lambda base: (base.finished, base.id))
    if isinstance(goal, Latest):
        return _newest(ordered[-1])
    where = goal.position if isinstance(goal, AtPosition) else position
    if where is not None:
        return _by_position(ordered, goal, where)
    if isinstance(goal, AtTime):
        return _by_time(ordered, goal)
    raise UsageError(f"{goal} is not known", hint="list the marks: python -m backup wal status")


def _newest(last: Base) -> Base:
    """The newest base, if the WAL after it has no hole; WAL after a hole would be lost silently."""
    if not last.open:
        raise UsageError(
            f"WAL is missing after {lsn.text(last.until)} ({shown(last.stored)}), and later WAL is stored: the latest"
            " state cannot be recovered",
            hint=f"take a base backup; to recover up to the gap: --at-lsn {lsn.text(last.until)}",
        )
    return last


def _by_position(ordered: list[Base], goal: Goal, where: int) -> Base:
    before = [base for base in ordered if base.end <= where]
    if not before:
        first = min(ordered, key=lambda base: base.end)
        raise UsageError(
            f"{goal} is before the end of the first base backup, {lsn.text(first.end)} ({shown(first.finished)})",
            hint="what is older can be restored from a dump: python -m backup list",
        )
    reaching = [base for base in before if where <= base.until]
    if reaching:
        return reaching[-1]
    last = before[-1]
    raise _not_reached(goal, last, f"{lsn.text(last.until)} ({shown(last.stored)})", ordered)


def _by_time(ordered: list[Base], goal: AtTime) -> Base:
    before = [base for base in ordered if base.finished <= goal.moment]
    if not before:
        raise UsageError(
            f"{goal} is before the end of the first base backup, {shown(ordered[0].finished)}",
            hint="what is older can be restored from a dump: python -m backup list",
        )
    reaching = [base for base in before if goal.moment <= base.stored]
    if reaching:
        return reaching[-1]
    last = before[-1]
    raise _not_reached(goal, last, shown(last.stored), ordered)


def _not_reached(goal: Goal, last: Base, end: str, ordered: list[Base]) -> UsageError:
    later = [base for base in ordered if base.finished > last.stored and base.id != last.id]
    if later or not last.open:
        until = f" and {shown(later[0].finished)}" if later else ""
        return UsageError(
            f"{goal} is inside a gap: nothing is stored between {end}{until}",
            hint="choose a time outside the gap: python -m backup wal status",
        )
    return UsageError(
        f"{goal} is after the end of what is stored, {end}", hint="for the newest state: --at latest"
    )
