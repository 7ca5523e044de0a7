"""Cron expressions with the semantics of cron(8), in a time zone, across daylight-saving changes.

Sunday is 0 or 7. If both day of month and day of week are given, either matches. A time that the clock skips in spring
runs right after the gap. A time that occurs twice in autumn runs once, unless every hour is given.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(r"(?P<first>\*|\d+)(-(?P<last>\d+))?(/(?P<step>\d+))?")
_SHORT = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
# A leap day recurs after at most eight years.
HORIZON_DAYS = 366 * 9


@dataclass(frozen=True)
class Cron:
    """A parsed expression."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first matching time after a moment, in UTC; None if there is none in the next nine years (31 February)."""
        # Start a day early: a time that was shifted out of a gap may belong to the previous day.
        day = moment.astimezone(zone).date() - timedelta(days=1)
        for _ in range(HORIZON_DAYS):
            if self._matches(day):
                later = [found for found in self._times(day, zone) if found > moment]
                if later:
                    return min(later)
            day += timedelta(days=1)
        return None

    def _matches(self, day: date) -> bool:
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        either = not self.any_day and not self.any_weekday
        return day.month in self.months and (in_month or in_week if either else in_month and in_week)

    def _times(self, day: date, zone: ZoneInfo) -> Iterator[datetime]:
        folds = (0, 1) if len(self.hours) == 24 else (0,)
        for hour in self.hours:
            for minute in self.minutes:
                for fold in folds:
                    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone, fold=fold)
                    yield local.astimezone(UTC)


def parse(text: str) -> Cron:
    """Parse five fields, or a short form such as ``@daily``.

    Raises:
        ValueError: the expression is not valid; the message says why.
    """
    fields = _SHORT.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise ValueError(
            f"a cron expression has five fields (minute hour day month weekday), this one has {len(fields)}"
        )
    minute, hour, day, month, weekday = fields
    return Cron(
        text=text,
        minutes=_field(minute, 0, 59, "minute"),
        hours=_field(hour, 0, 23, "hour"),
        days=frozenset(_field(day, 1, 31, "day")),
        months=frozenset(_field(_numbered(month, _MONTHS, 1), 1, 12, "month")),
        weekdays=frozenset(number % 7 for number in _field(_numbered(weekday, _DAYS, 0), 0, 7, "weekday")),
        any_day=day.startswith("*"),
        any_weekday=weekday.startswith("*"),
    )


def _numbered(field: str, names: tuple[str, ...], first: int) -> str:
    for number, name in enumerate(names, first):
        field = re.sub(rf"\b{name}\b", str(number), field, flags=re.IGNORECASE)
    return field


def _field(text: str, minimum: int, maximum: int, name: str) -> tuple[int, ...]:
    found: set[int] = set()
    for item in text.split(","):
        found.update(_item(item, minimum, maximum, name))
    return tuple(sorted(found))


def _item(item: str, minimum: int, maximum: int, name: str) -> range:
    parts = _ITEM.fullmatch(item)
    if parts is None:
        raise ValueError(f"{item!r} is not a valid {name} in cron")
    step = int(parts["step"] or 1)
    if parts["first"] == "*":
        first, last = minimum, maximum
    else:
        first = int(parts["first"])
        last = int(parts["last"] or (maximum if parts["step"] else first))
    if not (minimum <= first <= last <= maximum) or step < 1:
        raise ValueError(f"{item!r} is outside {name} {minimum}-{maximum}")
    return range(first, last + 1, step)
