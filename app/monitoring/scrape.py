"""The content of /metrics: the sum over all worker processes, and what is counted in the database."""

import os
from collections.abc import Iterator
from typing import cast

import prometheus_client
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from monitoring.billing import BillingCollector
from monitoring.migrations import unapplied
from monitoring.operations import OperationsCollector
from monitoring.remembered import Remembered


class MigrationsCollector(Collector):
    """Reads the database at most once in `every` seconds, and `retry` seconds after a failure."""

    def __init__(self, every: float = 30.0, retry: float = 3.0) -> None:
        self._count = Remembered(lambda: len(unapplied()), every, retry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        gauge = GaugeMetricFamily(
            "django_migrations_unapplied_total", "Number of unapplied migrations", labels=["connection"]
        )
        count = self._count.value()
        if count is not None:
            gauge.add_metric(["default"], count)
        yield gauge


collectors: tuple[Collector, ...] = (
    MigrationsCollector(),
    OperationsCollector(),
    BillingCollector(),
)


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
    for collector in collectors:
        registry.register(collector)
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
    else:
        registry.register(cast("Collector", REGISTRY))
    return registry
