"""Divides the durations in Prometheus' and Alertmanager's configuration, so that a demo needs seconds instead of hours.

Pure functions on parsed YAML. They divide scrape, evaluation and group intervals, ``for`` and
``keep_firing_for``, and the range selectors, offsets and subquery steps in expressions. Thresholds are unchanged, except
that of a scrape's duration: the scrape timeout, which ends the scrape, becomes shorter with the interval.
"""

import re
from typing import Any

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
DURATION = r"(?:\d+(?:ms|[smhdwy]))+"
# [5m], [1h:30s], offset 1d
IN_EXPRESSION = re.compile(rf"(\[\s*|:\s*|\boffset\s+)({DURATION})(?=[\s\]:)]|$)")
QUOTED = re.compile(r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|#[^\n]*)")
KEYS = {
    "scrape_interval",
    "scrape_timeout",
    "evaluation_interval",
    "interval",
    "for",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "refresh_interval",
    "resolve_timeout",
}
# For a rate, Prometheus needs two scrapes in the range; this leaves some slack.
SHORTEST_RANGE = 10.0
SHORTEST_INTERVAL = 1.0
# The recorded threshold of a scrape that was cut off, and its lowest value: the shortest scrape timeout, less a tenth.
SCRAPE_CUT_OFF = "threshold:scrape_cut_off:seconds"
LOWEST_CUT_OFF = 0.9 * SHORTEST_INTERVAL
# `keep_firing_for` bridges reconnects, whose pauses are not compressed: it is divided by less than the rest.
KEPT_FACTOR_SHARE = 0.5


def seconds(duration: str) -> float:
    """``1h30m`` → 5400.0. Raises ValueError for anything else."""
    if not re.fullmatch(DURATION, duration):
        raise ValueError(f"not a duration: {duration!r}")
    return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration))


def compress_duration(duration: str, factor: float, *, shortest: float = SHORTEST_INTERVAL) -> str:
    """A duration divided by the factor, in whole seconds, not below ``shortest``; zero stays zero."""
    length = seconds(duration)
    return f"{max(shortest, round(length / factor)):.0f}s" if length else "0s"


def compress_expression(expression: str, factor: float) -> str:
    """An expression with its ranges, offsets and subquery steps divided; quoted text and comments are unchanged."""
    parts = QUOTED.split(expression)
    # split() with one group puts the quoted parts at odd positions.
    return "".join(
        part if place % 2 else IN_EXPRESSION.sub(lambda match: _compressed(match, factor), part)
        for place, part in enumerate(parts)
    )


def compress(document: Any, factor: float) -> Any:
    """A configuration or rule file with all its durations divided."""
    if isinstance(document, dict):
        if document.get("record") == SCRAPE_CUT_OFF:
            return document | {"expr": f"{max(LOWEST_CUT_OFF, float(document['expr']) / factor):g}"}
        return {key: _entry(key, value, factor) for key, value in document.items()}
    if isinstance(document, list):
        return [compress(item, factor) for item in document]
    return document


def _entry(key: str, value: Any, factor: float) -> Any:
    if key == "expr":
        return compress_expression(str(value), factor)
    if key == "keep_firing_for":
        return compress_duration(str(value), max(1.0, factor * KEPT_FACTOR_SHARE))
    if key in KEYS and isinstance(value, str):
        return compress_duration(value, factor)
    return value if key in ("labels", "annotations") else compress(value, factor)


def _compressed(match: re.Match[str], factor: float) -> str:
    opening, duration = match.groups()
    shortest = SHORTEST_RANGE if opening.startswith("[") else SHORTEST_INTERVAL
    return opening + compress_duration(duration, factor, shortest=shortest)
