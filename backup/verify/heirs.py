"""The definition of a table that inherits from another one, without the order of its columns."""

import hashlib
import re

_TOKEN = re.compile(rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[(),]")
_HEIR = re.compile(rb"\nINHERITS \(")


def unordered(owner: bytes, definition: bytes) -> str:
    """A digest that does not depend on the order of columns and constraints; empty if the table has no parent."""
    if not _HEIR.search(definition):
        return ""
    parts = sorted(_parts(definition))
    return hashlib.sha256(b"\0".join([owner, *parts])).hexdigest()


def _parts(definition: bytes) -> list[bytes]:
    """The top-level parts, separated by commas within the outermost parentheses."""
    parts, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(definition):
        depth += {b"(": 1, b")": -1}.get(token[0], 0)
        if (token[0], depth) in ((b",", 1), (b"(", 1), (b")", 0)):
            parts.append(definition[begin : token.start()].strip())
            begin = token.end()
    return [*parts, definition[begin:].strip()]
