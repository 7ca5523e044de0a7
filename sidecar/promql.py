"""Finds the selectors of a PromQL query: metric, label matchers, range and the function around each.

It does not validate the query; Prometheus' own parser (promtool) does that.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

_TOKEN = re.compile(
    r"""
    (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
  | (?P<comment>\#[^\n]*)
  | (?P<variable>\$\{[^}]+\}|\$\w+)
  | (?P<word>:?[A-Za-z_][\w:]*)
  | (?P<number>\d[\w.]*(?:(?<=[eE])[+-]\d+)?)
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
    """One label matcher, `value` without its quotes and escapes."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series with these labels matches; a missing label counts as an empty one."""
        given = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (given == self.value) == (self.operator == "=")
        return bool(re.fullmatch(self.value, given)) == (self.operator == "=~")


@dataclass(frozen=True)
class Selector:
    """One selector.

    Attributes:
        metric: its name; empty if only `__name__` is matched.
        matchers: its conditions on labels.
        span: the text in its brackets, for instance `5m`; empty for an instant selector.
        call: the function directly around it, or empty.
    """

    metric: str
    matchers: tuple[Matcher, ...] = ()
    span: str = ""
    call: str = ""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether a series of this metric with these labels matches."""
        return all(matcher.matches(labels) for matcher in self.matchers)


@cache
def selectors(expr: str) -> tuple[Selector, ...]:
    """Return every selector of `expr`, from left to right."""
    return tuple(_Reader(expr).read())


class _Reader:
    def __init__(self, expr: str) -> None:
        self._parts = [match.group() for match in _TOKEN.finditer(expr) if match.lastgroup != "comment"]
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
        elif self._peek() == "(" and part.lower() not in _OPERATORS:
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
            yield Matcher(label, operator, _unquoted(value))

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
    return part[0].isalpha() or (part[0] in "_:" and part != ":")


def _unquoted(text: str) -> str:
    # In backquotes, a backslash is an ordinary character.
    return text[1:-1] if text.startswith("`") else re.sub(r"\\(.)", r"\1", text[1:-1])
