"""A backup back into production: into a new database, proven there, then put in the old one's place in one step."""

from backup.restore.restoring import Restored, restore
from backup.restore.swapping import promote, rollback
from backup.restore.telling import Telling

__all__ = ["Restored", "Telling", "promote", "restore", "rollback"]
