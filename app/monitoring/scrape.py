"""The content of /metrics: the sum over all worker processes, and the number of unapplied migrations."""

import os
import time
from collections.abc import Iterator
from threading import Lock
from typing import cast

import prometheus_client
from django.db import Error
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring.migrations import unapplied


class MigrationsCollector(Collector):
    """Reads the database at most once in `every` seconds, because a scrape must be cheap.

    After a failure it tries again after `retry` seconds, so that the number returns soon after the database.
    """

    def __init__(self, every: float = 30.0, retry: float = 3.0) -> None:
        self._every, self._retry, self._lock = every, retry, Lock()
        self._count: int | None = None
        self._next = 0.0

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "django_migrations_unapplied_total", "Number of unapplied migrations", labels=["connection"]
        )
        count = self._current()
        if count is not None:
            gauge.add_metric(["default"], count)
        yield gauge

    def _current(self) -> int | None:
        with self._lock:
            if time.monotonic() >= self._next:
                self._count = _count()
                self._next = time.monotonic() + (self._retry if self._count is None else self._every)
            return self._count


def _count() -> int | None:
    try:
        return len(unapplied())
    except Error:
        return None


migrations = MigrationsCollector()


def drop_migration_gauges() -> None:
    """Remove django-prometheus' gauges: they are set once at start and have one series per process."""
    from django_prometheus import migrations as theirs

    for gauge in (theirs.unapplied_migrations, theirs.applied_migrations):
        REGISTRY.unregister(gauge)


def exposition(accept: str) -> tuple[bytes, str]:
    encode, content_type = prometheus_client.exposition.choose_encoder(accept)
    return encode(_registry()), content_type


def _registry() -> CollectorRegistry:
    """A new registry: other programs with the same code (Flower) serve the global one without a database."""
    registry = CollectorRegistry()
    registry.register(migrations)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(cast("Collector", REGISTRY))
    return registry
