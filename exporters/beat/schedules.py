"""Computes when a schedule of django-celery-beat is due next, by Celery's own rules."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo


@dataclass(frozen=True)
class Schedule:
    """One row of django-celery-beat's periodic tasks with its schedule."""

    name: str
    task: str
    enabled: bool
    last_run_at: datetime | None
    date_changed: datetime
    start_time: datetime | None = None
    expires: datetime | None = None
    one_off: bool = False
    every: int | None = None
    period: str | None = None
    # Minute, hour, day of week, day of month, month of year, time zone.
    crontab: tuple[str, ...] | None = None
    clocked_time: datetime | None = None

    def next_due(self, *, last_run: datetime | None = None, now: datetime | None = None) -> datetime | None:
        """The first run after the last one; None if there is none or it is not known (solar).

        Args:
            last_run: a run that is later than the last one in the database.
            now: the current time.
        """
        moment = now or datetime.now(UTC)
        if not self.enabled or self.is_over(moment):
            return None
        start = self._first_run(moment)
        if start is not None and self.last_run_at is None and last_run is None:
            return start
        due = self._after(max(filter(None, (self.last_run_at or self.date_changed, last_run))))
        return max(due, start) if due and start else due

    def _first_run(self, now: datetime) -> datetime | None:
        """When django-celery-beat first sends a schedule with a start time.

        Beat waits for the first moment of a crontab after the start. Once the start has passed, it immediately sends what
        has never run.
        """
        if self.start_time is None or self.crontab is None or now >= self.start_time:
            return self.start_time
        return crontab_after(self.crontab, self.start_time)

    def is_over(self, now: datetime) -> bool:
        """Whether it will never run again: it has expired, or it was a one-off and has run."""
        expired = self.expires is not None and self.expires <= now
        return expired or (self.one_off and self.last_run_at is not None)

    def _after(self, base: datetime) -> datetime | None:
        if self.every is not None and self.period is not None:
            return base + timedelta(**{self.period: self.every})
        if self.crontab is not None:
            return crontab_after(self.crontab, base)
        return self.clocked_time


def crontab_after(fields: tuple[str, ...], base: datetime) -> datetime:
    """The first moment after ``base`` that matches a crontab.

    Raises:
        ValueError: the crontab is malformed.
    """
    schedule = _crontab(fields)
    start, delta, _ = schedule.remaining_delta(base.astimezone(schedule.tz), tz=schedule.tz)
    due: datetime = start + delta
    return due


@lru_cache(maxsize=4_096)
def _crontab(fields: tuple[str, ...]) -> Any:
    # Celery decides what a crontab means. It is imported here, because nothing else needs it.
    from celery.schedules import crontab

    minute, hour, day_of_week, day_of_month, month_of_year, zone = fields
    schedule: Any = crontab(minute, hour, day_of_week, day_of_month, month_of_year)
    schedule.tz = ZoneInfo(zone)
    return schedule
