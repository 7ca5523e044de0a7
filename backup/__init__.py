"""Backups of PostgreSQL and Redis into S3 or a folder, each proven by restoring it."""

__version__ = "0.1.0"
__all__ = ["__version__"]
