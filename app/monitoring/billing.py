"""Billing metrics that are read from the database: pending events, undelivered events, differences from Stripe.

Counters in a process cannot show them, because other processes write these rows.
"""

from collections.abc import Iterator, Sequence

from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from billing import checkout
from billing.events import LOOK_BACK
from billing.models import Event, Reconciliation, Subscription
from billing.reconciliation import KINDS
from monitoring.remembered import Remembered

Families = Sequence[GaugeMetricFamily]


class BillingCollector(Collector):
    """Reads the database at most once every `every` seconds. Without billing, or without the database, there are no series."""

    def __init__(self, every: float = 15.0, retry: float = 3.0) -> None:
        self._families = Remembered(_read, every, retry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if checkout.is_offered():
            yield from self._families.value() or ()


def _read() -> Families:
    return (*_events(), *_subscriptions(), *_reconciliation())


def _events() -> Families:
    oldest = Event.objects.filter(status=Event.Status.PENDING).aggregate(oldest=Min("received_at"))["oldest"]
    age = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return (
        _gauge(
            "posthub_billing_oldest_pending_event_seconds",
            "Age of the oldest Stripe event that is waiting to be handled",
            age,
        ),
        _gauge(
            "posthub_billing_undelivered_events",
            "Events that Stripe created after the last one that its webhook delivered, fetched from its API instead",
            _undelivered(),
        ),
    )


def _undelivered() -> int:
    delivered = (
        Event.objects.filter(delivered_at__isnull=False)
        .order_by("-created_at")
        .values_list("created_at", flat=True)
        .first()
    )
    missed = Event.objects.filter(delivered_at=None, created_at__gt=timezone.now() - LOOK_BACK)
    return (missed.filter(created_at__gt=delivered) if delivered else missed).count()


def _subscriptions() -> Families:
    family = GaugeMetricFamily(
        "posthub_billing_subscriptions", "Subscriptions by Stripe's status", labels=["status"]
    )
    for row in Subscription.objects.order_by().values("status").annotate(count=Count("pk")):
        family.add_metric([row["status"]], row["count"])
    return (family,)


def _reconciliation() -> Families:
    """Absent before the first comparison, because 0 would mean that there are no differences."""
    last = Reconciliation.objects.first()
    if last is None:
        return ()
    family = GaugeMetricFamily(
        "posthub_billing_differences",
        "Differences from Stripe that the last comparison found",
        labels=["kind"],
    )
    for kind in KINDS:
        family.add_metric([kind], sum(difference["kind"] == kind for difference in last.differences))
    return (
        family,
        _gauge(
            "posthub_billing_compared_timestamp_seconds",
            "When the last comparison with Stripe ended",
            last.finished_at.timestamp(),
        ),
    )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


billing = BillingCollector()
