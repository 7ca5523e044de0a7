"""How much AI work an account may request in a day, by its plan, so that no account can run up a bill.

A day is one of UTC. Captions and images count as jobs, videos by their seconds, all from their creation. Jobs that failed,
or were cancelled before they started, do not count.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Q, Sum
from django.utils import timezone
from rest_framework.exceptions import APIException

from accounts.models import User
from ai.models import AIJob
from monitoring.metrics import QUOTA_REFUSALS

Kind, Status = AIJob.Kind, AIJob.Status
# What customers request themselves. Embeddings follow from publishing.
KINDS = (Kind.CAPTION, Kind.IMAGE, Kind.VIDEO)


class QuotaExceeded(APIException):
    status_code = 429
    default_code = "quota_exceeded"

    def __init__(self, quota: "Quota", wait: float) -> None:
        unit = "seconds of video" if quota.unit == "seconds" else f"{quota.kind} jobs"
        super().__init__(f"The plan allows {quota.limit} {unit} a day, and {quota.used} are used.")
        # Seconds; sent as Retry-After.
        self.wait = max(1, round(wait))


@dataclass(frozen=True)
class Quota:
    """How much of a kind an account may request today, and has requested: `jobs`, or `seconds` of video."""

    kind: str
    limit: int
    used: int

    @property
    def unit(self) -> str:
        return "seconds" if self.kind == Kind.VIDEO else "jobs"


def of(owner: User, kind: str, now: datetime | None = None) -> Quota:
    """An account's quota of a kind, today."""
    start = _midnight(now or timezone.now())
    jobs = AIJob.objects.filter(owner=owner, kind=kind, created_at__gte=start).exclude(
        Q(status=Status.FAILED) | Q(status=Status.CANCELLED, started_at__isnull=True)
    )
    used = jobs.aggregate(total=Sum("seconds"))["total"] or 0 if kind == Kind.VIDEO else jobs.count()
    return Quota(kind, settings.AI_DAILY_QUOTAS[owner.plan][kind], used)


def require(owner: User, kind: str, amount: int = 1) -> None:
    """Check the quota before a job is created, in the transaction that creates it.

    Raises:
        QuotaExceeded: less than `amount` is left for today.
    """
    # Requests of one account take turns, so that two of them cannot both use the last one.
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)
    now = timezone.now()
    quota = of(owner, kind, now)
    if quota.used + amount > quota.limit:
        QUOTA_REFUSALS.labels(kind).inc()
        raise QuotaExceeded(quota, (_midnight(now) + timedelta(days=1) - now).total_seconds())


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
