"""Variables are filled in as Grafana fills them in."""

import pytest

from dashboards.durations import seconds
from dashboards.resolve import Scope, resolve
from sidecar.errors import UsageError

DASHBOARD = {
    "templating": {
        "list": [
            {"type": "datasource", "name": "datasource"},
            {"type": "query", "name": "job", "allValue": ".+"},
            {"type": "query", "name": "queue", "allValue": ".*"},
        ]
    }
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('up{job=~"$job"}', 'up{job=~".+"}'),
        ('up{job=~"${job}"}', 'up{job=~".+"}'),
        ('up{job=~"${job:regex}"}', 'up{job=~".+"}'),
        ("rate(a[$__rate_interval])", "rate(a[60s])"),
        ("increase(a[$__range])", "increase(a[3600s])"),
        ('label_replace(a, "x", "$1", "y", "(.*)")', 'label_replace(a, "x", "$1", "y", "(.*)")'),
        ('a{queue=~"$queue"}', 'a{queue=~"quick"}'),
    ],
)
def test_variables(text: str, expected: str) -> None:
    scope = Scope(0, 3600, 15, chosen=(("queue", "quick"),))
    assert resolve(text, DASHBOARD, scope) == expected


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(KeyError):
        resolve("up{job=~'$jobs'}", DASHBOARD, Scope(0, 1, 1))


@pytest.mark.parametrize(("step", "expected"), [(15, 60), (1, 60), (60, 75), (300, 315)])
def test_the_rate_interval_has_at_least_four_scrapes(step: float, expected: float) -> None:
    assert Scope(0, 3600, step).rate_interval == expected


@pytest.mark.parametrize(("text", "expected"), [("30m", 1800), ("1h", 3600), ("7d", 604800)])
def test_time_ranges(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "h", "1", "0h", "1y", "-1h"])
def test_what_is_not_a_time_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        seconds(text)
