"""Every alert is complete and tested both ways, and its tests pass."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alerts import checks, promtool_tests, rules
from alerts.paths import RULES
from alerts.rule_tests import FIRES, SILENT, Case, cases
from alerts.rules import Alert, Record
from tests.alerts.programs import PROGRAMS

# A number in a comparison; a burn rate's factor precedes its threshold.
COMPARED = re.compile(r"[<>=]=?\s*(\d[\d.]*)(?![\d.]*\s*\*)")


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_missing(check: Callable[[], Iterator[str]]) -> None:
    assert list(check()) == []


ALERT = next(one for one in rules.alerts() if one.name == "RedisDown")


def _with(**changes: Any) -> Callable[[], tuple[Alert, ...]]:
    """All alerts, and one more with these changes."""
    return lambda: (*rules.alerts(), replace(ALERT, **changes))


def _annotated(**changes: str) -> Callable[[], tuple[Alert, ...]]:
    return _with(annotations={**ALERT.annotations, **changes})


def _without(kind: str) -> Callable[[], list[Case]]:
    return lambda: [one for one in cases() if (one.alert, one.kind) != (ALERT.name, kind)]


LINK = ALERT.annotations["dashboard_url"]
# What each check must find: what it reads, a fault in that, and a part of the report.
FAULTS: list[tuple[Callable[[], Iterator[str]], str, Callable[[], Any], str]] = [
    (checks.labels_and_annotations, "alerts", _with(labels={"component": "redis"}), "severity is missing"),
    (
        checks.labels_and_annotations,
        "alerts",
        _with(labels={"severity": "critical"}),
        "component is missing",
    ),
    *(
        (checks.labels_and_annotations, "alerts", _annotated(**{name: ""}), f"no {name}")
        for name in checks.ANNOTATIONS
    ),
    (checks.labels_and_annotations, "alerts", _annotated(summary=121 * "x"), "longer than 120"),
    (checks.names, "alerts", _with(), "RedisDown: defined twice"),
    (checks.pages, "alerts", _annotated(runbook_url="elsewhere"), "does not lead to its runbook"),
    (checks.pages, "alerts", _with(name="New"), "no runbook runbooks/alerts/New.md"),
    (checks.pages, "alerts", lambda: rules.alerts()[1:], "there is no such alert"),
    (checks.dashboards, "alerts", _annotated(dashboard_url="elsewhere"), "does not lead to a dashboard"),
    (
        checks.dashboards,
        "alerts",
        _annotated(dashboard_url=LINK.replace("/d/posthub-", "/d/no-")),
        "does not lead to a dashboard",
    ),
    (checks.dashboards, "alerts", _annotated(dashboard_url=f"{LINK}&var-no=1"), "has no variable no"),
    (checks.tested_both_ways, "alerts", lambda: rules.alerts()[1:], "which does not exist"),
    *(
        (checks.tested_both_ways, "cases", _without(kind), f"no unit test in which it {what}")
        for kind, what in ((FIRES, "fires"), (SILENT, "stays silent"))
    ),
    (
        checks.tested_both_ways,
        "cases",
        lambda: [replace(one, kind=FIRES) for one in cases()],
        "expects the opposite",
    ),
    (checks.own_series_exist, "alerts", _with(expr="no:such:series > 1"), "reads no:such:series"),
    (checks.own_series_exist, "records", lambda: rules.records()[1:], "which no rule records"),
    (
        checks.thresholds_are_used,
        "thresholds",
        lambda: {**rules.thresholds(), "threshold:no": 1.0},
        "no rule reads it",
    ),
    (
        checks.thresholds_are_used,
        "thresholds",
        lambda: {**rules.thresholds(), "threshold:no": 1.0},
        "AlertThresholdsMissing",
    ),
    (
        checks.queue_thresholds_are_read,
        "queue_thresholds",
        lambda: [Record("threshold:no", "60", {"queue_name": "ai_jobs"}, "thresholds")],
        "may have per-queue values",
    ),
    (checks.table_is_fresh, "TABLE", lambda: None, "out of date"),
]


@pytest.mark.parametrize(("check", "reads", "fault", "report"), FAULTS)
def test_each_check_finds_what_is_missing(
    check: Callable[[], Iterator[str]],
    reads: str,
    fault: Callable[[], Any],
    report: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(checks, reads, tmp_path / "alerts.md" if reads == "TABLE" else fault)
    assert any(report in problem for problem in check())


def test_there_is_a_fault_for_each_check() -> None:
    assert {check for check, *_ in FAULTS} == set(checks.CHECKS)


def test_prometheus_accepts_configuration_and_rules() -> None:
    outcome = PROGRAMS.promtool("check", "config", "prometheus.yml")
    assert outcome.ok, outcome.output


def test_alertmanager_accepts_its_configuration() -> None:
    outcome = PROGRAMS.amtool("check-config", "alertmanager.yml")
    assert outcome.ok, outcome.output


@pytest.mark.parametrize("path", promtool_tests.files(), ids=lambda path: path.stem)
def test_unit_tests_of_the_rules(path: Path) -> None:
    outcome = PROGRAMS.run_rule_test(path)
    assert outcome.ok, outcome.output


def test_there_are_alerts_for_every_part() -> None:
    components = {alert.component for alert in rules.alerts()}
    assert components == {
        "api",
        "celery",
        "redis",
        "postgres",
        "host",
        "container",
        "edge",
        "logs",
        "backup",
        "billing",
        "monitoring",
    }
    assert len(rules.alerts()) >= 65


def test_the_original_alerts_exist_under_their_names() -> None:
    names = {alert.name for alert in rules.alerts()}
    assert names >= {"HighErrorRate", "CeleryQueueBacklog", "HighMemoryUsage"}


def test_numbers_occur_only_among_the_thresholds() -> None:
    """Zero and one are not arbitrary; 16 s is the kernel's own value for an unsynchronised clock."""
    accepted = {"0", "1", "16", str(len(rules.thresholds()))}
    for alert in rules.alerts():
        assert set(COMPARED.findall(alert.expr)) <= accepted, alert.name


@pytest.mark.parametrize(
    ("name", "labels", "accepted"),
    [
        ("threshold:celery_queue_length:max", {"queue_name": "ai_jobs"}, True),
        ("threshold:celery_queue_age:seconds", {"queue_name": "ai_jobs"}, True),
        ("threshold:celery_queue_age_critical:seconds", {"queue_name": "ai_jobs"}, True),
        ("threshold:celery_queue_growing:min", {"queue_name": "ai_jobs"}, False),
        ("threshold:celery_queue_age:seconds", {"queue": "ai_jobs"}, False),
    ],
)
def test_a_queues_own_threshold_must_be_one_that_is_read_by_queue(
    name: str, labels: dict[str, str], accepted: bool
) -> None:
    own = Record(name, "60", labels, "thresholds")
    assert (not list(checks.queue_thresholds_are_read([own]))) == accepted


def test_rules_files_are_named_after_components() -> None:
    assert {path.stem for path in RULES.glob("*.yml")} == {
        "api",
        "backup",
        "billing",
        "celery",
        "container",
        "edge",
        "host",
        "logs",
        "monitoring",
        "postgres",
        "redis",
        "thresholds",
    }
