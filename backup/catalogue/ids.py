"""The name of a backup: the moment it began in UTC, and six random hex digits. Names sort by time."""

import re
import secrets
from datetime import UTC, datetime

PATTERN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_FORMAT = "%Y%m%dT%H%M%SZ"


def new_id(now: datetime) -> str:
    """A name for a backup that begins now."""
    return f"{stamp(now)}-{secrets.token_hex(3)}"


def stamp(moment: datetime) -> str:
    """A moment as it stands in names: ``20261123T050000Z``."""
    return moment.astimezone(UTC).strftime(_FORMAT)
