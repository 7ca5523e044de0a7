"""``./ops bench pitr``: the WAL stream, base backups and recoveries compared with PostgreSQL's own programs."""

from bench.pitr.command import pitr

__all__ = ["pitr"]
