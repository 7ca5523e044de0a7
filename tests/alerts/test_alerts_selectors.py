"""Every series that a rule reads exists in what the real programs expose."""

import pytest

from alerts import rules
from alerts.selectors import Matcher, Selector, selectors
from tests.alerts.fixtures import FROM_SCRAPE, exposed

# Series that a healthy program does not show, each with the place that says it does.
NOT_CAPTURED: dict[str, str] = {}
EXPRESSIONS = {
    **{f"{record.file}/{record.name}": record.expr for record in rules.records()},
    **{f"{alert.file}/{alert.name}": alert.expr for alert in rules.alerts()},
}


@pytest.mark.parametrize("rule", EXPRESSIONS)
def test_every_selector_finds_series(rule: str) -> None:
    recorded = {record.name for record in rules.records()}
    for selector in selectors(EXPRESSIONS[rule]):
        if selector.metric in recorded or not selector.metric or selector.metric in NOT_CAPTURED:
            continue
        found = exposed().get(selector.metric, [])
        assert found, f"no captured program exposes {selector.metric}"
        wanted = Selector(selector.metric, tuple(m for m in selector.matchers if m.label not in FROM_SCRAPE))
        labels = {name for series in found for name in series}
        for matcher in wanted.matchers:
            assert matcher.label in labels, f"{selector.metric} has no label {matcher.label}, only {labels}"


def test_annotations_name_only_labels_that_the_expression_can_have() -> None:
    """A template with a misspelt label gives an empty place in a message, and no error."""
    for alert in rules.alerts():
        if alert.name in {"TargetDown", "HostDown"}:
            continue


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", [Selector("up")]),
        ("sum by (job, instance) (rate(a_total[5m])) > 1e3", [Selector("a_total")]),
        ('a{b="c", d=~"e.+"} offset 1w', [Selector("a", (Matcher("b", "=", "c"), Matcher("d", "=~", "e.+")))]),
        ("a and on (x) group_left () b unless ignoring(y) c", [Selector("a"), Selector("b"), Selector("c")]),
        ('label_replace(a, "x", "$1", "y", "(.+)")', [Selector("a")]),
        ('count({__name__=~"threshold:.+"})', [Selector("", (Matcher("__name__", "=~", "threshold:.+"),))]),
        ("time() - a:b:c > scalar(threshold:x:max) # not d", [Selector("a:b:c"), Selector("threshold:x:max")]),
        ("vector(1)", []),
    ],
)  # fmt: skip
def test_selectors_are_found(expression: str, expected: list[Selector]) -> None:
    assert list(selectors(expression)) == expected


def test_a_matcher_holds_as_prometheus_would_say() -> None:
    labels = {"status": "500"}
    assert Matcher("status", "=~", "5..").holds(labels)
    assert not Matcher("status", "!~", "5..").holds(labels)
    assert Matcher("view", "!=", "x").holds(labels)
    assert not Matcher("view", "=", "x").holds(labels)
