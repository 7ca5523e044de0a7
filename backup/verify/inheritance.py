"""What a restore changes in the definition of a table that inherits from another one.

Its columns may be in a different order, and so may the statements about them. A column with the default storage or
compression gets that of its parent, if the parent's differs, because ``pg_dump`` prints only what differs from the default.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backup.postgres.identifiers import NAME, unquoted

_TOKEN = re.compile(rb"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|[(),]")
_PARENTS = re.compile(
    rb"\nINHERITS \((" + NAME + rb"\." + NAME + rb"(?:, " + NAME + rb"\." + NAME + rb")*)\)"
)
_PARENT = re.compile(rb"(" + NAME + rb")\.(" + NAME + rb")")
_STORED = re.compile(
    rb"ALTER TABLE (?:ONLY )?"
    + NAME
    + rb"\."
    + NAME
    + rb" (ALTER COLUMN "
    + NAME
    + rb" SET (?:STORAGE|COMPRESSION)) (\w+);"
)
Table = tuple[str, str]


@dataclass(frozen=True)
class Shape:
    """What the definition of a table says about inheritance.

    Attributes:
        parents: the tables that it inherits from.
        columns: digest regardless of the order of columns, of statements about them, and of their storage.
        stored: how columns are stored, where that is not the usual way.
    """

    parents: tuple[Table, ...]
    columns: str
    stored: Mapping[bytes, bytes]


def shape(owner: bytes, statements: Sequence[bytes]) -> Shape:
    """The shape of a table from the statements that make it."""
    stored = {found[1]: found[2] for found in map(_STORED.fullmatch, statements) if found}
    parents = _parents(statements[0]) if statements else ()
    if not parents:
        return Shape((), "", stored)
    others = sorted(each for each in statements[1:] if not _STORED.fullmatch(each))
    parts = [owner, *sorted(_parts(statements[0])), *others]
    return Shape(parents, hashlib.sha256(b"\0".join(parts)).hexdigest(), stored)


def same(expected: Shape, found: Shape, tables: Mapping[Table, Shape]) -> bool:
    """Whether two differing definitions of an inherited table differ only in what a restore changes.

    Args:
        tables: the shapes of the restored tables.
    """
    if not expected.columns or expected.columns != found.columns:
        return False
    changed = dict(found.stored.items() - expected.stored.items())
    theirs = [tables[parent].stored for parent in found.parents if parent in tables]
    return expected.stored.items() <= found.stored.items() and all(
        any(parent.get(column) == value for parent in theirs) for column, value in changed.items()
    )


def _parents(creation: bytes) -> tuple[Table, ...]:
    found = _PARENTS.search(creation)
    return (
        tuple((unquoted(schema), unquoted(name)) for schema, name in _PARENT.findall(found[1]))
        if found
        else ()
    )


def _parts(definition: bytes) -> list[bytes]:
    """The top-level parts, separated by commas within the outermost parentheses."""
    parts, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(definition):
        depth += {b"(": 1, b")": -1}.get(token[0], 0)
        if (token[0], depth) in ((b",", 1), (b"(", 1), (b")", 0)):
            parts.append(definition[begin : token.start()].strip())
            begin = token.end()
    return [*parts, definition[begin:].strip()]
