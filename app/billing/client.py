"""Requests to Stripe's API, by Stripe's own library. Each one has a time limit and is measured.

Stripe's answers are reduced to the few facts that are needed here.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

from billing.errors import GoneError, RefusedError, TryLaterError
from monitoring.metrics import STRIPE_REQUESTS, STRIPE_SECONDS

if TYPE_CHECKING:
    from stripe import StripeClient

PAGE = 100
# Retries of the library itself, which are quick. A task has its own.
QUICK_RETRIES = 1


@dataclass(frozen=True)
class SubscriptionState:
    """A subscription as Stripe reports it."""

    id: str
    customer_id: str
    status: str
    prices: tuple[str, ...]
    created_at: datetime
    current_period_end: datetime | None
    cancel_at_period_end: bool
    # When the newest invoice was issued, if it is not paid.
    unpaid_since: datetime | None

    @classmethod
    def read(cls, answer: Any) -> "SubscriptionState":
        """From a subscription of the API.

        Raises:
            RefusedError: the response is not a subscription.
        """
        try:
            return cls._read(answer)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
            raise RefusedError(
                "Stripe sent a subscription that cannot be read", "invalid_response"
            ) from error

    @classmethod
    def _read(cls, answer: Any) -> "SubscriptionState":
        items = answer["items"]["data"]
        ends = [item["current_period_end"] for item in items]
        # The end of a subscription that is cancelled for a date other than that of its period counts as well.
        ends_early = bool(answer["cancel_at_period_end"] or answer.get("cancel_at"))
        invoice = answer.get("latest_invoice")
        is_unpaid = isinstance(invoice, Mapping) and invoice["status"] in {"open", "uncollectible"}
        return cls(
            id=str(answer["id"]),
            customer_id=reference(answer["customer"]),
            status=str(answer["status"]),
            prices=tuple(sorted(str(item["price"]["id"]) for item in items)),
            created_at=moment(answer["created"]),
            current_period_end=moment(max(ends)) if ends else None,
            cancel_at_period_end=ends_early,
            unpaid_since=moment(invoice["created"]) if is_unpaid else None,
        )


def moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def reference(value: Any) -> str:
    """The ID of an object that is given as its ID, as the object itself, or not at all."""
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else ""


def create_customer(*, email: str, user: str, key: str) -> str:
    """Create a customer and return its ID. The same key never creates a second one."""
    with _measured("create_customer") as api:
        made = api.v1.customers.create(
            # For people who look at Stripe's dashboard. Nothing here ever reads it.
            {"metadata": {"posthub_user": user}, **({"email": email} if email else {})},
            {"idempotency_key": key},
        )
    return str(made["id"])


def is_deleted(customer: str) -> bool:
    """Whether a customer was deleted in Stripe, which ends all subscriptions. Unlike one that never existed, it is still known."""
    try:
        with _measured("get_customer") as api:
            return bool(api.v1.customers.retrieve(customer).to_dict().get("deleted"))
    except GoneError:
        return False


def create_checkout(*, customer: str, price: str, success: str, cancelled: str, key: str) -> tuple[str, str]:
    """Create a page on which the customer subscribes. Returns its ID and URL."""
    with _measured("create_checkout") as api:
        made = api.v1.checkout.sessions.create(
            {
                "mode": "subscription",
                "customer": customer,
                "line_items": [{"price": price, "quantity": 1}],
                "success_url": success,
                "cancel_url": cancelled,
            },
            {"idempotency_key": key},
        )
    return str(made["id"]), str(made["url"])


def open_checkout(session: str) -> str | None:
    """The URL of a checkout session, if it can still be paid."""
    try:
        with _measured("get_checkout") as api:
            found = api.v1.checkout.sessions.retrieve(session)
    except GoneError:
        return None
    return str(found["url"]) if found["status"] == "open" and found["url"] else None


def create_portal(*, customer: str, back: str) -> str:
    """Create a session of the customer portal. Returns its URL."""
    with _measured("create_portal") as api:
        return str(api.v1.billing_portal.sessions.create({"customer": customer, "return_url": back})["url"])


def subscriptions(customer: str) -> list[SubscriptionState]:
    """All subscriptions of a customer, also those that have ended.

    Stripe's documentation does not say what it answers for a deleted customer. Both answers are understood.
    """
    try:
        return [found for found in _subscriptions({"customer": customer}) if found.customer_id == customer]
    except GoneError:
        if is_deleted(customer):
            return []
        raise


def all_subscriptions() -> list[SubscriptionState]:
    """The subscriptions of all customers, except those that have ended."""
    return _subscriptions({})


def _subscriptions(only: Mapping[str, str]) -> list[SubscriptionState]:
    status = "all" if only else None
    wanted = {"expand": ["data.latest_invoice"], **only, **({"status": status} if status else {})}
    return [
        SubscriptionState.read(found)
        for found in _pages("list_subscriptions", lambda api: api.v1.subscriptions.list, wanted)
    ]


def events(types: tuple[str, ...], since: datetime, until: datetime) -> list[Any]:
    """The events of these types that Stripe created within a time (it keeps them for 30 days)."""
    created = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
    wanted = {"types": list(types), "created": created}
    return list(_pages("list_events", lambda api: api.v1.events.list, wanted))


def price_exists(price: str) -> bool:
    """Whether the price can be sold. A harmless request that tests the key."""
    with _measured("get_price") as api:
        return bool(api.v1.prices.retrieve(price)["active"])


def _pages(operation: str, method: Callable[["StripeClient"], Any], wanted: dict[str, Any]) -> Iterator[Any]:
    """Every object of a list, page by page. Each page is a measured request."""
    last: str | None = None
    while True:
        more = {"starting_after": last} if last else {}
        with _measured(operation) as api:
            page = method(api)({**wanted, "limit": PAGE, **more})
        yield from (found.to_dict() for found in page["data"])
        if not page["has_more"] or not page["data"]:
            return
        last = str(page["data"][-1]["id"])


@contextmanager
def _measured(operation: str) -> Iterator["StripeClient"]:
    """A client for one request, whose errors become those of this app."""
    import stripe  # slow; most processes never need it

    outcome, start = "internal_error", time.perf_counter()
    try:
        yield _client()
        outcome = "success"
    except stripe.StripeError as error:
        failure = _failure(error)
        outcome = failure.outcome
        raise failure from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        outcome = "invalid_response"
        raise RefusedError("Stripe sent an answer that cannot be read", outcome) from error
    finally:
        STRIPE_REQUESTS.labels(operation, outcome).inc()
        STRIPE_SECONDS.labels(operation).observe(time.perf_counter() - start)


def _client() -> "StripeClient":
    import stripe

    if not settings.STRIPE_SECRET_KEY:
        raise RefusedError("STRIPE_SECRET_KEY is not set", "unauthorized")
    stripe.enable_telemetry = False
    limits = (min(settings.STRIPE_TIMEOUT, 5.0), settings.STRIPE_TIMEOUT)
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        base_addresses={"api": settings.STRIPE_API_BASE} if settings.STRIPE_API_BASE else {},
        max_network_retries=QUICK_RETRIES,
        http_client=stripe.RequestsClient(timeout=limits),
    )


def _failure(error: Any) -> TryLaterError | RefusedError:
    """What an error of the library means for the caller. Stripe's message is only in the log: it may quote the request."""
    import stripe

    match error:
        case stripe.RateLimitError():
            return TryLaterError("Stripe limits the rate of requests", "rate_limited")
        case stripe.APIConnectionError():
            return TryLaterError("no connection to Stripe", "connection_error")
        case stripe.AuthenticationError() | stripe.PermissionError():
            return RefusedError("Stripe does not accept STRIPE_SECRET_KEY", "unauthorized")
        case stripe.InvalidRequestError(code="resource_missing"):
            return GoneError("Stripe has no such object", "missing")
    status = error.http_status or 500
    if status >= 500 or status == 409:
        return TryLaterError(f"Stripe answered {status}", "server_error")
    return RefusedError(f"Stripe answered {status}", "rejected")
