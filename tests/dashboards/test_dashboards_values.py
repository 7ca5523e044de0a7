"""What panels show for given series, as evaluated by Prometheus itself (promtool's unit tests)."""

import math
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from dashboards.lint.rules import panels
from dashboards.live_check import committed
from dashboards.resolve import Scope, resolve
from stack.programs import find

Shows = Callable[..., None]
SCOPE = 'job="any", instance="one"'
MINUTES = 10
# Values are rounded to this; a power of two, so that the rounding itself is exact.
STEP = 2.0**-20


@pytest.fixture
def shows(tmp_path: Path) -> Shows:
    """Assert that a panel's query returns `expected` (labels to value) ten minutes after `series` began."""

    def shows(
        uid: str, title: str, series: dict[str, str], expected: dict[str, float], query: int = 0
    ) -> None:
        dashboard = next(one for one in committed() if one["uid"] == f"posthub-{uid}")
        panel = next(one for one in panels(dashboard) if one["title"] == title)
        expr = resolve(panel["targets"][query]["expr"], dashboard, Scope(0, MINUTES * 60, 15))
        samples = [{"labels": labels, "value": _rounded(value)} for labels, value in expected.items()]
        # Versions of Prometheus add up in different orders.
        asked = {"expr": f"round({expr}, {STEP!r})", "eval_time": f"{MINUTES}m", "exp_samples": samples}
        given = [{"series": _scoped(name), "values": values} for name, values in series.items()]
        file = tmp_path / "values.yml"
        file.write_text(
            yaml.safe_dump(
                {"tests": [{"interval": "15s", "input_series": given, "promql_expr_test": [asked]}]}
            )
        )
        done = subprocess.run([find("promtool"), "test", "rules", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return shows


def _rounded(value: float) -> float:
    return math.floor(value / STEP + 0.5) * STEP if math.isfinite(value) else value


def _scoped(series: str) -> str:
    name, _, labels = series.rstrip("}").partition("{")
    return f"{name}{{{', '.join(part for part in (SCOPE, labels) if part)}}}"


def test_a_stalled_queue_never_drains(shows: Shows) -> None:
    tasks = 'celery_tasks_total{task="t", state="succeeded", queue='
    shows(
        "celery",
        "Time to drain",
        {
            **{
                f'celery_queue_length{{queue_name="{name}"}}': "60x40"
                for name in ("flows", "stands", "unseen")
            },
            'celery_queue_length{queue_name="idle"}': "0x40",
            f'{tasks}"flows"}}': "0+15x40",
            f'{tasks}"stands"}}': "7x40",
            f'{tasks}"idle"}}': "7x40",
        },
        {
            '{queue_name="flows"}': 60,
            '{queue_name="stands"}': 1e9,
            '{queue_name="unseen"}': 1e9,
            '{queue_name="idle"}': 0,
        },
    )


def test_waits_are_shown_per_queue(shows: Shows) -> None:
    bucket = 'celery_task_queue_wait_seconds_bucket{task="t", queue='
    shows(
        "celery",
        "Wait before start",
        {
            f'{bucket}"quick", le="1"}}': "0+100x40",
            f'{bucket}"quick", le="+Inf"}}': "0+100x40",
            f'{bucket}"slow", le="1"}}': "0x40",
            f'{bucket}"slow", le="100"}}': "0+100x40",
            f'{bucket}"slow", le="+Inf"}}': "0+100x40",
        },
        {'{queue_name="quick"}': 0.95, '{queue_name="slow"}': 95.05},
    )


def test_states_are_shown_per_task(shows: Shows) -> None:
    shows(
        "celery",
        "Tasks",
        {
            'celery_tasks_total{queue="a", state="sent", task="often"}': "0+30x40",
            'celery_tasks_total{queue="b", state="sent", task="seldom"}': "0+15x40",
            'celery_tasks_total{queue="b", state="failed", task="seldom"}': "0+15x40",
        },
        {'{task="often"}': 2, '{task="seldom"}': 1},
    )


@pytest.mark.parametrize("uid", ["api", "overview"])
def test_probes_do_not_dilute_the_errors_of_callers(shows: Shows, uid: str) -> None:
    count = "django_http_responses_total_by_status_view_method_total{method="
    shows(
        uid,
        "Server errors",
        {
            f'{count}"GET", status="200", view="system-health"}}': "0+90x40",
            f'{count}"GET", status="200", view="prometheus-django-metrics"}}': "0+90x40",
            f'{count}"GET", status="200", view="posts"}}': "0+15x40",
            f'{count}"GET", status="500", view="posts"}}': "0+15x40",
        },
        {"{}": 0.5},
    )


@pytest.mark.parametrize("uid", ["api", "overview"])
def test_probes_do_not_hide_slow_answers(shows: Shows, uid: str) -> None:
    bucket = "django_http_requests_latency_seconds_by_view_method_bucket{method="
    fast, slow = "0+900x40", "0+15x40"
    shows(
        uid,
        "P95 response time",
        {
            **{f'{bucket}"GET", view="system-health", le="{le}"}}': fast for le in ("0.1", "10", "+Inf")},
            **{f'{bucket}"POST", view="posts", le="{le}"}}': slow for le in ("10", "+Inf")},
        },
        {"{}": 9.5},
    )


def test_all_databases_are_all_of_ours(shows: Shows) -> None:
    size = "pg_database_size_bytes{datname="
    named = {f'{size}"{name}"}}': "7x40" for name in ("posthub", "tracker")}
    theirs = {f'{size}"{name}"}}': "100x40" for name in ("postgres", "template0", "template1")}
    shows("postgres", "Database size", {**named, **theirs}, {"{}": 14})


def test_the_fullest_redis_is_measured_by_its_own_limit(shows: Shows) -> None:
    used, most = "redis_memory_used_bytes{db=", "redis_memory_max_bytes{db="
    shows(
        "redis",
        "Memory used",
        {
            f'{used}"a"}}': "50x40",
            f'{most}"a"}}': "100x40",
            f'{used}"b"}}': "1000x40",
            f'{most}"b"}}': "0x40",
        },
        {"{}": 0.5},
    )


@pytest.mark.parametrize("title", ["Targets", "Backup targets"])
@pytest.mark.parametrize(
    ("age", "promise", "restore", "kept"),
    [
        (3000, 3600, 60, 1),
        (7200, 3600, 60, 0),
        (90_000, 0, 60, 1),
        (100_000, 0, 60, 0),
        (3000, 3600, 2000, 0),
    ],
)
def test_targets_of_backups_are_those_of_the_alerts(
    shows: Shows, title: str, age: int, promise: int, restore: int, kept: int
) -> None:
    """Without a target the general threshold of 26 hours applies; the target of a restore is 1800 s."""
    series = {"age": age, "rpo_target": promise, "rto": restore, "rto_target": 1800}
    shows(
        "overview" if title == "Backup targets" else "backup",
        title,
        {f'backup_{what}_seconds{{database="a"}}': f"{value}x40" for what, value in series.items()},
        {"{}": kept},
    )


def test_a_dump_is_not_a_long_transaction(shows: Shows) -> None:
    age = 'pg_stat_activity_max_tx_duration{datname="posthub", state='
    shows(
        "postgres",
        "Longest transaction",
        {
            f'{age}"active", application_name="app"}}': "5x40",
            f'{age}"active", application_name="pg_dump"}}': "5000x40",
            f'{age}"idle in transaction", application_name="app"}}': "7000x40",
        },
        {"{}": 5},
    )


def test_many_short_queues_are_not_a_backlog(shows: Shows) -> None:
    series = {f'celery_queue_length{{queue_name="{name}"}}': "600x40" for name in "ab"}
    for uid in ("overview", "celery"):
        shows(uid, "Longest queue", series, {"{}": 600})


def test_tables_have_a_size_with_every_exporter(shows: Shows) -> None:
    """Before 0.18, postgres_exporter had one metric for table and indexes."""
    whole, table, index = (f"pg_stat_user_tables_{part}size_bytes" for part in ("", "table_", "index_"))
    shows(
        "postgres",
        "Largest tables",
        {
            f'{whole}{{datname="posthub", relname="a", schemaname="public"}}': "7x40",
            f'{table}{{datname="posthub", relname="b", schemaname="public"}}': "10x40",
            f'{index}{{datname="posthub", relname="b", schemaname="public"}}': "3x40",
            f'{table}{{datname="posthub", relname="b", schemaname="archive"}}': "20x40",
            f'{index}{{datname="posthub", relname="b", schemaname="archive"}}': "0x40",
        },
        {'{relname="a"}': 7, '{relname="b"}': 33},
    )
