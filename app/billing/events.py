"""Stripe events: stored by ID, handled once. See `synchronization` for why their order does not matter."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from billing import client
from billing.client import moment, reference
from billing.errors import StripeCallError
from billing.models import Account, Event
from billing.synchronization import synchronize
from config.sending import enqueue

log = logging.getLogger(__name__)

Status = Event.Status
# The events after which a subscription may be another one. Choose exactly these for the endpoint in Stripe.
TYPES = (
    "checkout.session.completed",
    "customer.deleted",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.updated",
    "invoice.paid",
    "invoice.payment_action_required",
    "invoice.payment_failed",
)
RESEND = 500
# Stripe's own retries come first. It keeps events for 30 days.
DELIVERY_TIME = timedelta(minutes=10)
LOOK_BACK = timedelta(days=1)


class InvalidEventError(Exception):
    """The content is not a Stripe event. The message is for the sender."""


@dataclass(frozen=True)
class Received:
    """The few facts of an event that are kept."""

    id: str
    type: str
    created_at: datetime
    customer_id: str

    @classmethod
    def parse(cls, content: Any) -> "Received":
        """From an event's JSON.

        Raises:
            InvalidEventError: it has no id, type or time, or they are not of the right kind.
        """
        if not isinstance(content, Mapping) or content.get("object") != "event":
            raise InvalidEventError("The body is not an event.")
        identity, kind = content.get("id"), content.get("type")
        for name, value in (("id", identity), ("type", kind)):
            if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
                raise InvalidEventError(f"The event's {name} is not valid.")
        try:
            created = moment(content.get("created"))
        except (TypeError, ValueError, OverflowError, OSError):
            raise InvalidEventError("The event's time is not valid.") from None
        return cls(str(identity), str(kind), created, _customer(str(kind), content))


def _customer(kind: str, content: Mapping[str, Any]) -> str:
    data = content.get("data")
    subject = data.get("object") if isinstance(data, Mapping) else None
    if not isinstance(subject, Mapping):
        return ""
    found = subject.get("id") if kind.startswith("customer.deleted") else subject.get("customer")
    name = reference(found)
    return name if len(name) <= 255 and name.isprintable() else ""


@transaction.atomic
def store(received: Received, *, delivered: bool) -> str:
    """Store an event, and send its task. Returns `accepted`, `ignored` or `duplicate`."""
    now = timezone.now()
    is_relevant = received.type in TYPES
    event, is_new = Event.objects.get_or_create(
        pk=received.id,
        defaults={
            "type": received.type,
            "customer_id": received.customer_id,
            "created_at": received.created_at,
            "status": Status.PENDING if is_relevant else Status.IGNORED,
            "delivered_at": now if delivered else None,
            "sent_at": now,
        },
    )
    if not is_new:
        if delivered and event.delivered_at is None:
            Event.objects.filter(pk=event.pk, delivered_at=None).update(delivered_at=now)
        return "duplicate"
    if not is_relevant:
        return "ignored"
    transaction.on_commit(partial(_send, event.pk))
    return "accepted"


def _send(pk: str) -> bool:
    return enqueue("billing.tasks.handle_event", pk, on_failure=partial(_unsend, pk))


def _unsend(pk: str) -> None:
    Event.objects.filter(pk=pk, status=Status.PENDING).update(sent_at=None)


def handle(pk: str) -> str:
    """Handle an event, together with all others of its customer that wait. Returns what happened.

    Raises:
        StripeCallError: the event stays pending, and is sent again later.
    """
    event = Event.objects.filter(pk=pk, status=Status.PENDING).first()
    if event is None:
        return "nothing to do"
    account = Account.objects.filter(customer_id=event.customer_id).first() if event.customer_id else None
    if account is None:
        # Not a customer of this app: another one may use the same Stripe account. Reconciliation names them.
        Event.objects.filter(pk=pk, status=Status.PENDING).update(
            status=Status.IGNORED, error="no account has this customer", handled_at=timezone.now()
        )
        return "unknown customer"
    try:
        synchronize(account)
    except StripeCallError as error:
        Event.objects.filter(pk=pk, status=Status.PENDING).update(error=str(error)[:300])
        raise
    return "handled"


def resend() -> int:
    """Send the tasks of events again that were lost, or that Stripe's API refused. Returns their number."""
    long_ago = timezone.now() - timedelta(seconds=settings.BILLING_RESEND_AFTER)
    lost = Event.objects.filter(Q(sent_at=None) | Q(sent_at__lt=long_ago), status=Status.PENDING)
    with transaction.atomic():
        keys = list(
            lost.select_for_update(skip_locked=True)
            .order_by("created_at")
            .values_list("pk", flat=True)[:RESEND]
        )
        Event.objects.filter(pk__in=keys).update(sent_at=timezone.now())
    return sum(_send(key) for key in keys)


def catch_up(now: datetime | None = None) -> int:
    """Store the events that Stripe has and the webhook has not delivered. Returns their number."""
    now = now or timezone.now()
    since = now - LOOK_BACK
    listed = list(_parsed(client.events(TYPES, since, now - DELIVERY_TIME)))
    known = set(Event.objects.filter(pk__in=[event.id for event in listed]).values_list("pk", flat=True))
    missed = [event for event in listed if event.id not in known]
    for event in missed:
        log.warning("event was not delivered by the webhook", extra={"event": event.id, "type": event.type})
        store(event, delivered=False)
    return len(missed)


def _parsed(found: Iterable[Any]) -> Iterator[Received]:
    for event in found:
        try:
            yield Received.parse(event)
        except InvalidEventError:
            log.warning("Stripe listed an event that cannot be read")


def forget() -> int:
    """Delete events that are older than Stripe's own memory of them. Returns the number of rows."""
    oldest = timezone.now() - timedelta(days=settings.BILLING_EVENT_RETENTION_DAYS)
    deleted, _ = Event.objects.filter(received_at__lt=oldest).exclude(status=Status.PENDING).delete()
    return deleted
