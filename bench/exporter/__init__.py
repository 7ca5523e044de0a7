"""``./ops bench exporter``: the Celery exporter compared with its peers and the limit."""

from bench.exporter.command import exporter

__all__ = ["exporter"]
