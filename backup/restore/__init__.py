"""A backup back into production: into a new database, proven there, then put in the old one's place in one step."""

from backup.progress import Reporter
from backup.restore.database import Restored, restore
from backup.restore.swap import promote, rollback

__all__ = ["Reporter", "Restored", "promote", "restore", "rollback"]
