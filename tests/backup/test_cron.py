"""Cron expressions with cron's semantics, in time zones whose clocks change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from backup.cron import parse

BERLIN = ZoneInfo("Europe/Berlin")


def following(text: str, start: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    moment = datetime.fromisoformat(start).astimezone(UTC)
    found = []
    for _ in range(count):
        after = parse(text).next_after(moment, zone)
        assert after is not None
        found.append(after.astimezone(zone).strftime("%a %d %b %H:%M"))
        moment = after
    return found


def test_weekdays_count_from_sunday() -> None:
    assert following("0 5 * * 0", "2026-11-23T00:00+01:00", 2) == ["Sun 29 Nov 05:00", "Sun 06 Dec 05:00"]
    assert following("0 5 * * 7", "2026-11-23T00:00+01:00", 1) == ["Sun 29 Nov 05:00"]
    assert following("0 5 * * mon-fri", "2026-11-27T06:00+01:00", 1) == ["Mon 30 Nov 05:00"]


def test_day_of_month_or_day_of_week() -> None:
    assert following("0 0 13 * 5", "2026-11-01T00:00+01:00", 3) == [
        "Fri 06 Nov 00:00",
        "Fri 13 Nov 00:00",
        "Fri 20 Nov 00:00",
    ]


def test_a_time_that_the_clock_skips_runs_after_the_gap() -> None:
    assert following("30 2 * * *", "2026-03-28T03:00+01:00", 2) == ["Sun 29 Mar 03:30", "Mon 30 Mar 02:30"]


def test_a_time_of_a_day_that_the_clock_skips_runs_on_the_next() -> None:
    """Samoa had no 30 December 2011: it moved across the date line."""
    apia = ZoneInfo("Pacific/Apia")
    assert following("0 2 30 12 *", "2011-12-31T00:30+14:00", 2, apia) == [
        "Sat 31 Dec 02:00",
        "Sun 30 Dec 02:00",
    ]


def test_a_time_that_occurs_twice_runs_once() -> None:
    assert following("30 2 * * *", "2026-10-24T03:00+02:00", 2) == ["Sun 25 Oct 02:30", "Mon 26 Oct 02:30"]


def test_every_hour_is_every_hour_even_when_the_clock_changes() -> None:
    assert following("0 * * * *", "2026-10-25T00:30+02:00", 4) == [
        "Sun 25 Oct 01:00",
        "Sun 25 Oct 02:00",
        "Sun 25 Oct 02:00",
        "Sun 25 Oct 03:00",
    ]
    assert following("0 * * * *", "2026-03-29T00:30+01:00", 3) == [
        "Sun 29 Mar 01:00",
        "Sun 29 Mar 03:00",
        "Sun 29 Mar 04:00",
    ]


def test_steps_lists_and_short_forms() -> None:
    assert parse("*/15 1,3-5 * jan *").minutes == (0, 15, 30, 45)
    assert parse("*/15 1,3-5 * jan *").hours == (1, 3, 4, 5)
    assert parse("5/20 * * * *").minutes == (5, 25, 45)
    assert following("@weekly", "2026-11-23T00:00+01:00", 1) == ["Sun 29 Nov 00:00"]


def test_a_day_that_does_not_exist() -> None:
    assert parse("0 0 31 2 *").next_after(datetime(2026, 1, 1, tzinfo=UTC), BERLIN) is None


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "x * * * *", "5-1 * * * *", "*/0 * * * *"])
def test_invalid_expressions_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"cron|outside"):
        parse(text)
