"""The nightly comparison with Stripe: each difference is named, and repaired where Stripe's state decides it."""

import logging
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta

from django.db.models import Q
from django.utils import timezone

from accounts.models import User
from billing import client
from billing.client import SubscriptionState
from billing.errors import RefusedError
from billing.models import Account, Event, Reconciliation, Subscription
from billing.plans import UNFINISHED
from billing.synchronization import plan_of, synchronize, terms

log = logging.getLogger(__name__)

# Kinds of differences.
UNKNOWN_CUSTOMER = "unknown_customer"
SUBSCRIPTION = "subscription"
PLAN = "plan"
DOUBLE = "double_subscription"
KINDS = (UNKNOWN_CUSTOMER, SUBSCRIPTION, PLAN, DOUBLE)
COMPARED = ("status", "prices", "current_period_end", "cancel_at_period_end")
KEEP = timedelta(days=90)


@dataclass(frozen=True)
class Difference:
    """`text` names the object, both states and the user, for the person who reads it."""

    kind: str
    text: str
    repaired: bool = False


def run(*, repair: bool) -> Reconciliation:
    """Compare, repair if wanted, and record the outcome.

    Raises:
        StripeCallError: Stripe did not answer; nothing is recorded.
    """
    start = timezone.now()
    theirs = client.all_subscriptions()
    by_customer = _grouped(theirs)
    accounts = list(Account.objects.select_related("user").prefetch_related("subscriptions"))
    differences = list(_unknown(by_customer, {account.customer_id or "" for account in accounts}))
    for account in _to_check(accounts, by_customer):
        differences += _check(account, repair=repair)
    differences += _plans_without_account()
    for difference in differences:
        log.warning(
            "billing difference: %s",
            difference.text,
            extra={"kind": difference.kind, "repaired": difference.repaired},
        )
    Reconciliation.objects.filter(finished_at__lt=start - KEEP).delete()
    return Reconciliation.objects.create(
        started_at=start,
        subscriptions=len(theirs),
        differences=[asdict(difference) for difference in differences],
    )


def _grouped(found: Iterable[SubscriptionState]) -> dict[str, list[SubscriptionState]]:
    groups: dict[str, list[SubscriptionState]] = defaultdict(list)
    for difference in found:
        groups[difference.customer_id].append(difference)
    return dict(groups)


def _unknown(
    groups: Mapping[str, Sequence[SubscriptionState]], known: Container[str]
) -> Iterator[Difference]:
    """Subscriptions to the plan pro whose customer has no account here, for example after a restore to an earlier time."""
    ours = terms()
    for customer, states in groups.items():
        for state in states:
            if customer not in known and not ours.prices.isdisjoint(state.prices):
                text = f"{state.id} of customer {customer} is {state.status} in Stripe, and no account has this customer"
                yield Difference(UNKNOWN_CUSTOMER, text)


def _to_check(
    accounts: Iterable[Account], groups: Mapping[str, Sequence[SubscriptionState]]
) -> list[Account]:
    """The accounts that seem to differ. Most do not, so only these need another request."""
    return [
        account for account in accounts if _differences(account, groups.get(account.customer_id or "", ()))
    ]


def _check(account: Account, *, repair: bool) -> list[Difference]:
    """The differences of one account, from a new reading: its state may have changed since the list was made."""
    account = Account.objects.select_related("user").get(pk=account.pk)
    try:
        theirs = client.subscriptions(account.customer_id) if account.customer_id else []
    except RefusedError as error:
        # Nothing is changed here: a key of another Stripe account must not end all subscriptions.
        return [Difference(SUBSCRIPTION, f"customer {account.customer_id} of {_name(account)}: {error}")]
    found = _differences(account, theirs)
    if not found or _in_progress(account):
        return []
    if not repair:
        return found
    synchronize(account)
    left = {difference.text for difference in _differences(Account.objects.get(pk=account.pk), theirs)}
    return [
        Difference(difference.kind, difference.text, repaired=difference.text not in left)
        for difference in found
    ]


def _in_progress(account: Account) -> bool:
    """Whether an event waits or a reading was just stored: the difference is then only a matter of time."""
    waiting = Event.objects.filter(customer_id=account.customer_id or "", status=Event.Status.PENDING)
    recent = Q(received_at__gte=timezone.now() - timedelta(minutes=10))
    before = account.revision
    account.refresh_from_db()
    return account.revision != before or (bool(account.customer_id) and waiting.filter(recent).exists())


def _differences(account: Account, theirs: Sequence[SubscriptionState]) -> list[Difference]:
    ours = {subscription.pk: subscription for subscription in account.subscriptions.all()}
    found = [
        Difference(SUBSCRIPTION, f"{state.id} of {_name(account)}: {text}")
        for state in theirs
        if (text := _difference(ours.get(state.id), state))
    ]
    listed = {state.id for state in theirs}
    found += [
        Difference(
            SUBSCRIPTION,
            f"{subscription.pk} of {_name(account)}: {subscription.status} here, not listed by Stripe",
        )
        for subscription in ours.values()
        if subscription.status in UNFINISHED and subscription.pk not in listed
    ]
    return found + _double(account, theirs) + _plan(account)


def _difference(here: Subscription | None, there: SubscriptionState) -> str:
    if here is None:
        return f"missing here, {there.status} in Stripe"
    values = [(name, getattr(here, name), getattr(there, name)) for name in COMPARED]
    return ", ".join(
        f"{name} {_shown(ours)} here, {_shown(theirs)} in Stripe"
        for name, ours, theirs in values
        if _shown(ours) != _shown(theirs)
    )


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _double(account: Account, theirs: Sequence[SubscriptionState]) -> list[Difference]:
    """Two subscriptions to the same plan: the customer pays twice."""
    ours = terms()
    paid = [
        subscription.id
        for subscription in theirs
        if subscription.status in UNFINISHED and not ours.prices.isdisjoint(subscription.prices)
    ]
    if len(paid) < 2:
        return []
    return [Difference(DOUBLE, f"{_name(account)} has {len(paid)} subscriptions: {', '.join(sorted(paid))}")]


def _plan(account: Account) -> list[Difference]:
    right = plan_of(account)
    if account.user.plan == right:
        return []
    text = f"{_name(account)} has the plan {account.user.plan}, its subscriptions give {right}"
    return [Difference(PLAN, text)]


def _plans_without_account() -> list[Difference]:
    """Users with the plan pro that nothing gives them."""
    without = User.objects.filter(plan=User.Plan.PRO, billing_account=None)
    return [
        Difference(PLAN, f"user {user.pk} has the plan {user.plan} without a billing account")
        for user in without
    ]


def _name(account: Account) -> str:
    return f"user {account.user_id}"
