"""Which plan a user has. Pure: the state of the subscriptions decides, and nothing else."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

PAID_FOR = ("active", "trialing")
PAST_DUE = "past_due"
# These can still be paid or resumed in the portal, so the customer must not subscribe a second time.
UNFINISHED = (*PAID_FOR, PAST_DUE, "unpaid", "paused")


class State(Protocol):
    """What the plan depends on."""

    @property
    def status(self) -> str: ...
    @property
    def prices(self) -> Collection[str]: ...
    @property
    def past_due_since(self) -> datetime | None: ...


@dataclass(frozen=True)
class Terms:
    """The prices of the plan pro, and the time for which it continues without a payment."""

    prices: frozenset[str]
    grace: timedelta

    def sells(self, subscription: State) -> bool:
        return not self.prices.isdisjoint(subscription.prices)

    def grace_end(self, subscription: State) -> datetime | None:
        """When a subscription with a failed payment stops counting."""
        if subscription.status != PAST_DUE or subscription.past_due_since is None:
            return None
        return subscription.past_due_since + self.grace

    def entitles(self, subscription: State, now: datetime) -> bool:
        """Whether a subscription makes its owner a pro now. A status that is not known does not."""
        if not self.sells(subscription):
            return False
        end = self.grace_end(subscription)
        return subscription.status in PAID_FOR or (end is not None and now < end)


def is_pro(subscriptions: Iterable[State], terms: Terms, now: datetime, *, complimentary: bool) -> bool:
    return complimentary or any(terms.entitles(subscription, now) for subscription in subscriptions)
