"""Every series that a rule reads exists in what the real programs expose."""

import pytest

from alerts import rules
from alerts.example import LABEL
from alerts.rule_tests import FIRES, Case, cases
from sidecar.promql import Selector, selectors
from tests.alerts.fixtures import FROM_SCRAPE, exposed

# Metrics and labels that the captured programs did not expose, each with the source that documents it.
NOT_CAPTURED = {
    (
        "caddy_http_request_duration_seconds_count",
        "code",
    ): "captured while no response was 5xx; the label is there",
    (
        "pg_stat_activity_count",
        "wait_event_type",
    ): "captured while no one waited for a lock; the label is there",
    ("redis_instance_info", "maxmemory_policy"): "captured from a Redis with the right policy, noeviction",
    (
        "alertmanager_notifications_total",
        "receiver_name",
    ): "--enable-feature=receiver-name-in-metrics adds it",
    (
        "alertmanager_notifications_failed_total",
        "receiver_name",
    ): "--enable-feature=receiver-name-in-metrics adds it",
}
EXPRESSIONS = {
    **{f"{record.file}/{record.name}": record.expr for record in rules.records()},
    **{f"{alert.file}/{alert.name}": alert.expr for alert in rules.alerts()},
}


@pytest.mark.parametrize("rule", EXPRESSIONS)
def test_every_selector_finds_series(rule: str) -> None:
    recorded = {record.name for record in rules.records()}
    for selector in selectors(EXPRESSIONS[rule]):
        if selector.metric in recorded or not selector.metric:
            continue
        found = exposed().get(selector.metric, [])
        assert found, f"no captured program exposes {selector.metric}"
        known = tuple(
            matcher
            for matcher in selector.matchers
            if matcher.label not in FROM_SCRAPE and (selector.metric, matcher.label) not in NOT_CAPTURED
        )
        labels = {name for series in found for name in series}
        for matcher in known:
            assert matcher.label in labels, f"{selector.metric} has no label {matcher.label}, only {labels}"
        wanted = Selector(selector.metric, known)
        assert any(wanted.matches(series) for series in found), f"no captured series passes {wanted}"


def test_what_was_not_captured_is_still_asked_for() -> None:
    asked = {
        (selector.metric, matcher.label)
        for expression in EXPRESSIONS.values()
        for selector in selectors(expression)
        for matcher in selector.matchers
    }
    assert set(NOT_CAPTURED) <= asked


@pytest.mark.parametrize("case", [case for case in cases() if case.kind == FIRES], ids=lambda case: case.text)
def test_messages_name_only_labels_that_the_alert_has(case: Case) -> None:
    """A template with a misspelt label leaves a gap in a message, without an error."""
    named = {name for text in rules.alert(case.alert).annotations.values() for name in LABEL.findall(text)}
    # Not every unit test has the labels that the scrape adds; an aggregation would drop them.
    added = set() if " by (" in rules.alert(case.alert).expr else set(FROM_SCRAPE)
    assert case.labels
    for labels in case.labels:
        assert named <= labels | added
