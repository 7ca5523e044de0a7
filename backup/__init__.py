"""Backups of PostgreSQL and Redis into S3 or a folder, each proven by restoring it."""

from sidecar.version import __version__

__all__ = ["__version__"]
