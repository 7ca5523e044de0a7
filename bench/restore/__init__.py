"""``./ops bench restore``: restore and verification beside the limit and beside the usual way."""

from bench.restore.command import restore

__all__ = ["restore"]
