"""The scanner of PromQL selectors."""

import pytest

from sidecar.promql import Matcher, Selector, selectors


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("up == 0", [Selector("up")]),
        ("sum by (job, instance) (rate(a_total[5m])) > 1e3", [Selector("a_total", (), "5m", "rate")]),
        (
            'a{b="c", d=~"e.+"} offset 1w',
            [Selector("a", (Matcher("b", "=", "c"), Matcher("d", "=~", "e.+")))],
        ),
        ("a and on (x) group_left () b unless ignoring(y) c", [Selector("a"), Selector("b"), Selector("c")]),
        ('label_replace(a, "x", "$1", "y", "(.+)")', [Selector("a", call="label_replace")]),
        (
            'count({__name__=~"threshold:.+"})',
            [Selector("", (Matcher("__name__", "=~", "threshold:.+"),), call="count")],
        ),
        ("time() - a:b:c > scalar(b:x:max) # not d", [Selector("a:b:c"), Selector("b:x:max", call="scalar")]),
        ("# up (\n a", [Selector("a")]),
        (r'a{b="c\\.d\"e"}', [Selector("a", (Matcher("b", "=", 'c\\.d"e'),))]),
        (r"a{b=~`c\d`}", [Selector("a", (Matcher("b", "=~", r"c\d"),))]),
        ("1-a", [Selector("a")]),
        ("1e-3+a AND (b)", [Selector("a"), Selector("b")]),
        ("deriv((max by (x) (a))[30m:]) > 0", [Selector("a")]),
        ("a[30m:1m]", [Selector("a", (), "30m:1m")]),
        ("vector(1)", []),
    ],
)
def test_selectors_are_found(expression: str, expected: list[Selector]) -> None:
    assert list(selectors(expression)) == expected


def test_selectors_are_found_in_nested_expressions() -> None:
    expr = """sum by (job, le) (rate(a_bucket{x=~"(b|c)", y="}"}[$__rate_interval])) / on (x) group_left (z)
        max_over_time(up[1h]) > bool 2 * time() unless {__name__="d"} offset 5m or vector(1)"""
    assert selectors(expr) == (
        Selector(
            "a_bucket", (Matcher("x", "=~", "(b|c)"), Matcher("y", "=", "}")), "$__rate_interval", "rate"
        ),
        Selector("up", (), "1h", "max_over_time"),
        Selector("", (Matcher("__name__", "=", "d"),), "", ""),
    )


def test_a_matcher_decides_as_prometheus_does() -> None:
    labels = {"status": "500"}
    assert Matcher("status", "=~", "5..").matches(labels)
    assert not Matcher("status", "!~", "5..").matches(labels)
    # The whole value must match.
    assert not Matcher("status", "=~", "50|00").matches(labels)
    assert Matcher("status", "!~", "50|00").matches(labels)
    assert Matcher("view", "!=", "x").matches(labels)
    assert not Matcher("view", "=", "x").matches(labels)
    assert not Selector("a", (Matcher("status", "=", "500"), Matcher("view", "!=", ""))).matches(labels)
