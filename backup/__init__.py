"""Backups of PostgreSQL and Redis into S3 or a folder, each proven by restoring it."""

try:
    from sidecar.version import __version__
except KeyboardInterrupt:
    # Ctrl-C in the first moments of a command, before it handles signals.
    raise SystemExit(130) from None

__all__ = ["__version__"]
