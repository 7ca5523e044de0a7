"""The Celery exporter: task, worker, queue and beat metrics of a Celery broker for Prometheus."""

from sidecar.version import __version__

__all__ = ["__version__"]
