"""Subscribing and managing a subscription, on Stripe's own pages. The only code that connects a user with a customer."""

import hashlib
import logging

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.models import User
from billing import client
from billing.errors import GoneError, StripeCallError, TryLaterError
from billing.models import Account
from billing.plans import UNFINISHED
from billing.synchronization import synchronize, terms
from config.errors import Conflict, Unavailable

log = logging.getLogger(__name__)

# Where Stripe sends the customer back to: a page of the frontend.
BACK = "/account"


def is_offered() -> bool:
    """Whether this process can sell the plan pro."""
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_PRICES)


def subscribe(user: User) -> str:
    """The URL of a Stripe page on which the user subscribes to the plan pro.

    Raises:
        Conflict: the user already has a subscription.
        Unavailable: billing is not configured, or Stripe does not answer.
    """
    _require_offered()
    account = account_of(user)
    try:
        if account.customer_id:
            # A session may be paid, and its event not have arrived yet.
            synchronize(account)
        if account.complimentary or _has_subscription(account):
            raise Conflict("This account already has the plan pro.", code="already_subscribed")
        return _checkout(account, instead_of=_forget_deleted_customer(account))
    except StripeCallError as error:
        raise _unavailable(error) from error


def manage(user: User) -> str:
    """The URL of the customer portal, for the user's own customer.

    Raises:
        Conflict: the user has never subscribed, or the customer was deleted in Stripe.
        Unavailable: billing is not configured, or Stripe does not answer.
    """
    _require_offered()
    account = Account.objects.filter(user=user).first()
    if account is None or not account.customer_id:
        raise _no_subscription()
    try:
        return _portal(account.customer_id)
    except StripeCallError as error:
        raise _unavailable(error) from error


def _portal(customer: str) -> str:
    try:
        return client.create_portal(customer=customer, back=settings.FRONTEND_URL + BACK)
    except GoneError:
        if client.is_deleted(customer):
            raise _no_subscription() from None
        raise


def account_of(user: User) -> Account:
    try:
        with transaction.atomic():
            return Account.objects.get_or_create(user=user)[0]
    except IntegrityError:  # another request made it first
        return Account.objects.get(user=user)


def _has_subscription(account: Account) -> bool:
    ours = terms()
    states = account.subscriptions.filter(status__in=UNFINISHED)
    return any(ours.sells(state) for state in states)


def _forget_deleted_customer(account: Account) -> str:
    """Forget the account's customer if it was deleted in Stripe: no one can pay for it. Returns its ID, or nothing."""
    dead = account.customer_id
    if not dead or not client.is_deleted(dead):
        return ""
    log.warning("customer was deleted in Stripe", extra={"account": str(account.pk), "customer": dead})
    Account.objects.filter(pk=account.pk, customer_id=dead).update(customer_id=None, checkout_id="")
    account.refresh_from_db()
    return dead


def _checkout(account: Account, instead_of: str) -> str:
    """An open checkout session: the last one, or a new one.

    Requests at the same time send the same idempotency key, so that Stripe gives all of them one session. Two open ones
    could both be paid.
    """
    url = client.open_checkout(account.checkout_id) if account.checkout_id else None
    if url is not None:
        return url
    customer, price = _customer(account, instead_of), settings.STRIPE_PRICES[0]
    back = settings.FRONTEND_URL + BACK
    wanted = {
        "customer": customer,
        "price": price,
        "success": f"{back}?billing=success",
        "cancelled": f"{back}?billing=cancelled",
    }
    key = hashlib.sha256("\n".join((account.checkout_id, *wanted.values())).encode()).hexdigest()
    made, url = client.create_checkout(**wanted, key=f"posthub-checkout-{key}")
    Account.objects.filter(pk=account.pk).update(checkout_id=made)
    return url


def _customer(account: Account, instead_of: str) -> str:
    """The account's customer, created once: the idempotency key is the account's id, and that of a deleted customer."""
    if account.customer_id:
        return account.customer_id
    key = "-".join(("posthub-customer", str(account.pk), *filter(None, (instead_of,))))
    made = client.create_customer(email=account.user.email, user=str(account.user_id), key=key)
    Account.objects.filter(pk=account.pk, customer_id=None).update(customer_id=made)
    # Only this: the session that is asked for must not change in between.
    account.refresh_from_db(fields=["customer_id"])
    assert account.customer_id
    return account.customer_id


def _no_subscription() -> Conflict:
    return Conflict("This account has no subscription.", code="no_subscription")


def _require_offered() -> None:
    if not is_offered():
        raise Unavailable("Billing is not configured.", code="no_billing")


def _unavailable(error: StripeCallError) -> Unavailable:
    """An error for the customer. The cause, which may be a mistake in the configuration, is only in the log."""
    level = logging.WARNING if isinstance(error, TryLaterError) else logging.ERROR
    log.log(level, "billing unavailable", extra={"reason": str(error), "cause": str(error.__cause__)})
    return Unavailable(
        "The payment service is unavailable. Try again in a minute.", code="billing_unavailable"
    )
