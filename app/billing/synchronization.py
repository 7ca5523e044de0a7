"""Bringing an account to the state that Stripe has now.

Events arrive late, twice and in any order, and several carry the same second. So no event's content is used: each one
only causes a new reading of all subscriptions of its customer. The newest reading wins:

    note revision and pending events → ask Stripe (no transaction) → store, if the revision is still the same

Another task that stored a reading in between has changed the revision. Then this reading may be older, and is made again.
So a stored reading always began after the one that it replaces was stored, and the last one began after the last event.
The events that were pending before the question are included in the response, and are handled by the same transaction.
"""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from billing import client
from billing.client import SubscriptionState
from billing.errors import TryLaterError
from billing.models import Account, Event, Subscription
from billing.plans import PAST_DUE, Terms, is_pro
from monitoring.metrics import STRIPE_EVENT_LAG

log = logging.getLogger(__name__)

READINGS = 4


def terms() -> Terms:
    return Terms(frozenset(settings.STRIPE_PRICES), timedelta(days=settings.BILLING_GRACE_DAYS))


def synchronize(account: Account) -> None:
    """Read the account's subscriptions from Stripe, store them, and set the plan of its user.

    Raises:
        TryLaterError: Stripe did not answer, or other tasks kept changing the account.
        RefusedError: Stripe refuses the request; nothing was changed.
    """
    for _ in range(READINGS):
        revision = Account.objects.values_list("revision", flat=True).get(pk=account.pk)
        customer = account.customer_id or ""
        pending = _pending(customer)
        found = client.subscriptions(customer) if customer else []
        if _store(account, revision, found, pending):
            return
    raise TryLaterError("other tasks kept changing the account", "conflict")


def _pending(customer: str) -> list[str]:
    waiting = Event.objects.filter(customer_id=customer, status=Event.Status.PENDING)
    return list(waiting.values_list("pk", flat=True)) if customer else []


@transaction.atomic
def _store(
    account: Account, revision: int, found: Sequence[SubscriptionState], events: Collection[str]
) -> bool:
    """Store a reading. Returns whether it was still the newest."""
    current = Account.objects.select_for_update().get(pk=account.pk)
    if current.revision != revision:
        return False
    _replace(current, found)
    current.revision, current.synced_at = revision + 1, timezone.now()
    current.save(update_fields=["revision", "synced_at"])
    set_plan(current)
    _handled(events)
    return True


def _replace(account: Account, found: Sequence[SubscriptionState]) -> None:
    """Store the subscriptions that were found. Most of them have ended long ago and are unchanged, so they are not written."""
    before = {subscription.pk: subscription for subscription in account.subscriptions.all()}
    for state in found:
        old = before.pop(state.id, None)
        new = Subscription(
            id=state.id,
            account=account,
            status=state.status,
            prices=list(state.prices),
            created_at=state.created_at,
            current_period_end=state.current_period_end,
            cancel_at_period_end=state.cancel_at_period_end,
            past_due_since=past_due_since(state, old),
        )
        if old is None or _values(old) != _values(new):
            new.save()
    # Stripe lists a subscription forever. Test data disappears, and perhaps that of a deleted customer.
    account.subscriptions.filter(pk__in=before).delete()


def _values(subscription: Subscription) -> dict[str, object]:
    return {
        field.attname: getattr(subscription, field.attname) for field in Subscription._meta.concrete_fields
    }


def past_due_since(state: SubscriptionState, old: Subscription | None) -> datetime | None:
    """The start of the grace period. A later unpaid invoice does not start another one."""
    if state.status != PAST_DUE:
        return None
    known = old.past_due_since if old else None
    since = state.unpaid_since or known or timezone.now()
    return min(since, known) if known else since


def set_plan(account: Account) -> bool:
    """Set the plan that the account's subscriptions give. Call it in the transaction that changes or locks the account.

    Returns whether it changed.
    """
    plan = plan_of(account)
    changed = User.objects.filter(pk=account.user_id).exclude(plan=plan).update(plan=plan)
    if changed:
        log.info("plan changed", extra={"account": str(account.pk), "plan": str(plan)})
    return bool(changed)


def plan_of(account: Account) -> User.Plan:
    """The plan that an account should have now."""
    states = list(account.subscriptions.all())
    pro = is_pro(states, terms(), timezone.now(), complimentary=account.complimentary)
    return User.Plan.PRO if pro else User.Plan.FREE


def _handled(events: Collection[str]) -> None:
    """Record each event as handled once, and observe its lag when that is certain."""
    now = timezone.now()
    waiting = Event.objects.filter(pk__in=events, status=Event.Status.PENDING)
    locked = waiting.select_for_update().order_by("pk")
    lags = [(now - created).total_seconds() for created in locked.values_list("created_at", flat=True)]
    waiting.update(status=Event.Status.HANDLED, handled_at=now, error="")
    transaction.on_commit(partial(_observe, lags))


def _observe(lags: Collection[float]) -> None:
    for lag in lags:
        STRIPE_EVENT_LAG.observe(max(0.0, lag))


def end_grace_periods() -> int:
    """Set the plan of accounts whose grace period has ended. Returns the number of changed plans."""
    oldest = timezone.now() - terms().grace
    overdue = Account.objects.filter(
        subscriptions__past_due_since__lte=oldest, user__plan=User.Plan.PRO
    ).distinct()
    return sum(_end_grace(account.pk) for account in overdue)


@transaction.atomic
def _end_grace(pk: UUID) -> bool:
    return set_plan(Account.objects.select_for_update().get(pk=pk))
