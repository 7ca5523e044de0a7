from typing import Any

from celery import Task, shared_task
from django.conf import settings
from django.db import InterfaceError, OperationalError

from billing import checkout, events, reconciliation
from billing.errors import TryLaterError
from config.sending import SAFE, backoff

RETRY: dict[str, Any] = {"bind": True, "max_retries": 20, **SAFE}


@shared_task(name="billing.tasks.handle_event", soft_time_limit=60, time_limit=75, **RETRY)
def handle_event(self: "Task[..., Any]", pk: str) -> str:
    """Handle a Stripe event. Events that keep failing stay pending, and housekeeping sends them again."""
    try:
        return events.handle(pk)
    except (TryLaterError, OperationalError, InterfaceError) as error:
        raise self.retry(
            exc=error, countdown=backoff(self.request.retries, settings.BILLING_BACKOFF)
        ) from error


@shared_task(name="billing.tasks.catch_up", soft_time_limit=120, time_limit=150, **SAFE)
def catch_up() -> int:
    """Fetch the events that the webhook has not delivered."""
    return events.catch_up() if checkout.is_offered() else 0


@shared_task(name="billing.tasks.reconcile", soft_time_limit=270, time_limit=300, **RETRY)
def reconcile(self: "Task[..., Any]") -> int:
    """Compare all subscriptions with Stripe's every night. Returns the number of differences."""
    if not checkout.is_offered():
        return 0
    try:
        return len(reconciliation.run(repair=True).differences)
    except TryLaterError as error:
        raise self.retry(
            exc=error, countdown=backoff(self.request.retries, settings.BILLING_BACKOFF)
        ) from error
