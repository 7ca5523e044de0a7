"""Sizes, rates, durations and moments as people read them. Sizes are in powers of 1000 everywhere."""

from datetime import UTC, datetime

UNITS = ("B", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """A number of bytes: ``0 B``, ``999 B``, ``12.3 MB``."""
    for unit in UNITS[:-1]:
        text = f"{count:.0f}" if unit == "B" else f"{count:.1f}"
        # 999.96 kB would be shown as 1000.0 kB: the rounded number chooses the unit.
        if abs(float(text)) < 1000:
            return f"{text} {unit}"
        count /= 1000
    return f"{count:.1f} {UNITS[-1]}"


def counted(count: int, noun: str) -> str:
    """A number of things, with the noun in the singular: ``1 table``, ``2 tables``, ``1,234 rows``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def rate(bytes_per_second: float) -> str:
    """A throughput: ``38.2 MB/s``."""
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float) -> str:
    """A number of seconds: ``0.42 s``, ``12.3 s``, ``3 min 05 s``, ``2 h 00 min``, ``3 d 4 h``."""
    if seconds < 1:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def moment(value: datetime) -> str:
    """A moment in UTC, to the second."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
