"""``./ops bench restore``: restore and verification compared with the limit and the usual way."""

from bench.restore.command import restore

__all__ = ["restore"]
