"""Durations and moments as people write them: ``36h``, ``14d``, ``2026-11-28 14:00``."""

import re
from datetime import UTC, datetime, timedelta

SPANS = "a number and h, d or w, such as 36h, 14d, 2w"
_SPAN = re.compile(r"(?P<count>\d{1,6})(?P<unit>[hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta | None:
    """Read a span of hours, days or weeks; None if the text is not one."""
    found = _SPAN.fullmatch(text.strip())
    return timedelta(**{_UNITS[found["unit"]]: int(found["count"])}) if found else None


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a moment: a span counts back from now; a date or a time without a zone is in UTC, like every ID.

    Raises:
        ValueError: it is neither, or it is out of bounds.
    """
    span = parse_span(text)
    if span is not None:
        try:
            return now - span
        except OverflowError:
            raise ValueError(f"{text!r} is too long ago") from None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{text!r} is not a moment") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
