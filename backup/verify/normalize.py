"""Normalizes definitions that PostgreSQL prints in two ways.

``status IN ('a', 'b')`` on a varchar is printed as ``(ARRAY['a'::character varying, …])::text[]``. Read back and printed
again it is ``ARRAY[('a'::character varying)::text, …]``, and unchanged from then on: the cast has moved from the array to
its elements (``transformArrayExpr`` in PostgreSQL's ``parse_expr.c``). This happens for every element type, at every depth,
and without the parentheses where an expression is printed in the short form (extended statistics).
"""

import re
from dataclasses import dataclass, field

_QUOTED = rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""
_DOLLAR = rb"(?<![\w$\x80-\xff])(\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$).*?\1"
_TOKEN = re.compile(rb"(?<![\w$\x80-\xff\"])ARRAY\[|[][(),]|" + _QUOTED + rb"|" + _DOLLAR, re.DOTALL)
_WORD = rb"(?:\"(?:[^\"]|\"\")+\"|[A-Za-z_\x80-\xff][\w$\x80-\xff]*)"
_MODIFIER = rb"(?:\(\d+(?:,\s?-?\d+)?\))?"
_MORE = (
    rb"(?: (?:varying|precision|with(?:out)? time zone|year|month|day|hour|minute|second|to)"
    + _MODIFIER
    + rb")*"
)
# A type, as it is printed in a cast, without the brackets of an array.
TYPE = _WORD + rb"(?:\." + _WORD + rb")*" + _MODIFIER + _MORE
# The type of an array's elements in a cast that follows the array.
_CAST = re.compile(rb"::(" + TYPE + rb")\[\](?!\[)")
# Expressions without parentheses under a cast in the short form: constants, columns, calls, and casts of these.
_SIMPLE = re.compile(
    rb"(?:"
    + _QUOTED
    + rb"|[\w.$\x80-\xff]+|\"(?:[^\"]|\"\")*\")+(?:\(.*\))?(?:::[\w .\"\x80-\xff]+(?:\(\d+(?:,\d+)?\))?(?:\[\])?)*",
    re.DOTALL,
)


@dataclass
class _Array:
    """``ARRAY[…]`` with its elements; each is a text or another array."""

    elements: "list[_Part]" = field(default_factory=list)

    def cast(self, type_name: bytes, *, short: bool) -> None:
        """Move a cast of the whole array to its elements."""
        for number, element in enumerate(self.elements):
            if isinstance(element, _Array):
                element.cast(type_name, short=short)
            else:
                bare = short and _SIMPLE.fullmatch(element)
                self.elements[number] = (element if bare else b"(" + element + b")") + b"::" + type_name

    def text(self) -> bytes:
        return b"ARRAY[" + b", ".join(map(_text, self.elements)) + b"]"


_Part = bytes | _Array


@dataclass
class _Frame:
    """An open bracket: parentheses, a subscript, or an array with its elements so far."""

    opening: bytes
    parts: "list[_Part]" = field(default_factory=list)
    array: _Array = field(default_factory=_Array)

    def end_element(self) -> None:
        parts = [part for part in self.parts if isinstance(part, _Array) or part.strip()]
        if len(parts) == 1 and isinstance(parts[0], _Array):
            self.array.elements.append(parts[0])
        elif text := b"".join(map(_text, self.parts)).strip():
            self.array.elements.append(text)
        self.parts = []


def canonical(text: bytes) -> bytes:
    """A definition, with casts of arrays written as casts of their elements."""
    return _Normalizer(text).result() if b"ARRAY[" in text else text


class _Normalizer:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0
        self._frames = [_Frame(b"")]

    def result(self) -> bytes:
        """The normalised text; the original one if its brackets do not match."""
        while token := _TOKEN.search(self._text, self._position):
            self._add(self._text[self._position : token.start()])
            self._position = token.end()
            if not self._take(token[0]):
                return self._text
        self._add(self._text[self._position :])
        return b"".join(map(_text, self._frames[0].parts)) if len(self._frames) == 1 else self._text

    def _take(self, token: bytes) -> bool:
        top = self._frames[-1]
        if token in (b"ARRAY[", b"[", b"("):
            self._frames.append(_Frame(token))
        elif token in (b"]", b")"):
            return self._close(token)
        elif token == b"," and top.opening == b"ARRAY[":
            top.end_element()
        else:
            self._add(token)
        return True

    def _close(self, token: bytes) -> bool:
        frame = self._frames.pop()
        if not self._frames or (frame.opening == b"(") != (token == b")"):
            return False
        if frame.opening == b"ARRAY[":
            frame.end_element()
            self._add(self._with_casts(frame.array, short=True))
        elif self._is_cast_array(frame):
            array = next(part for part in frame.parts if isinstance(part, _Array))
            self._add(self._with_casts(array, short=False))
        else:
            self._add(frame.opening + b"".join(map(_text, frame.parts)) + token)
        return True

    def _is_cast_array(self, frame: _Frame) -> bool:
        """Whether parentheses contain only an array and are followed by a cast."""
        alone = frame.opening == b"(" and len(frame.parts) == 1 and isinstance(frame.parts[0], _Array)
        return alone and _CAST.match(self._text, self._position) is not None

    def _with_casts(self, array: _Array, *, short: bool) -> _Part:
        while array.elements and (cast := _CAST.match(self._text, self._position)):
            array.cast(cast[1], short=short)
            self._position = cast.end()
        return array

    def _add(self, part: _Part) -> None:
        if part:
            self._frames[-1].parts.append(part)


def _text(part: _Part) -> bytes:
    return part.text() if isinstance(part, _Array) else part
