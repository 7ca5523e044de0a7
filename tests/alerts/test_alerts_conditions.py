"""Which series each rule reads, over which window, and how it puts them together.

A window that is a few minutes too long, or a label that an aggregation loses, changes an alert only in rare situations, so a
mistake there is noticed only here. After an intended change: ``python -m tests.alerts.test_alerts_conditions``, and read the
difference in conditions.yml.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from alerts.paths import THRESHOLDS
from alerts.rules import alerts, records
from sidecar.promql import Selector, selectors

READ = Path(__file__).with_name("conditions.yml")
JOINED = re.compile(
    r"""
    \b(?:sum|min|max|avg|count|group|topk|bottomk|quantile)(?:\s+(?:by|without)\s*\([^()]*\)|(?=\s*\())
  | \b(?:and|or|unless)\b
  | \b(?:on|ignoring|group_left|group_right)\s*\([^()]*\)
  | [=!<>]=|[<>]|[-+*/]
  | \b(?:offset|bool)\s+\w+
  | (?<=\))\[[^\]]*\]
  | (?<![\w\[.])\d[\d.]*\b
  | (?<!_)\b(?:absent|scalar|vector|time|clamp_min|clamp_max|deriv|histogram_quantile|predict_linear)\b
    """,
    re.VERBOSE,
)
# Matchers and windows, which belong to the series, strings and comments.
UNREAD = re.compile(r"\{[^{}]*\}|(?<=[\w}])\[[^\]]*\]|\"[^\"]*\"|#[^\n]*")


def conditions() -> dict[str, dict[str, list[str] | str]]:
    """What each alert and each recorded series reads, and how it is joined, in the order of its expression."""
    return {name: {"reads": _read(expr), "joins": _joins(expr)} for name, expr in sorted(_expressions())}


def _expressions() -> Iterator[tuple[str, str]]:
    yield from ((one.name, one.expr) for one in alerts())
    yield from ((one.name, one.expr) for one in records() if one.file != THRESHOLDS.stem)


def _read(expr: str) -> list[str]:
    return [_text(one) for one in selectors(expr)]


def _text(one: Selector) -> str:
    matchers = ", ".join(f"{each.label}{each.operator}{each.value}" for each in one.matchers)
    series = one.metric + (f"{{{matchers}}}" if matchers else "") + (f"[{one.span}]" if one.span else "")
    return f"{one.call}({series})" if one.call else series


def _joins(expr: str) -> str:
    return " ".join(" ".join(found.split()) for found in JOINED.findall(UNREAD.sub("", expr)))


def test_names_of_rules_are_unique() -> None:
    """Otherwise one would replace the other below."""
    assert len(conditions()) == len(list(_expressions()))


def test_rules_read_and_join_what_is_intended() -> None:
    assert conditions() == yaml.safe_load(READ.read_text(encoding="utf-8")), (
        "run python -m tests.alerts.test_alerts_conditions, and read the difference"
    )


if __name__ == "__main__":
    READ.write_text(
        "# What each rule reads and how; see test_alerts_conditions.py.\n"
        + yaml.safe_dump(conditions(), sort_keys=False, width=200),
        encoding="utf-8",
    )
