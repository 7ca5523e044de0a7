"""Made-up samples of every metric that the dashboards read, so that each query has one right value.

The metrics and labels are those of the captured pages. Every series has a different value, every label has several values, and there are other environments, jobs and
instances than the selected ones: a query that adds up, selects or groups differently has a different result.
"""

import math
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from zlib import crc32

from dashboards.lint.rules import queries
from dashboards.live_check import committed
from dashboards.resolve import Scope
from sidecar.promql import selectors
from tests.alerts.fixtures import exposed
from tests.alerts.scenarios import is_counter

Labels = dict[str, str]

# Two situations, so far apart that no window contains both: with failures, and without any.
IDLE = 1_700_000_000
BUSY = IDLE + 40 * 86_400
WORLDS = {"busy": BUSY, "idle": IDLE}
STEP = 15
SAMPLES = 6
# Not on a sample: versions of Prometheus differ in whether a window has its left edge.
LAST = STEP * (SAMPLES - 1) + 7

# The selected values: others of these labels must not count.
CHOSEN = {
    "environment": "production",
    "job": "any|more",
    "instance": "one|two",
    "queue": "ai_jobs|quick",
    "task": "posts.tasks.publish_now|ai.tasks.run_job",
    "host": "worker@a|worker@b",
    "database": "posthub|tracker|postgres",
}
SCOPES = (
    {"environment": "production", "job": "any", "instance": "one", "pod": "pod-one"},
    {"environment": "production", "job": "any", "instance": "two", "pod": "pod-two"},
)
# Series that must not count have values far above and far below the others.
ELSEWHERE = (
    {"environment": "staging", "job": "any", "instance": "one"},
    {"environment": "production", "job": "else", "instance": "one"},
    {"environment": "production", "job": "any", "instance": "three"},
)
FAR = {"high": 1000.0, "low": 0.001}
# Another of our jobs, for the metrics that every job has.
MORE = {"environment": "production", "job": "more", "instance": "one", "pod": "pod-one"}
OF_EVERY_JOB = re.compile("process_.*|scrape_.*|up")
# Exporters may watch different brokers; the scrape says which.
OF_BROKERS = re.compile("celery_(queue|exporter|beat)_.*")
# Prometheus makes these itself or by rules: they have no scope.
WITHOUT_SCOPE = re.compile("ALERTS|slo:.*")

# Values of labels, by metric. Labels that are not listed have two of the captured values.
VALUES: tuple[tuple[str, dict[str, tuple[str, ...]]], ...] = (
    ("celery_.*", {
        "queue": ("ai_jobs", "quick", "default"),
        "queue_name": ("ai_jobs", "quick", "default"),
        "task": ("posts.tasks.publish_now", "ai.tasks.run_job", "else"),
        "state": ("sent", "received", "started", "succeeded", "failed", "retried"),
        "hostname": ("worker@a", "worker@b", "worker@c"),
        "exception": ("ValueError", "OperationalError"),
        "broker": ("a", "b"),
    }),
    ("backup_.*", {"database": ("posthub", "tracker", "redis"), "store": ("main", "offsite"), "job": ()}),
    ("django_.*", {
        "view": ("posts-list", "ai-caption", "health", "prometheus-django-metrics"),
        "status": ("200", "404", "500", "503"),
        "type": ("ValueError", "OperationalError"),
        "alias": ("default", "replica"),
    }),
    ("pg_stat_activity_.*", {
        "application_name": ("", "pg_dump"),
        "backend_type": ("client backend",),
        "state": ("active", "idle"),
        "usename": ("posthub",),
        "wait_event": ("ClientRead",),
        "wait_event_type": ("", "Lock"),
    }),
    ("pg_.*", {"datname": ("posthub", "tracker", "analytics", "postgres", "template1"), "datid": ("1",), "server": ("a",)}),
    ("node_cpu_.*", {"mode": ("idle", "user", "iowait")}),
    ("node_disk_.*", {"device": ("vda", "vdb")}),
    ("node_network_.*", {"device": ("eth0", "eth1", "lo", "veth1", "docker0", "br-1")}),
    ("node_filesystem_.*", {"fstype": ("ext4", "xfs", "tmpfs"), "mountpoint": ("/", "/data"), "device_error": ()}),
    ("container_.*", {
        "name": ("", "posthub_redis", "posthub_api_prod"),
        "id": (), "image": (),
        "container_label_com_docker_compose_project": (),
        "container_label_com_docker_compose_service": (),
    }),
)  # fmt: skip

# Series of metrics that are not captured with labels.
OWN = {
    "ALERTS": [
        {"alertname": "Watchdog", "alertstate": "firing", "severity": "none", "component": "monitoring"},
        *(
            {"alertname": name, "alertstate": state, "severity": severity, "component": component}
            for name, state, severity, component in (
                ("RedisDown", "firing", "critical", "redis"),
                ("HostDown", "pending", "critical", "host"),
                ("PostgresDown", "pending", "critical", "postgres"),
                ("RedisMemoryHigh", "firing", "warning", "redis"),
                ("HighMemoryUsage", "firing", "warning", "host"),
                ("EdgeProbeSlow", "pending", "warning", "edge"),
            )
        ),
        {"alertname": "HighMemoryUsage", "alertstate": "firing", "severity": "warning", "component": "host", "host": "b"},
        {"alertname": "HighMemoryUsage", "alertstate": "firing", "severity": "warning", "component": "host", "host": "c"},
    ],
    "backup_schedule_last_run_timestamp_seconds": [{"exported_job": "backup"}, {"job_name": "verify"}],
    "backup_schedule_next_run_timestamp_seconds": [{"exported_job": "backup"}, {"job_name": "verify"}],
}  # fmt: skip

# Values that a query compares with something.
FIXED: tuple[tuple[str, Labels, float], ...] = (
    ("ALERTS", {}, 1),
    ("up", {"instance": "two"}, 0),
    ("up", {"job": "else"}, 0),
    ("up", {"environment": "staging"}, 0),
    ("up", {"instance": "three"}, 0),
    ("up", {}, 1),
    ("celery_beat_schedule_enabled", {"schedule": "publish-due", "instance": "one"}, 1),
    ("celery_beat_schedule_enabled", {}, 0),
    ("backup_age_seconds", {"database": "tracker", "instance": "one"}, 3_000),
    ("backup_age_seconds", {"database": "tracker"}, 2_500),
    ("backup_age_seconds", {"instance": "two"}, 3_500),
    ("backup_age_seconds", {"database": "posthub"}, 3_400),
    ("backup_age_seconds", {}, 100_000),
    ("backup_rpo_target_seconds", {"database": "tracker"}, 0),
    ("backup_rpo_target_seconds", {}, 3_600),
    ("backup_rto_seconds", {"database": "redis"}, 5_000),
    ("backup_rto_target_seconds", {}, 1_800),
    ("redis_memory_max_bytes", {"environment": "production", "job": "any", "instance": "one"}, 0),
    ("container_spec_memory_limit_bytes", {"name": "posthub_redis"}, 0),
    ("node_filesystem_size_bytes", {"mountpoint": "/data"}, 0),
    ("redis_db_keys", {"db": "db1"}, 0),
)

# In the idle situation these do not exist: nothing has failed.
FAILURES: tuple[Labels, ...] = (
    {"status": "500"}, {"status": "503"}, {"state": "failed"}, {"alertname": "RedisDown"},
    {"alertname": "RedisMemoryHigh"}, {"alertname": "HighMemoryUsage"}, {"wait_event_type": "Lock"}, {"state": "active"},
)  # fmt: skip
OF_FAILURES = re.compile(
    "celery_task_failures_total|django_http_exceptions_.*|django_db_errors_total|posthub_ai_requests_total|"
    "backup_rto_target_seconds|backup_rpo_target_seconds|celery_exporter_events_(lost|dropped|undecodable)_total"
)
_TIMES = re.compile(r".*(_timestamp_seconds|_expiry|_start_time_seconds|_last_autovacuum)")


@cache
def metrics() -> tuple[str, ...]:
    """Every metric that a dashboard reads."""
    found = (
        one.metric
        for dashboard in committed()
        for _, _, expr in queries(dashboard)
        for one in selectors(expr)
    )
    return tuple(sorted(set(found)))


def scope(world: str) -> Scope:
    """What a query is resolved with: a moment of this situation, and only the selected labels."""
    end = WORLDS[world] + LAST
    return Scope(end - 3600, end, STEP, tuple(CHOSEN.items()))


def openmetrics() -> Iterator[str]:
    """The samples of both situations, as `promtool tsdb create-blocks-from openmetrics` reads them."""
    for metric in metrics():
        for labels in series(metric):
            text = ",".join(f'{name}="{value}"' for name, value in labels.items())
            for world, start in WORLDS.items():
                if world == "busy" or not _fails(metric, labels):
                    for at in range(SAMPLES):
                        yield f"{metric}{{{text}}} {value(metric, labels, start, at)!r} {start + STEP * at}\n"
    yield "# EOF\n"


def series(metric: str) -> list[Labels]:
    """The label sets of a metric."""
    own = OWN.get(metric) or [dict(zip(names, one, strict=True)) for names, one in _combined(metric)]
    if WITHOUT_SCOPE.fullmatch(metric):
        return own
    elsewhere = tuple({**where, "pod": pod} for where in ELSEWHERE for pod in FAR)
    scopes = (*SCOPES, *elsewhere, *([MORE] if OF_EVERY_JOB.fullmatch(metric) else []))
    return [{**labels, **where} for labels in own for where in scopes]


def _combined(metric: str) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    captured = exposed().get(metric, [])
    names = sorted({name for labels in captured for name in labels})
    if OF_BROKERS.fullmatch(metric):
        names.append("broker")
    chosen = {
        name: _values(metric, name, sorted({one[name] for one in captured if name in one})) for name in names
    }
    kept = [name for name in names if chosen[name]]
    for one in product(*(chosen[name] for name in kept)):
        yield kept, one


def _values(metric: str, label: str, captured: list[str]) -> tuple[str, ...]:
    for pattern, values in VALUES:
        if re.fullmatch(pattern, metric) and label in values:
            return values[label]
    if label == "le":
        return _bounds(captured)
    if label == "quantile":
        return tuple(captured)
    return tuple(captured[:2])


def _bounds(captured: list[str]) -> tuple[str, ...]:
    finite = sorted((one for one in captured if one != "+Inf"), key=float)
    half = [one for one in finite if float(one) == 0.5]
    chosen = {finite[0], *half, finite[len(finite) * 2 // 3], finite[-1]}
    return (*sorted(chosen, key=float), "+Inf")


def _fails(metric: str, labels: Labels) -> bool:
    return bool(OF_FAILURES.fullmatch(metric)) or any(one.items() <= labels.items() for one in FAILURES)


def value(metric: str, labels: Labels, start: int, at: int) -> float:
    """The sample of a series; buckets contain everything that is in the smaller ones."""
    for name, wanted, fixed in FIXED:
        if name == metric and wanted.items() <= labels.items():
            return fixed
    far = FAR.get(labels.get("pod", ""), 1.0)
    if "le" in labels:
        # No duration is longer than the largest finite bound.
        bounds = [le for le in _bounds(sorted({one["le"] for one in exposed()[metric]})) if le != "+Inf"]
        smaller = bounds[: bounds.index(labels["le"]) + 1] if labels["le"] in bounds else bounds
        return sum(_pace(metric, {**labels, "le": le}, start) for le in smaller) * (at + 1) * far
    pace = _pace(metric, labels, start) * far
    if _TIMES.fullmatch(metric):
        return start - 60 * pace
    return pace * (at + 1) if is_counter(metric) else pace + at / 4


def _pace(metric: str, labels: Labels, start: int) -> int:
    """A different number from 10 to 999 for every series."""
    text = f"{metric}{sorted(labels.items())}{start}"
    return 10 + crc32(text.encode()) % 990


def rounded(number: float) -> float | str:
    """A value as it is stored: six digits are enough to distinguish two."""
    return float(f"{number:.6g}") if math.isfinite(number) else str(number)
