"""The parts that a project may use, and the jobs, rules and dashboards for them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from sidecar.promql import selectors

# Always present: Prometheus monitors itself and Alertmanager.
BASE = ("prometheus", "alertmanager")
# Job → its rule file and its dashboard.
RULES = {
    "django": "api", "celery": "celery", "backup": "backup", "redis": "redis", "postgres": "postgres", "node": "host",
    "cadvisor": "container", "caddy": "edge", "blackbox": "edge",
}  # fmt: skip
BOARDS = {
    "django": "api", "celery": "celery", "backup": "backup", "redis": "redis", "postgres": "postgres", "node": "host",
}  # fmt: skip
# Prefix of a metric's name → its job. The longest match counts.
ORIGINS = {
    "django_": "django", "api:": "django", "celery_": "celery", "celery:": "celery", "backup_": "backup",
    "backup:": "backup", "redis_": "redis", "redis:": "redis", "pg_": "postgres", "postgres:": "postgres",
    "node_": "node", "host:": "node", "container_": "cadvisor", "container:": "cadvisor", "caddy_": "caddy",
    "edge:": "caddy", "probe_": "blackbox", "alerts_": "watch", "slo:api": "django", "wal:": "backup", "machine_": "cadvisor",
    "posthub_": "none", "ai:": "none",
    "logs_": "none",
}  # fmt: skip
BEAT = "celery_beat_"


@dataclass(frozen=True)
class Used:
    """The parts that a project uses.

    Attributes:
        jobs: address by job.
        beat: whether celery beat sends scheduled tasks.
    """

    jobs: Mapping[str, str]
    beat: bool = True

    def has(self, expr: str) -> bool:
        """Whether a query can have data: at least one of its metrics comes from a part that is used."""
        metrics = [
            each.metric
            for each in selectors(expr)
            if each.metric and not each.metric.startswith("threshold:")
        ]
        if not self.beat and any(metric.startswith(BEAT) for metric in metrics):
            return False
        return not metrics or any(self._has_metric(metric) for metric in metrics)

    def _has_metric(self, metric: str) -> bool:
        job = origin(metric)
        return job is None or job in self.jobs or job in BASE

    @property
    def rule_files(self) -> set[str]:
        return {"thresholds", "monitoring", *(name for job, name in RULES.items() if job in self.jobs)}

    @property
    def boards(self) -> set[str]:
        return {"overview", "monitoring", *(name for job, name in BOARDS.items() if job in self.jobs)}


@cache
def origin(metric: str) -> str | None:
    """The job of a metric; None for one of any job, such as ``up``."""
    fitting = [prefix for prefix in ORIGINS if metric.startswith(prefix)]
    return ORIGINS[max(fitting, key=len)] if fitting else None


def absent_jobs(jobs: Iterable[str]) -> str:
    """The part of JobMissing that names the jobs that must have a target."""
    return " or ".join(f'absent(up{{job="{job}"}})' for job in jobs)
