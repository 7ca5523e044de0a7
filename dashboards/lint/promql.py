"""Just enough of PromQL's grammar to find every selector of a query, its matchers, range and function.

Whether a query is valid at all is for Prometheus' own parser (promtool) to say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
  | (?P<variable>\$\{[^}]+\}|\$\w+)
  | (?P<word>[A-Za-z_:][\w:]*)
  | (?P<number>\d[\w.+-]*)
  | (?P<symbol>=~|!~|!=|==|<=|>=|[-+*/%^=<>(){}\[\],@:])
    """,
    re.VERBOSE,
)
_LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_OPERATORS = {"and", "or", "unless", "bool", "offset", "atan2", "inf", "nan"}
_AGGREGATIONS = {
    *("sum", "min", "max", "avg", "group", "stddev", "stdvar", "count", "count_values"),
    *("bottomk", "topk", "quantile", "limitk", "limit_ratio"),
}


@dataclass(frozen=True)
class Matcher:
    """One label matcher, `value` without its quotes."""

    label: str
    operator: str
    value: str


@dataclass(frozen=True)
class Selector:
    """One selector: `span` is what stands in its brackets, `call` the function right around it."""

    metric: str
    matchers: tuple[Matcher, ...]
    span: str
    call: str


@cache
def selectors(expr: str) -> tuple[Selector, ...]:
    """Return every selector of `expr`, from left to right."""
    return tuple(_Reader(expr).read())


class _Reader:
    def __init__(self, expr: str) -> None:
        self._parts = [match.group() for match in _TOKEN.finditer(expr)]
        self._at = 0
        self._calls: list[str] = []

    def read(self) -> Iterator[Selector]:
        while self._at < len(self._parts):
            part = self._take()
            if part == "(":
                self._calls.append("")
            elif part == ")":
                self._calls.pop()
            elif part == "{" or _is_word(part):
                yield from self._word(part)

    def _word(self, part: str) -> Iterator[Selector]:
        if part.lower() in _LABEL_LISTS:
            self._skip_labels()
        elif self._peek() == "(" and part not in _OPERATORS:
            self._take()
            self._calls.append(part)
        elif part.lower() not in _OPERATORS | _AGGREGATIONS:
            yield self._selector(part)

    def _selector(self, part: str) -> Selector:
        metric = "" if part == "{" else part
        matchers: tuple[Matcher, ...] = ()
        if part == "{" or self._peek() == "{":
            self._at += part != "{"
            matchers = tuple(self._matchers())
        span = self._until("]")[1:-1] if self._peek() == "[" else []
        call = self._calls[-1] if self._calls else ""
        return Selector(metric, matchers, "".join(span), call)

    def _matchers(self) -> Iterator[Matcher]:
        inside = [part for part in self._until("}")[:-1] if part != ","]
        for label, operator, value in zip(inside[::3], inside[1::3], inside[2::3], strict=True):
            yield Matcher(label, operator, value[1:-1])

    def _skip_labels(self) -> None:
        # group_left may stand without a list, before the parenthesis of its right-hand side.
        if self._peek() == "(":
            self._until(")")

    def _until(self, end: str) -> list[str]:
        start = self._at
        while self._take() != end:
            pass
        return self._parts[start : self._at]

    def _peek(self) -> str:
        return self._parts[self._at] if self._at < len(self._parts) else ""

    def _take(self) -> str:
        self._at += 1
        return self._parts[self._at - 1]


def _is_word(part: str) -> bool:
    return part[0].isalpha() or part[0] in "_:"
