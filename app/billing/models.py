"""What this side knows about Stripe: customers, the state of their subscriptions, and which events have arrived.

Stripe has the truth. Nothing here describes a card: no number, brand, expiry or last digits, and no event's content.
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q


class Account(models.Model):
    """The billing of one user. Only `checkout` sets the customer, so no metadata or request can assign one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="billing_account"
    )
    customer_id = models.CharField(max_length=255, unique=True, null=True, blank=True, editable=False)
    # The newest checkout session, which is used again while it is open: two open ones could both be paid.
    checkout_id = models.CharField(max_length=255, blank=True, editable=False)
    complimentary = models.BooleanField(default=False, help_text="Pro without a subscription.")
    # Incremented by every change of the subscriptions, so that an older reading cannot replace a newer one.
    revision = models.PositiveBigIntegerField(default=0, editable=False)
    synced_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "billing account"

    def __str__(self) -> str:
        return f"{self.user_id} ({self.customer_id or 'no customer'})"


class Subscription(models.Model):
    """The state of a subscription, as Stripe reported it last."""

    id = models.CharField(primary_key=True, max_length=255, editable=False)
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="subscriptions")
    # Stripe's word. Not a choice: Stripe may add one, and an unknown state must be stored too.
    status = models.CharField(max_length=32)
    prices = models.JSONField(default=list)
    created_at = models.DateTimeField()
    current_period_end = models.DateTimeField(null=True)
    cancel_at_period_end = models.BooleanField(default=False)
    # The date of the first invoice that was not paid, while the subscription is past due.
    past_due_since = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "id")

    def __str__(self) -> str:
        return f"{self.id} ({self.status})"


class Event(models.Model):
    """A Stripe event, stored by its ID and handled once. Its content is not stored: it is only a hint."""

    class Status(models.TextChoices):
        PENDING = "pending"
        HANDLED = "handled"
        IGNORED = "ignored"

    id = models.CharField(primary_key=True, max_length=255, editable=False)
    type = models.CharField(max_length=255)
    customer_id = models.CharField(max_length=255, blank=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.PENDING)
    error = models.CharField(max_length=300, blank=True)
    # When Stripe created it, when it was stored, and when the webhook delivered it (never, if only the API had it).
    created_at = models.DateTimeField()
    received_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    handled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at",)
        indexes = (
            models.Index(
                fields=("customer_id",), condition=Q(status="pending"), name="billing_event_pending"
            ),
            models.Index(
                fields=("created_at",), condition=Q(delivered_at=None), name="billing_event_undelivered"
            ),
            models.Index(
                fields=("-created_at",),
                condition=Q(delivered_at__isnull=False),
                name="billing_event_delivered",
            ),
            models.Index(fields=("received_at",), name="billing_event_received"),
        )

    def __str__(self) -> str:
        return f"{self.id} ({self.type}, {self.status})"


class Reconciliation(models.Model):
    """A comparison of all subscriptions with Stripe's."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(auto_now_add=True)
    subscriptions = models.PositiveIntegerField(help_text="Compared with Stripe's.")
    # A list of {"kind", "text", "repaired"}.
    differences = models.JSONField(default=list)

    class Meta:
        ordering = ("-finished_at",)
        get_latest_by = "finished_at"

    def __str__(self) -> str:
        return f"{self.finished_at:%Y-%m-%d %H:%M} ({len(self.differences)} differences)"
