import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from stack.paths import ROOT
from stack.timefactor import compress, compress_duration, compress_expression, seconds


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate(x_total[5m]) > 300", "rate(x_total[10s]) > 300"),
        ("sum(rate(x[1h])) / sum(rate(y[1h30m]))", "sum(rate(x[60s])) / sum(rate(y[90s]))"),
        ("max_over_time(x[2h:5m] offset 1d)", "max_over_time(x[120s:5s] offset 1440s)"),
        ('x{path="[5m]"} # [5m]', 'x{path="[5m]"} # [5m]'),
        ("slo:api_errors:ratio_rate5m > 14.4", "slo:api_errors:ratio_rate5m > 14.4"),
        ("time() - t > 26 * 3600", "time() - t > 26 * 3600"),
    ],
)
def test_ranges_shrink_and_nothing_else(expression: str, expected: str) -> None:
    assert compress_expression(expression, 60) == expected


def test_a_rule_file_keeps_its_shape() -> None:
    rules = {
        "groups": [
            {
                "name": "g",
                "interval": "1m",
                "rules": [
                    {"alert": "A", "expr": "up[5m]", "for": "10m", "labels": {"for": "5m ago"}},
                ],
            }
        ]
    }
    assert compress(rules, 60) == {
        "groups": [
            {
                "name": "g",
                "interval": "1s",
                "rules": [
                    {"alert": "A", "expr": "up[10s]", "for": "10s", "labels": {"for": "5m ago"}},
                ],
            }
        ]
    }


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_durations_never_grow_and_never_fall_below_the_floor(length: int, factor: int) -> None:
    compressed = seconds(compress_duration(f"{length}s", factor))
    assert compressed == 0 if length == 0 else 1 <= compressed <= max(1, length)


def test_what_keeps_an_alert_firing_is_divided_by_half_the_factor() -> None:
    """It must still outlast a reconnect, whose duration is not divided."""
    assert compress({"rules": [{"alert": "A", "for": "2m", "keep_firing_for": "3m"}]}, 30) == {
        "rules": [{"alert": "A", "for": "4s", "keep_firing_for": "12s"}]
    }
    assert compress({"keep_firing_for": "3m"}, 1) == {"keep_firing_for": "180s"}


@pytest.mark.parametrize("factor", [1, 5, 10, 60])
def test_a_scrape_that_is_cut_off_still_reaches_its_threshold(factor: int) -> None:
    """If no timeout is set, a scrape ends after 10 s, or at its interval."""
    thresholds = yaml.safe_load((ROOT / "alerts" / "rules" / "thresholds.yml").read_text(encoding="utf-8"))
    scraping = yaml.safe_load((ROOT / "alerts" / "prometheus.yml").read_text(encoding="utf-8"))["global"]
    (threshold,) = (
        float(rule["expr"])
        for group in compress(thresholds, factor)["groups"]
        for rule in group["rules"]
        if rule["record"] == "threshold:scrape_cut_off:seconds"
    )
    shortest = min(10.0, seconds(compress(scraping, factor)["scrape_interval"]))
    assert 0.5 * min(10.0 / factor, shortest) <= threshold <= 0.9 * shortest
