"""Two exporters that watch one broker: every rule and panel about Celery gives the same result as with one."""

import re
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
from tests.exporters.historykit import END, STEP, history

# These are about an exporter: one alert for each.
OWN = {
    rule["alert"]
    for group in yaml.safe_load((RULES / "celery.yml").read_text())["groups"]
    if group["name"] == "celery-exporter"
    for rule in group["rules"]
}
RECORDS = {record.name: record.expr for record in rules.records() if record.file == "celery"}


def inlined(expr: str) -> str:
    """The expression with those of the recording rules in it, which were not evaluated in the past."""
    for name, recorded in RECORDS.items():
        parts = re.split(rf"{name}\[(\w+)\]", expr)
        expr = parts[0] + "".join(
            f"({recorded})[{window}:]{rest}" for window, rest in zip(parts[1::2], parts[2::2], strict=True)
        )
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


def test_rules_and_panels_agree_with_a_second_exporter(tmp_path: Path) -> None:
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
