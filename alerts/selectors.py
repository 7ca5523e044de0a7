"""The series selectors of a PromQL expression: which metric, with which label matchers.

Not a parser of the language: it finds every name that is read from storage, which is all that a check against an
exporter's output needs.
"""

import re
from dataclasses import dataclass
from functools import cache

TOKEN = re.compile(
    r"""
      (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<comment>\#[^\n]*)
    | (?P<range>\[[^\]]*\])
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?:ms|[smhdwy])?)
    | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
    | (?P<sign>=~|!~|!=|==|>=|<=|.)
    """,
    re.VERBOSE | re.DOTALL,
)
# Words that are followed by a list of labels.
LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
AGGREGATIONS = {
    "sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values",
}  # fmt: skip
WORDS = LABEL_LISTS | AGGREGATIONS | {"and", "or", "unless", "offset", "bool", "atan2", "inf", "nan"}


@dataclass(frozen=True)
class Matcher:
    """One condition on a label."""

    label: str
    sign: str
    value: str

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether a series with these labels passes."""
        given = labels.get(self.label, "")
        if self.sign in ("=", "!="):
            return (given == self.value) == (self.sign == "=")
        return bool(re.fullmatch(self.value, given)) == (self.sign == "=~")


@dataclass(frozen=True)
class Selector:
    """A metric (empty when only ``__name__`` is matched) and its matchers."""

    metric: str
    matchers: tuple[Matcher, ...] = ()

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether a series of this metric with these labels passes."""
        return all(matcher.holds(labels) for matcher in self.matchers)


@cache
def selectors(expression: str) -> tuple[Selector, ...]:
    """Every selector of an expression, in order, without repetitions."""
    tokens = [(match.lastgroup or "", match.group()) for match in TOKEN.finditer(expression)]
    kept = [token for token in tokens if token[0] != "comment" and not token[1].isspace()]
    return tuple(dict.fromkeys(_found(kept)))


def _found(tokens: list[tuple[str, str]]) -> list[Selector]:
    found: list[Selector] = []
    place = 0
    while place < len(tokens):
        kind, text = tokens[place]
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if kind == "name" and text.lower() in LABEL_LISTS:
            place = _after(tokens, place + 1, "(", ")")
        elif text == "{":
            place, matchers = _matchers(tokens, place)
            found.append(Selector("", matchers))
        elif kind == "name" and text.lower() not in WORDS and following != "(":
            place, matchers = _matchers(tokens, place + 1)
            found.append(Selector(text, matchers))
        else:
            place += 1
    return found


def _after(tokens: list[tuple[str, str]], place: int, opening: str, closing: str) -> int:
    """The place after a bracketed list, or ``place`` when none begins there."""
    if place >= len(tokens) or tokens[place][1] != opening:
        return place
    while tokens[place][1] != closing:
        place += 1
    return place + 1


def _matchers(tokens: list[tuple[str, str]], place: int) -> tuple[int, tuple[Matcher, ...]]:
    end = _after(tokens, place, "{", "}")
    inside = [text for _, text in tokens[place + 1 : end - 1] if text != ","]
    triples = zip(inside[::3], inside[1::3], inside[2::3], strict=True)
    return end, tuple(Matcher(label, sign, _unquoted(value)) for label, sign, value in triples)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])
