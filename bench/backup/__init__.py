"""``./ops bench backup``: the backup beside the usual ways and beside the streaming limit."""

from bench.backup.command import backup

__all__ = ["backup"]
