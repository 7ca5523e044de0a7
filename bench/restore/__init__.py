"""``./ops bench restore``: restore and verification beside the limit and beside the usual way."""

from bench.restore.command import main, restore

__all__ = ["main", "restore"]
