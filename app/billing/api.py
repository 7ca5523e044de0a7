"""Subscribing and managing the subscription. Stripe's webhook is in `webhook`."""

from typing import Any, cast

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.models import User
from billing import checkout
from billing.models import Account, Subscription
from billing.plans import UNFINISHED
from billing.synchronization import terms


class BillingSerializer(serializers.Serializer[Any]):
    """The state of the customer's subscription, for the frontend."""

    offered = serializers.BooleanField(help_text="Whether the plan pro can be bought.")
    manageable = serializers.BooleanField(help_text="Whether the customer portal can be opened.")
    status = serializers.CharField(help_text="Stripe's word for the state; empty without a subscription.")
    period_ends_at = serializers.DateTimeField(allow_null=True)
    ends = serializers.BooleanField(help_text="Whether the subscription ends with its period.")
    payment_failed = serializers.BooleanField()
    grace_ends_at = serializers.DateTimeField(
        allow_null=True, help_text="After a failed payment: when the plan becomes free."
    )


class PageSerializer(serializers.Serializer[Any]):
    url = serializers.URLField(help_text="A Stripe page, for this customer only.")


def state_of(user: User) -> dict[str, Any]:
    """What `me/` shows of the billing of a user."""
    account = Account.objects.filter(user=user).first()
    newest = _newest(account)
    failed = newest is not None and newest.status in ("past_due", "unpaid")
    return {
        "offered": checkout.is_offered(),
        "manageable": checkout.is_offered() and bool(account and account.customer_id),
        "status": newest.status if newest else "",
        "period_ends_at": newest.current_period_end if newest else None,
        "ends": bool(newest and newest.cancel_at_period_end),
        "payment_failed": failed,
        "grace_ends_at": terms().grace_end(newest) if newest else None,
    }


def _newest(account: Account | None) -> Subscription | None:
    """The subscription that counts: one that is not finished, else the newest."""
    if account is None:
        return None
    ours = terms()
    found = [subscription for subscription in account.subscriptions.all() if ours.sells(subscription)]
    return next(
        (subscription for subscription in found if subscription.status in UNFINISHED), next(iter(found), None)
    )


class CheckoutView(APIView):
    throttle_scope = "billing"

    @extend_schema(request=None, responses=PageSerializer)
    def post(self, request: Request) -> Response:
        """A page on which the customer subscribes to the plan pro. The request has no content: the price is not a choice."""
        return Response({"url": checkout.subscribe(cast("User", request.user))})


class PortalView(APIView):
    throttle_scope = "billing"

    @extend_schema(request=None, responses=PageSerializer)
    def post(self, request: Request) -> Response:
        """The customer's own portal: payment method, invoices, cancellation."""
        return Response({"url": checkout.manage(cast("User", request.user))})
