"""``./ops bench growth``: how cost grows with the size of an installation."""

from bench.growth.command import growth

__all__ = ["growth"]
