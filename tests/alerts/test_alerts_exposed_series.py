"""The unit tests of the rules use only series that the real programs expose: metrics, labels and bucket bounds."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from alerts.paths import ROOT, TESTS
from alerts.rules import records, thresholds
from exporters.tables.histogram import RUNTIME_BUCKETS
from sidecar.rulefile import document
from tests.alerts.fixtures import FOLDER, FROM_SCRAPE, LABEL, exposed

# Bounds of histograms that the exporter sets itself: the captured page may be older.
BOUNDS = {"celery_task_runtime_seconds_bucket": {*(f"{bound!r}" for bound in RUNTIME_BUCKETS), "+Inf"}}
# Labels that a program adds only in a situation that was not captured.
NOT_CAPTURED = {
    "alertmanager_notifications_total": {"receiver_name"},
    "alertmanager_notifications_failed_total": {"receiver_name"},
    "celery_task_runtime_seconds": {"task", "queue"},
}
# Labels whose values are chosen elsewhere: by those who run the programs, by the app, or by the programs that are measured.
NAMES = {
    *(
        "database",
        "server",
        "usename",
        "application_name",
        "relname",
        "slot_name",
        "wait_event_type",
        "maxmemory_policy",
    ),
    *("task", "queue", "hostname", "view", "type", "logger", "service", "name", "id", "upstream", "code"),
    *(
        "mountpoint",
        "fstype",
        "config",
        "rule_group",
        "alertmanager",
        "integration",
        "receiver",
        "receiver_name",
        "err",
    ),
    *FROM_SCRAPE,
    "exported_job",
}


@cache
def series(path: Path) -> tuple[str, ...]:
    tests = document(path)["tests"]
    return tuple(dict.fromkeys(one["series"] for test in tests for one in test.get("input_series", [])))


def parsed(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    recorded = {record.name for record in records()}
    for text in series(path):
        metric = re.split(r"[{\s]", text, maxsplit=1)[0]
        # A threshold that no rule knows is a fault that a test simulates.
        if metric not in recorded and not metric.startswith("threshold:"):
            yield metric, dict(LABEL.findall(text))


FILES = pytest.mark.parametrize("path", sorted(TESTS.glob("*.yml")), ids=lambda path: path.stem)


@FILES
def test_every_metric_is_exposed_with_these_labels(path: Path) -> None:
    for metric, labels in parsed(path):
        found = exposed().get(metric)
        assert found, f"no captured program exposes {metric}"
        known = {name for one in found for name in one} | NOT_CAPTURED.get(metric, set()) | set(FROM_SCRAPE)
        # Prometheus keeps its own label of that name and renames the program's.
        known |= {"exported_job"} if any("job" in one for one in found) else set()
        assert set(labels) <= known, f"{metric} has no label {set(labels) - known}"


@FILES
def test_bucket_bounds_are_those_of_the_program(path: Path) -> None:
    for metric, labels in parsed(path):
        if "le" in labels:
            captured = {one["le"] for one in exposed()[metric]}
            assert labels["le"] in BOUNDS.get(metric, captured), f"{metric} has no bucket le={labels['le']}"


@FILES
def test_label_values_occur(path: Path) -> None:
    """A state, store or kind that the program does not have proves nothing."""
    for metric, labels in parsed(path):
        for label in set(labels) - NAMES - {"le"}:
            occurring = {one.get(label) for one in exposed()[metric]}
            assert labels[label] in occurring, f"{metric} never has {label}={labels[label]}"


def test_thresholds_are_below_the_largest_finite_bound() -> None:
    """A quantile never exceeds it: an alert with a higher threshold cannot fire."""
    of_buckets = [one.name for one in records() if "histogram_quantile" in one.expr]
    assert of_buckets == ["celery:task_runtime_seconds:p95_15m"], (
        "compare its threshold with its buckets below"
    )
    assert thresholds()["threshold:celery_runtime_p95:seconds"] < max(RUNTIME_BUCKETS)
    assert max(RUNTIME_BUCKETS) >= 3600, "tasks may run for hours"


IMAGES = {
    "node_exporter": "prom/node-exporter",
    "blackbox_probe": "prom/blackbox-exporter",
    "caddy": "caddy",
    "postgres_exporter": "prometheuscommunity/postgres-exporter",
    "redis_exporter": "oliver006/redis_exporter",
    "alertmanager": "prom/alertmanager",
    "prometheus": "prom/prometheus",
    "cadvisor": "ghcr.io/google/cadvisor",
}


@pytest.mark.parametrize("page", IMAGES)
def test_the_pages_are_compared_with_the_versions_that_production_runs(page: str) -> None:
    """A new pin needs a new capture, or the difference is stated next to it."""
    compose = (ROOT / "docker-compose.prod.yml").read_text(encoding="utf-8")
    [pinned] = set(re.findall(rf"image: {IMAGES[page]}:v?([\d.]+)", compose))
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert f"| `{page}.prom` | {pinned} | " in table
    captured = yaml.safe_load((FOLDER / "versions.yml").read_text(encoding="utf-8"))
    name = page.removesuffix("_probe") + "_exporter" * page.endswith("_probe")
    assert re.search(rf"^\| `{page}\.prom` \| \S+ \| [^|]*{captured[name]}", table, re.MULTILINE)
