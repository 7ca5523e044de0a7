"""How long an alert takes to fire after its fault, and to end after the fault's end, according to its rule.

All durations are in seconds. The pauses between a sample, its evaluation and Alertmanager are in LEAD and PROMPT.
"""

import re
from functools import cache

from alerts.rules import Alert, records
from sidecar.promql import selectors
from stack.timefactor import seconds

# A cause's sample may come one scrape (15 s) and one evaluation (15 s) later than the symptom's.
LEAD = 30.0
# After a cause's end: a Celery worker's longest pause between two attempts to connect (30 s), a scrape (15 s) that may take
# its whole timeout (10 s), and an evaluation (15 s).
PROMPT = 70.0

# `max_over_time(x[1m]) == 0` holds after a minute of zeros, and ends with the first other sample.
_FILLED = re.compile(
    r"max_over_time\((?:[^()]|\([^()]*\))*\[(\w+)\]\)[\s)]*(?:==\s*0|<)|min_over_time\((?:[^()]|\([^()]*\))*\[(\w+)\]\)[\s)]*(?:==\s*1|>)"
)
_UNLESS = re.compile(
    r"max_over_time\((?:[^()]|\([^()]*\))*\[(\w+)\](?: offset \w+)?\)[\s)]*(?:==\s*[01]|>=?\s*0)"
)
_PROMPT_CALLS = {"last_over_time", "absent_over_time", "present_over_time"}


def length(duration: str) -> float:
    """The seconds of a rule's ``for`` or ``keep_firing_for``; 0 without one."""
    return seconds(duration) if duration else 0.0


def earliest(symptom: Alert) -> float:
    """The shortest time from the fault until it fires."""
    return min(_filled(branch) for branch in branches(symptom.expr)) + length(symptom.duration)


def latest(cause: Alert) -> float:
    """The longest time from a complete fault until it fires, by any of its conditions."""
    return max(_filled(branch) for branch in branches(cause.expr)) + length(cause.duration)


def end(symptom: Alert) -> float:
    """The longest time from the fault's end until it is resolved."""
    return max(PROMPT, *(_looks_back(branch) for branch in branches(symptom.expr))) + length(symptom.kept)


def branches(expr: str) -> list[str]:
    """The operands of the outermost ``or``."""
    return _outermost(expr, "or")


def _outermost(expr: str, operator: str) -> list[str]:
    """The operands of an operator outside all parentheses."""
    parts, depth, last = [], 0, 0
    for found in re.finditer(rf"[(){{}}]|\b{operator}\b", expr):
        if found[0] in "({":
            depth += 1
        elif found[0] in ")}":
            depth -= 1
        elif depth == 0:
            parts.append(expr[last : found.start()])
            last = found.end()
    return [*parts, expr[last:]]


def _filled(branch: str) -> float:
    """The longest window that bad samples must fill."""
    head, *without = re.split(r"\bunless\b", branch)
    windows = [one or other for one, other in _FILLED.findall(head)]
    windows += [window for part in without for window in _UNLESS.findall(part)]
    return max((seconds(window) for window in windows), default=0.0)


def _looks_back(branch: str) -> float:
    """The longest window in which samples of the fault keep it firing; of conditions that all look back, the shortest."""
    conditions = _outermost(_outermost(branch, "unless")[0], "and")
    spans = [_span(condition) for condition in conditions]
    return min(spans) if all(spans) else max(spans)


def _span(condition: str) -> float:
    if _FILLED.search(condition):
        return 0.0
    read = selectors(condition)
    windows = [seconds(one.span) for one in read if one.span and one.call not in _PROMPT_CALLS]
    windows += [seconds(span) for span in re.findall(r"\)\[(\w+):", condition)]  # a subquery
    return max([*windows, *(recorded(one.metric) for one in read)], default=0.0)


@cache
def recorded(metric: str) -> float:
    """The longest window in the recording rule of this name; 0 for other metrics."""
    return max(
        (
            seconds(one.span)
            for record in records()
            if record.name == metric
            for one in selectors(record.expr)
            if one.span and one.call not in _PROMPT_CALLS
        ),
        default=0.0,
    )
