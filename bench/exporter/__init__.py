"""``./ops bench exporter``: the Celery exporter beside its peers and beside the limit."""

from bench.exporter.command import exporter

__all__ = ["exporter"]
