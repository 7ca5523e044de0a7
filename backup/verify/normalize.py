"""Normalizes definitions that PostgreSQL prints in two ways.

``status IN ('a', 'b')`` on a varchar is printed as ``(ARRAY['a'::character varying, …])::text[]``. Restored and printed
again, it is ``ARRAY[('a'::character varying)::text, …]`` and no longer changes: the cast has moved from the array to its
elements. A correct restore must not be reported as different because of that.
"""

import re
from collections.abc import Iterator

_BEGIN = b"(ARRAY["
_END = b")::text[]"
# Quoted text has no structure; the rest is distinguished by single characters.
_TOKEN = re.compile(rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[][(),]", re.DOTALL)


def canonical(text: bytes) -> bytes:
    """A definition, with casts of arrays written as casts of their elements."""
    position = text.find(_BEGIN)
    if position < 0:
        return text
    begin = position + len(_BEGIN)
    elements, end = _elements(text, begin)
    if not elements or not text.startswith(_END, end):
        return text[:begin] + canonical(text[begin:])
    cast = b", ".join(b"(" + canonical(element) + b")::text" for element in elements)
    return text[:position] + b"ARRAY[" + cast + b"]" + canonical(text[end + len(_END) :])


def _elements(text: bytes, begin: int) -> tuple[list[bytes], int]:
    """The content of an array between its brackets, and its end; None if the array does not end."""
    elements: list[bytes] = []
    start = begin
    for depth, token in _nested(text, begin):
        if depth < 0:
            return [*elements, text[start : token.start()]], token.end()
        if depth == 0 and token[0] == b",":
            elements.append(text[start : token.start()])
            start = token.end() + 1  # the space after it
    return [], begin


def _nested(text: bytes, begin: int) -> Iterator[tuple[int, re.Match[bytes]]]:
    """Each token with the depth of brackets after it. A negative depth is the end."""
    depth = 0
    for token in _TOKEN.finditer(text, begin):
        depth += (token[0] in b"[(") - (token[0] in b"])")
        yield depth, token
        if depth < 0:
            return
