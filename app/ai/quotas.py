"""How much AI work an account may request in a day, by its plan, so that no account can run up a bill.

A day is one of UTC. Jobs count from their creation; those that failed, or were cancelled before they started, do not.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from rest_framework.exceptions import APIException

from accounts.models import User
from ai.models import AIJob
from monitoring.metrics import QUOTA_REFUSALS

Kind, Status = AIJob.Kind, AIJob.Status
# What customers request themselves. Embeddings follow from publishing.
KINDS = (Kind.CAPTION, Kind.IMAGE)


class QuotaExceeded(APIException):
    status_code = 429
    default_code = "quota_exceeded"

    def __init__(self, quota: "Quota", wait: float) -> None:
        super().__init__(f"The plan allows {quota.limit} {quota.kind} jobs a day.")
        # Seconds; sent as Retry-After.
        self.wait = max(1, round(wait))


@dataclass(frozen=True)
class Quota:
    """The number of jobs of a kind that an account may request today, and has requested."""

    kind: str
    limit: int
    used: int


def of(owner: User, kind: str, now: datetime | None = None) -> Quota:
    """An account's quota of a kind, today."""
    start = _midnight(now or timezone.now())
    jobs = AIJob.objects.filter(owner=owner, kind=kind, created_at__gte=start).exclude(
        Q(status=Status.FAILED) | Q(status=Status.CANCELLED, started_at__isnull=True)
    )
    return Quota(kind, settings.AI_DAILY_QUOTAS[owner.plan][kind], jobs.count())


def require(owner: User, kind: str) -> None:
    """Check the quota before a job is created, in the transaction that creates it.

    Raises:
        QuotaExceeded: nothing is left for today.
    """
    # Requests of one account take turns, so that two of them cannot both use the last one.
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)
    now = timezone.now()
    quota = of(owner, kind, now)
    if quota.used >= quota.limit:
        QUOTA_REFUSALS.labels(kind).inc()
        raise QuotaExceeded(quota, (_midnight(now) + timedelta(days=1) - now).total_seconds())


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
