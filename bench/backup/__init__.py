"""``./ops bench backup``: the backup compared with the usual ways and the streaming limit."""

from bench.backup.command import backup

__all__ = ["backup"]
