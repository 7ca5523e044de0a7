"""Variants of the promtool tests: the same situation with a missed scrape, or with a restart of every exporter.

They are made from the tests in alerts/tests/, so that a new alert has them as soon as it has tests. The samples
are spread to the scrape interval of production first, because a window of a minute needs more than one sample.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from alerts.rules import Record, alert, alerts, records
from sidecar.promql import selectors
from sidecar.rulefile import document
from stack.timefactor import seconds
from tests.alerts.fixtures import types

# Sample of a scrape that failed.
STALE = "stale"
MISSING = "_"
SCRAPE = 15.0
# Longer tests would need a hundred thousand samples; they read windows of hours. Of them, only the end is spread.
SPREAD_UP_TO = 3 * 3600.0
# How often the rules of longer tests are evaluated.
LONG_EVALUATION = 300.0

_NUMBER = r"[\d.]+(?:e[-+]?\d+)?"
_REPEATED = re.compile(
    rf"(?P<first>_|stale|[-+]?{_NUMBER}|NaN|[-+]?Inf)(?P<by>[-+]{_NUMBER})?(?:x(?P<times>\d+))?"
)


@dataclass(frozen=True)
class Scenario:
    """One moment of one promtool test.

    Args:
        place: the name of its test, for messages.
        alert: the alert that is queried.
        firing: number of alerts of that name that must fire.
    """

    place: str
    alert: str
    firing: int
    at: float
    interval: float
    series: tuple[tuple[str, tuple[str, ...]], ...]
    labels: tuple[tuple[str, str], ...]


def scenarios(path: Path) -> list[Scenario]:
    """Every moment that the tests in this file evaluate."""
    return [
        Scenario(
            test["name"],
            moment["alertname"],
            len(moment.get("exp_alerts") or []),
            seconds(moment["eval_time"]),
            seconds(test["interval"]),
            tuple((one["series"], expand(str(one["values"]))) for one in test["input_series"]),
            tuple(test.get("external_labels", {}).items()),
        )
        for test in document(path)["tests"]
        for moment in test.get("alert_rule_test", [])
    ]


@cache
def expand(values: str) -> tuple[str, ...]:
    """The samples of promtool's notation, one by one: ``1+2x3 _ 5x2`` → 1 3 5 7 _ 5 5 5."""
    samples: list[str] = []
    for token in values.split():
        found = _REPEATED.fullmatch(token)
        assert found is not None, token
        first, by, times = found["first"], found["by"], found["times"]
        if times is None:
            samples.append(first)
        elif first == MISSING:
            samples += [MISSING] * int(times)
        elif by is None:
            samples += [first] * (int(times) + 1)
        else:
            samples += [repr(float(first) + float(by) * step) for step in range(int(times) + 1)]
    return tuple(samples)


def spread(scenario: Scenario) -> Scenario:
    """The same situation, scraped every 15 s: a counter grows evenly between two samples, a gauge stays."""
    parts = int(scenario.interval / SCRAPE)
    if parts <= 1 or scenario.at > SPREAD_UP_TO:
        return scenario
    series = tuple((name, _spread(name, samples, parts)) for name, samples in scenario.series)
    return replace(scenario, interval=SCRAPE, series=series)


def _spread(name: str, samples: tuple[str, ...], parts: int) -> tuple[str, ...]:
    found: list[str] = []
    for now, then in zip(samples, [*samples[1:], *samples[-1:]], strict=True):
        if is_counter(name) and _is_number(now) and _is_number(then) and float(then) >= float(now):
            pace = (float(then) - float(now)) / parts
            found += [repr(float(now) + pace * part) for part in range(parts)]
        elif now == STALE:
            found += [STALE, *[MISSING] * (parts - 1)]
        else:
            found += [now] * parts
    return tuple(found)


def with_missed_scrape(scenario: Scenario) -> Scenario:
    """The scrape right at the evaluation fails: every scraped series is gone, and `up` is 0."""
    whole = scenario if scenario.interval <= SCRAPE else _with_spread_end(scenario)
    evaluation = LONG_EVALUATION if scenario.at > SPREAD_UP_TO else whole.interval
    at = int(scenario.at // evaluation * evaluation / whole.interval)
    missed = _changed(whole, lambda name, samples: _missed(name, samples, at))
    return scenario if missed.series == whole.series else missed


def _with_spread_end(scenario: Scenario) -> Scenario:
    """The same situation, of which the last samples before the evaluation are spread as by :func:`spread`."""
    parts = int(scenario.interval / SCRAPE)
    end = max(int(scenario.at / scenario.interval) - 1, 0)
    series = tuple(
        (
            name,
            (
                *_sparse(samples[:end], parts),
                *(_spread(name, samples[end:], parts) if is_scraped(name) else _sparse(samples[end:], parts)),
            ),
        )
        for name, samples in scenario.series
    )
    return replace(scenario, interval=SCRAPE, series=series)


def _sparse(samples: tuple[str, ...], parts: int) -> tuple[str, ...]:
    return tuple(part for one in samples for part in (one, *[MISSING] * (parts - 1)))


def _missed(name: str, samples: list[str], at: int) -> list[str]:
    if at >= len(samples) or not _is_number(samples[at]):
        return samples
    missed = "0" if selectors(name)[0].metric == "up" else STALE
    return [*samples[:at], missed, *samples[at + 1 :]]


def with_restart(scenario: Scenario) -> Scenario:
    """Every exporter restarts after two thirds of the time: its counters begin at 0 again."""
    at = int(scenario.at * 2 / 3 / scenario.interval)
    return _changed(scenario, lambda name, samples: _restarted(name, samples, at))


def _restarted(name: str, samples: list[str], at: int) -> list[str]:
    if not is_counter(name) or at >= len(samples) or not _is_number(samples[at]):
        return samples
    base = float(samples[at])
    after = [repr(float(one) - base) if _is_number(one) else one for one in samples[at:]]
    return [*samples[:at], *after]


def with_first_appearance(scenario: Scenario) -> Scenario:
    """The exporter has just started: a counter that is flat until its fault is there from the scrape before it on."""
    return _changed(scenario, _appeared)


def _appeared(name: str, samples: list[str]) -> list[str]:
    if not is_counter(name):
        return samples
    grows = next((at for at, one in enumerate(samples) if _is_number(one) and one != samples[0]), 0)
    return [MISSING] * (grows - 1) + samples[max(grows - 1, 0) :]


def _changed(scenario: Scenario, change: Any) -> Scenario:
    series = tuple(
        (name, tuple(change(name, list(samples)))) if is_scraped(name) else (name, samples)
        for name, samples in scenario.series
    )
    return replace(scenario, series=series)


def is_scraped(name: str) -> bool:
    """Whether a series comes from a target. Rules produce the others, and Prometheus itself those about scrapes."""
    metric = selectors(name)[0].metric
    return ":" not in metric and metric not in ("ALERTS", "scrape_duration_seconds")


def is_counter(name: str) -> bool:
    """Whether its value only grows: a counter, or a part of a histogram, in the captured pages."""
    metric = selectors(name)[0].metric
    family = re.sub(r"_(?:bucket|count|sum)$", "", metric)
    return types().get(metric) == "counter" or types().get(family) in ("histogram", "summary")


def _is_number(sample: str) -> bool:
    return sample not in (STALE, MISSING)


def needed(name: str) -> list[str]:
    """The expressions that an alert depends on: its own, and those of the recorded series that it reads."""
    return [rule["expr"] for group in _groups(name) for rule in group["rules"]]


def reads_counter(name: str) -> bool:
    """Whether an alert depends on a counter."""
    read = (one for expr in needed(name) for one in selectors(expr))
    return any(":" not in one.metric and is_counter(one.metric) for one in read if one.metric)


def left_open(expr: str) -> str:
    """The expression with every window a millisecond shorter: without its left edge, as in Prometheus 3."""
    return re.sub(r"\[(\w+)(?=[\]:])", lambda found: f"[{round(seconds(found[1]) * 1000) - 1}ms", expr)


def documents(
    scenarios: list[Scenario], folder: Path, change: Callable[[str], str] = lambda expr: expr
) -> list[Path]:
    """Write a promtool file for each alert, which counts its alerts in each of its scenarios.

    It contains only the rules that the alert needs, because promtool evaluates all rules of a file in every test.

    Args:
        change: of the rules' expressions.
    """
    written = []
    for name in dict.fromkeys(one.alert for one in scenarios):
        rules = folder / f"{name}.rules.yml"
        groups = _groups(name)
        for rule in (rule for group in groups for rule in group["rules"]):
            rule["expr"] = change(rule["expr"])
        rules.write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        for long in (False, True):
            tests = [_test(one) for one in scenarios if one.alert == name and (one.at > SPREAD_UP_TO) == long]
            content = {
                "rule_files": [rules.name],
                "evaluation_interval": f"{LONG_EVALUATION:g}s" if long else "30s",
                "group_eval_order": ["records", "alerts"],
                "tests": tests,
            }
            if tests:
                test = folder / f"{name}.{'long' if long else 'short'}.yml"
                test.write_text(yaml.safe_dump(content), encoding="utf-8")
                written.append(test)
    return written


def _test(scenario: Scenario) -> dict[str, Any]:
    asked = f'count(ALERTS{{alertname="{scenario.alert}", alertstate="firing"}}) or vector(0)'
    return {
        "name": scenario.place,
        "interval": f"{scenario.interval:g}s",
        "external_labels": dict(scenario.labels),
        "input_series": [
            {"series": name, "values": " ".join(condensed(samples))} for name, samples in scenario.series
        ],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": f"{scenario.at:g}s",
                "exp_samples": [{"labels": "{}", "value": scenario.firing}],
            }
        ],
    }


def condensed(samples: tuple[str, ...]) -> Iterator[str]:
    """Samples in promtool's notation, where many are missing."""
    for sample, run in groupby(samples):
        found = list(run)
        yield from [f"{MISSING}x{len(found)}"] if sample == MISSING else found


def _groups(name: str) -> list[dict[str, Any]]:
    wanted = [one for one in alerts() if one.name == name or f'"{one.name}"' in alert(name).expr]
    recorded: list[Record] = []
    _collect(" ".join(one.expr for one in wanted), recorded)
    return [
        {
            "name": "records",
            "rules": [{"record": one.name, "expr": one.expr, "labels": one.labels} for one in recorded],
        },
        {
            "name": "alerts",
            "rules": [
                {
                    "alert": one.name,
                    "expr": one.expr,
                    **({"for": one.duration} if one.duration else {}),
                    **({"keep_firing_for": one.kept} if one.kept else {}),
                }
                for one in sorted(wanted, key=lambda one: one.name == name)
            ],
        },
    ]


def _collect(expr: str, recorded: list[Record]) -> None:
    """The recording rules that an expression reads, each after those that it reads itself."""
    for record in records():
        if record not in recorded and (record.name in expr or 'threshold:.+"' in expr):
            _collect(record.expr, recorded)
            recorded.append(record)
