"""Names of databases before, during and after a restore."""

import hashlib
from datetime import datetime

from backup.catalogue.ids import stamp
from backup.postgres.databases import WORKING

# PostgreSQL silently truncates longer names.
MAX_BYTES = 63


def restored(production: str, backup_id: str) -> str:
    """The default name of the new database. It is the same each time, so that a second run finds the first."""
    return _with_suffix(production, f"_restored_{backup_id.partition('-')[0].lower()}")


def before(production: str, now: datetime) -> str:
    """The name that the old database keeps after a promotion."""
    return _with_suffix(production, f"_before_{stamp(now).lower()}")


def undone(production: str, now: datetime) -> str:
    """The name that a promoted database keeps after a rollback."""
    return _with_suffix(production, f"_undone_{stamp(now).lower()}")


def working(into: str) -> str:
    """The name of a database until its restore is complete. Any database with such a name is unfinished and belongs to us."""
    return f"{WORKING}{hashlib.sha256(into.encode()).hexdigest()[:16]}"


def fits(name: str) -> bool:
    """Whether PostgreSQL keeps the whole name."""
    return 0 < len(name.encode()) <= MAX_BYTES and "\0" not in name


def _with_suffix(name: str, suffix: str) -> str:
    head = name.encode()[: MAX_BYTES - len(suffix)]
    return head.decode(errors="ignore") + suffix
