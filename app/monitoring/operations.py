"""Videos in flight at providers: how many, and since when."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ai.models import AIJob, Operation
from monitoring.remembered import Remembered

Status = AIJob.Status


@dataclass(frozen=True)
class InFlight:
    """The number of operations that have not ended, and when the oldest one was begun."""

    count: int
    oldest: datetime | None


def in_flight() -> InFlight:
    operations = Operation.objects.filter(job__status__in=(Status.QUEUED, Status.RUNNING, Status.WAITING))
    found = operations.aggregate(count=Count("pk"), oldest=Min("intended_at"))
    return InFlight(found["count"], found["oldest"])


class OperationsCollector(Collector):
    """Reads the database at most once in `every` seconds. The age also grows between two looks."""

    def __init__(self, every: float = 15.0, retry: float = 3.0) -> None:
        self._current = Remembered(in_flight, every, retry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        count = GaugeMetricFamily("posthub_video_operations", "Operations of video providers in flight")
        age = GaugeMetricFamily(
            "posthub_video_operation_oldest_age_seconds",
            "Age of the oldest operation in flight; 0 without one",
        )
        found = self._current.value()
        if found is not None:
            oldest = found.oldest or timezone.now()
            count.add_metric([], found.count)
            age.add_metric([], max(0.0, (timezone.now() - oldest).total_seconds()))
        yield count
        yield age
