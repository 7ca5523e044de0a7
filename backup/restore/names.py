"""Names of databases around a restore."""

import hashlib
from datetime import datetime

from backup.catalogue.ids import stamp
from backup.postgres.databases import WORKING

# What PostgreSQL keeps of a name; what is longer it cuts without a word.
MOST_BYTES = 63


def restored(production: str, backup_id: str) -> str:
    """Where a backup is restored to by default: the same name each time, so that a second run finds the first."""
    return _with_suffix(production, f"_restored_{backup_id.partition('-')[0].lower()}")


def before(production: str, now: datetime) -> str:
    """The name under which the old database is kept when another takes its place."""
    return _with_suffix(production, f"_before_{stamp(now).lower()}")


def undone(production: str, now: datetime) -> str:
    """The name under which a promoted database is kept when it is taken back."""
    return _with_suffix(production, f"_undone_{stamp(now).lower()}")


def working(into: str) -> str:
    """The name that a database has until it is whole; whatever has it is ours, and worth nothing."""
    return f"{WORKING}{hashlib.sha256(into.encode()).hexdigest()[:16]}"


def fits(name: str) -> bool:
    """Whether PostgreSQL keeps the whole name."""
    return 0 < len(name.encode()) <= MOST_BYTES and "\0" not in name


def _with_suffix(name: str, suffix: str) -> str:
    head = name.encode()[: MOST_BYTES - len(suffix)]
    return head.decode(errors="ignore") + suffix
