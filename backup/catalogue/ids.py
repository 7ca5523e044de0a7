"""The ID of a backup: its start time in UTC and six random hexadecimal digits. IDs sort by time, to the second."""

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

# Minimum number of characters that identify a backup.
SHORTEST = 4
PATTERN = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_FORMAT = "%Y%m%dT%H%M%SZ"


def new_id(now: datetime) -> str:
    """An ID for a backup that begins now."""
    return f"{stamp(now)}-{secrets.token_hex(3)}"


def named(typed: str, known: Iterable[str]) -> list[str]:
    """The IDs that a person may mean: an exact match, or all that end in what was typed, such as ``ab12cd``."""
    ids = sorted(set(known))
    if typed in ids:
        return [typed]
    return [each for each in ids if len(typed) >= SHORTEST and each.endswith(typed)]


def fits(backup_id: str, started: datetime) -> bool:
    """Whether an ID contains a valid start time."""
    try:
        named = datetime.strptime(backup_id.partition("-")[0], _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return False
    return abs(named - started) < timedelta(days=1)


def stamp(moment: datetime) -> str:
    """A moment as written in IDs: ``20261123T050000Z``."""
    return moment.astimezone(UTC).strftime(_FORMAT)
