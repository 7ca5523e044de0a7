"""Restores a backup into a new database, verifies it there, and swaps it into production in one step."""

from backup.progress import Reporter
from backup.restore.database import Restored, restore
from backup.restore.swap import promote, rollback

__all__ = ["Reporter", "Restored", "promote", "restore", "rollback"]
