"""Definitions in one form where PostgreSQL itself has two for the same thing.

``status IN ('a', 'b')`` on a varchar is printed as ``(ARRAY['a'::character varying, …])::text[]``. Read back and printed
again it is ``ARRAY[('a'::character varying)::text, …]``, from then on unchanged: the cast has moved from the array to its
elements. A healthy restore must not be reported for it.
"""

import re

_ELEMENT = rb"'(?:[^']|'')*'::character varying(?:\(\d+\))?"
_CAST_ARRAY = re.compile(rb"\(ARRAY\[(" + _ELEMENT + rb"(?:, " + _ELEMENT + rb")*)\]\)::text\[\]")


def canonical(line: bytes) -> bytes:
    """One line of a definition, with casts of constant arrays written as casts of their elements."""
    if b"(ARRAY[" not in line:
        return line
    return _CAST_ARRAY.sub(lambda match: b"ARRAY[" + _cast_elements(match[1]) + b"]", line)


def _cast_elements(elements: bytes) -> bytes:
    return b", ".join(b"(" + element + b")::text" for element in re.findall(_ELEMENT, elements))
