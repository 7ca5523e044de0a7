"""Canonical JSON: one text for each value, as ``json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)`` writes it.

With an indentation, the standard library takes a step in Python for each value. This gives the same text several times
as fast, because lists of equal objects, such as the tables of a manifest, are written column by column.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, repeat
from json.encoder import encode_basestring
from typing import Any

_SCALARS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    float: json.dumps,
}


def members(value: Mapping[str, Any]) -> dict[str, str]:
    """The text of each member of a document, by its name."""
    return {name: f"{encode_basestring(name)}: {_text(each, 1)}" for name, each in value.items()}


def joined(texts: Mapping[str, str]) -> bytes:
    """The document with these members."""
    return _enclosed("{", [texts[name] for name in sorted(texts)], "}", 0).encode()


def _text(value: Any, depth: int) -> str:
    kind = type(value)
    if (scalar := _SCALARS.get(kind)) is not None:
        return scalar(value)
    if kind is dict:
        texts = [f"{encode_basestring(name)}: {_text(value[name], depth + 1)}" for name in sorted(value)]
        return _enclosed("{", texts, "}", depth)
    if kind is list:
        rows = _rows(value, depth + 1)
        return _enclosed("[", [rows] if rows else [_text(each, depth + 1) for each in value], "]", depth)
    raise TypeError(f"{kind.__name__} is not a value of JSON")


def _rows(value: list[Any], depth: int) -> str:
    """The text of objects that have the same names and only scalars; empty if they are anything else."""
    if len(value) < 2 or set(map(type, value)) != {dict}:
        return ""
    names = sorted(value[0])
    if not names or len(set(map(tuple, value))) != 1:
        return ""
    line = "\n" + " " * depth
    begin, end = f"{{{line} ", f"{line}}}"
    pieces: list[Iterable[str]] = []
    for place, name in enumerate(names):
        column = _column([row[name] for row in value])
        if column is None:
            return ""
        before = f",{line} " if place else f"{end},{line}{begin}"
        pieces += [repeat(f"{before}{encode_basestring(name)}: "), column]
    text = "".join(chain.from_iterable(zip(*pieces, strict=False)))
    return f"{text.removeprefix(f'{end},{line}')}{end}"


def _column(values: list[Any]) -> list[str] | None:
    kinds = set(map(type, values))
    if not kinds.issubset(_SCALARS):
        return None
    if len(kinds) == 1:
        return list(map(_SCALARS[kinds.pop()], values))
    return [_SCALARS[type(value)](value) for value in values]


def _enclosed(begin: str, texts: Iterable[str], end: str, depth: int) -> str:
    line = "\n" + " " * depth
    inner = f",{line} ".join(texts)
    return f"{begin}{line} {inner}{line}{end}" if inner else begin + end
