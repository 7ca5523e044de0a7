"""Plausible mistakes in a query: each of them must change what its panel shows in the simulated stack."""

import re
from collections.abc import Iterator

Change = tuple[re.Match[str], str]
_AGGREGATIONS = {"sum": "max", "max": "min", "min": "max", "avg": "sum", "count": "max"}
_AGGREGATION = re.compile(r"\b(sum|max|min|avg|count)\b(?=\s*(?:\(|by\b|without\b))")
_GROUPED = re.compile(r"\b(?:by|without|on) \(([^)]*)\)")
_MATCHER = re.compile(r'(?P<label>\w+)(?P<sign>=~|!~|!=|=)"(?P<value>[^"]*)"(?P<comma>, )?')
_OPPOSITE = {"=": "!=", "!=": "=", "=~": "!~", "!~": "=~"}
_CALLS = {"rate": "increase", "increase": "rate"}
_CALL = re.compile(r"\b(rate|increase)\b(?=\()")
# A number that is compared with, divided by, or a quantile; not one of a window or of a label's value.
_NUMBER = re.compile(r'(?<![\w."$\[])(?<!e-)(0\.\d+|[2-9]\d*|1\d+)(?![\w."\]]|\.)')


def wrong(expr: str) -> Iterator[tuple[str, str]]:
    """One mistake of each possible kind: its description, and the query with it."""
    for find in (_aggregating, _grouping, _selecting, _calling, _numbers, _signs):
        changes = (change for change in find(expr) if not _is_harmless(expr, change[0]))
        if change := next(changes, None):
            yield _replaced(expr, *change)


def _is_harmless(expr: str, found: re.Match[str]) -> bool:
    """Whether any change there gives the same value: zero times something, the largest of one or of the largest."""
    before = expr[: found.start()]
    return (
        any(start <= found.start() < end for start, end in _zeros(expr))
        or expr.startswith("(label_replace", found.end() + len(" by (queue_name) "))
        or (
            found[0].startswith("without")
            and re.search(r"\bmax ?(by \([^)]*\) )?\((max )$", before) is not None
        )
    )


def _zeros(expr: str) -> Iterator[tuple[int, int]]:
    """Parts that only ensure that something is shown: from each ``0 *`` to the end of its operand."""
    for found in re.finditer(r"(?<![\d.])0 \* ", expr):
        depth, at = 0, found.end()
        while at < len(expr) and depth >= 0 and not (depth == 0 and expr[at - 1] == ")" and at > found.end()):
            depth += {"(": 1, ")": -1}.get(expr[at], 0)
            at += 1
        yield found.start(), at


def _aggregating(expr: str) -> Iterator[Change]:
    for found in _AGGREGATION.finditer(expr):
        yield (found, _AGGREGATIONS[found[0]])


def _grouping(expr: str) -> Iterator[Change]:
    for found in _GROUPED.finditer(expr):
        labels = found[1].split(", ")
        for label in labels:
            rest = ", ".join(one for one in labels if one != label)
            yield (found, found[0].replace(f"({found[1]})", f"({rest})"))


def _selecting(expr: str) -> Iterator[Change]:
    for found in _MATCHER.finditer(expr):
        if not found["value"].startswith("$"):
            yield (found, found[0].replace(found["sign"], _OPPOSITE[found["sign"]], 1))


def _calling(expr: str) -> Iterator[Change]:
    # A quantile is the same of a rate and of an increase.
    for found in _CALL.finditer("" if "histogram_quantile" in expr else expr):
        yield (found, _CALLS[found[0]])


def _numbers(expr: str) -> Iterator[Change]:
    for found in _NUMBER.finditer(expr):
        is_share = float(found[0]) < 1 and found[0] != "0.5"
        yield (found, "0.5" if is_share else f"{float(found[0]) * 3:g}")


def _signs(expr: str) -> Iterator[Change]:
    for sign in ("time() - ", " - time()", " > 0", " == 0", " == 1"):
        for found in re.finditer(re.escape(sign), expr):
            yield (found, "")
    for found in re.finditer("^-", expr):
        yield (found, "")


def _replaced(expr: str, found: re.Match[str], by: str) -> tuple[str, str]:
    changed = expr[: found.start()] + by + expr[found.end() :]
    # The rest of a list of matchers.
    changed = re.sub(r", }", "}", changed)
    return f"{found.start()}: {found[0].strip(', ')} → {by.strip(', ') or 'nothing'}", changed
