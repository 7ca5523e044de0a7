"""Every alert is complete and tested both ways, and its tests pass."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alerts import checks, promtool_tests, rules
from alerts.paths import RULES
from alerts.rules import Record
from tests.alerts.programs import PROGRAMS

# A number in a comparison; a burn rate's factor precedes its threshold.
COMPARED = re.compile(r"[<>=]=?\s*(\d[\d.]*)(?![\d.]*\s*\*)")


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_nothing_is_missing(check: Callable[[], Iterator[str]]) -> None:
    assert list(check()) == []


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
