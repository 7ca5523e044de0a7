"""Sizes, rates, durations and moments for people."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from sidecar import humanize


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (12_300_000, "12.3 MB"),
        (8 * 1024 * 1024, "8.4 MB"),
        (3.2e15, "3200.0 TB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert humanize.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 tables"), (1, "1 table"), (2, "2 tables"), (1234, "1,234 tables")]
)
def test_counted(count: int, text: str) -> None:
    assert humanize.counted(count, "table") == text


def test_rate() -> None:
    assert humanize.rate(38_200_000) == "38.2 MB/s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.42, "0.42 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7200, "2 h 00 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert humanize.duration(seconds) == text


def test_a_moment_is_shown_in_utc() -> None:
    assert humanize.moment(datetime(2026, 1, 2, 3, 4, 5, 6, UTC)) == "2026-01-02 03:04:05 UTC"
    prague = timezone(timedelta(hours=1))
    assert humanize.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=prague)) == "2026-01-02 02:04:05 UTC"
