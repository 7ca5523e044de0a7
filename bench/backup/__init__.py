"""``./ops bench backup``: the backup beside the usual ways and beside the streaming limit."""

from bench.backup.command import backup, main

__all__ = ["backup", "main"]
