"""Two exporters that watch one broker: every rule and panel about Celery gives the same answer as with one."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from alerts import rules
from alerts.paths import RULES
from dashboards.lint.rules import queries
from dashboards.live_check import committed
from dashboards.resolve import Scope, resolve
from sidecar.prometheus import Prometheus as Api
from sidecar.promql import selectors
from stack.programs import find
from stack.servers import Prometheus
from tests.alerts.fixtures import FOLDER, SERIES

STEP, STEPS = 15, 200
START = 1_795_000_000
END = START + STEP * STEPS
# The second exporter was restarted; it is scraped some seconds after the first one.
RESTARTED, LATER = 100, 7
GROWS = re.compile(r"_(total|bucket|count|sum)$")
# These are about an exporter: one alert for each.
OWN = {rule["alert"] for group in yaml.safe_load((RULES / "celery.yml").read_text())["groups"]
       if group["name"] == "celery-exporter" for rule in group["rules"]}  # fmt: skip
RECORDS = {record.name: record.expr for record in rules.records() if record.file == "celery"}


def samples(name: str, labels: str, value: float, instance: str) -> Iterator[str]:
    """What an exporter shows over time: counters rise, queues grow."""
    given = f'{{{labels}{"," if labels else ""}job="celery",environment="production",instance="{instance}"}}'
    first, shift = (RESTARTED, LATER) if instance == "b" else (0, 0)
    for step in range(first, STEPS):
        grown = (
            (step - first) * (value or 3)
            if GROWS.search(name)
            else value + step * (name == "celery_queue_length")
        )
        yield f"{name}{given} {grown} {START + step * STEP + shift}"


def page(*instances: str) -> str:
    """The captured page of an exporter as these exporters would show it, with all thresholds."""
    text = (FOLDER / "celery_exporter.prom").read_text(encoding="utf-8")
    lines = [f"{name} {value} {START + step * STEP}"
             for name, value in rules.thresholds().items() if value is not None for step in range(STEPS)]  # fmt: skip
    shown = [
        ("up", "", 1.0),
        *((name, labels, value_of(text, name, labels)) for name, labels in SERIES.findall(text)),
    ]
    for instance in instances:
        for name, labels, value in shown:
            # One worker and beat are down.
            is_down = name == "celery_beat_up" or (name == "celery_worker_up" and "ai" in labels)
            lines += samples(name, labels, 0.0 if is_down else value, instance)
    return "\n".join([*lines, "# EOF", ""])


def value_of(text: str, name: str, labels: str) -> float:
    head = f"{name}{{{labels}}} " if labels else f"{name} "
    return float(text.partition("\n" + head)[2].partition("\n")[0])


@contextmanager
def history(folder: Path, *instances: str) -> Iterator[Api]:
    """A Prometheus that has scraped these exporters."""
    folder.mkdir()
    (folder / "page.txt").write_text(page(*instances))
    (folder / "prometheus.yml").write_text("{}")
    subprocess.run(
        [str(find("promtool")), "tsdb", "create-blocks-from", "openmetrics", "page.txt", "data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    with Prometheus(folder, config=folder / "prometheus.yml") as server:
        yield Api(server.url)


def inlined(expr: str) -> str:
    """The expression with those of the recording rules in it, which were not evaluated in the past."""
    for name, recorded in RECORDS.items():
        expr = re.sub(rf"{name}\[(\w+)\]", lambda match, text=recorded: f"({text})[{match[1]}:]", expr)
        expr = expr.replace(name, f"({recorded})")
    return expr


def expressions() -> dict[str, str]:
    found = {alert.name: inlined(alert.expr) for alert in rules.alerts() if alert.file == "celery"}
    found = {name: expr for name, expr in found.items() if name not in OWN} | RECORDS
    scope = Scope(END - 3600, END, STEP)
    for dashboard in committed():
        if dashboard["uid"] in ("posthub-celery", "posthub-overview"):
            for panel, index, expr in queries(dashboard):
                found[f"{panel['title']} {index}"] = resolve(expr, dashboard, scope)
    return {
        name: expr for name, expr in found.items() if any("celery" in one.metric for one in selectors(expr))
    }


def answers(prometheus: Api) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The result of each expression: series and value."""
    return {
        name: {
            frozenset(series.labels.items()): series.last for series in prometheus.instant(expr, END - STEP)
        }
        for name, expr in expressions().items()
    }


def test_rules_and_panels_say_the_same_with_a_second_exporter(tmp_path):
    with history(tmp_path / "one", "a") as prometheus:
        one = answers(prometheus)
    with history(tmp_path / "two", "a", "b") as prometheus:
        two = answers(prometheus)
    wrong = {
        name: (one[name], two[name])
        for name in one
        if two[name] != pytest.approx(one[name], rel=1e-3, nan_ok=True)
    }
    assert wrong == {}
    known = {name for name, series in one.items() if series}
    assert {
        "CeleryWorkerDown",
        "CeleryBeatDown",
        "CeleryTaskFailureRatioHigh",
        "Workers up 0",
        "Queues 4",
    } <= known
    assert len(known) > 50
