"""What PostgreSQL prints differently after a restore, although it means the same.

``EXISTS (SELECT 'x')`` is printed as ``SELECT 'x'::text``. Read back, the column has the name of the type, and is printed as
``SELECT 'x'::text AS text``. ``SELECT f.a FROM f()`` is printed as ``FROM f() f(a, b)``, with the columns that the function had
when the view was made. If its row type has got a column since, the restored view prints that one too; a name at the end of
such a list that is not used means nothing. A natural outer join of tables without a common column is printed as
``LEFT JOIN b ON TRUE``, and after a restore as ``ON (true)``. The roles of a policy are printed in the order in which the server
happens to find them. ``CREATE TABLE archive (LIKE orders)`` copies the names of NOT NULL constraints (since 18). If the copy is restored
first, the original's constraint, whose name is not in the dump, gets a number.
"""

import re

from backup.postgres.identifiers import NAME
from backup.verify.nested import flat

_FUNCTIONS = frozenset({"FUNCTION", "PROCEDURE"})
_TABLES = frozenset({"TABLE", "FOREIGN TABLE"})
_KINDS = _FUNCTIONS | {"VIEW", "MATERIALIZED VIEW", "RULE", "POLICY"}
# Functions whose bodies are printed from what was parsed; others are printed as they were written.
_PARSED = re.compile(rb"\n *(?:BEGIN ATOMIC\n|RETURN )")
_BODY = b"\n    AS "
_STRING = rb"'(?:[^']|'')*'"
# Types that a constant is printed with, and the name that a column gets from each.
_NAMES = {
    b"text": b"text",
    b"integer": b"int4",
    b"bigint": b"int8",
    b"smallint": b"int2",
    b"numeric": b'"numeric"',
    b"real": b"float4",
    b"double precision": b"float8",
    b'"bit"': b'"bit"',
    b"unknown": b"unknown",
}
_CONSTANT = re.compile(
    rb"(?P<constant>(?:" + _STRING + rb"|NULL)::(?P<type>" + b"|".join(map(re.escape, _NAMES)) + rb"))"
    rb"(?: COLLATE (?:"
    + NAME
    + rb"\.)?"
    + NAME
    + rb"\))? AS (?P<name>"
    + b"|".join(map(re.escape, _NAMES.values()))
    + rb")(?=[\s,);]|$)"
    rb"|" + _STRING
)
_ALIAS = re.compile(
    rb"(?P<call>\)(?: WITH ORDINALITY)? "
    + NAME
    + rb"\()(?P<columns>"
    + NAME
    + rb"(?:, "
    + NAME
    + rb")*)\)|"
    + _STRING
)
# What ``-1::integer`` is printed as. Read back, it is a constant.
_NEGATIVE = re.compile(rb"\(- (?P<digits>\d+(?:\.\d+)?)\)|" + _STRING + rb"|\"(?:[^\"]|\"\")*\"")
_JOINED = re.compile(rb" ON (?P<always>TRUE)(?![\w$\x80-\xff])|" + _STRING + rb"|\"(?:[^\"]|\"\")*\"")
_NOT_NULL = re.compile(
    rb"CONSTRAINT (?:\w+_not_null\d+|\"(?:[^\"]|\"\")+_not_null\d+\") (?=NOT NULL)|"
    + _STRING
    + rb"|\"(?:[^\"]|\"\")*\""
)
_POLICY = re.compile(
    rb"(CREATE POLICY "
    + NAME
    + rb" ON "
    + NAME
    + rb"\."
    + NAME
    + rb"(?: AS RESTRICTIVE)?(?: FOR [A-Z]+)? TO )"
    rb"(" + NAME + rb"(?:, " + NAME + rb")+)(?= USING| WITH CHECK|;)"
)
_NAME = re.compile(NAME)
_WORD = rb"(?<![\w$\x80-\xff])%s(?![\w$\x80-\xff])"


def settled(kind: str, definition: bytes) -> bytes:
    """A definition of an object of a kind, in one form for all that PostgreSQL prints in several."""
    if kind in _FUNCTIONS and not _PARSED.search(definition):
        head, begins, body = definition.partition(_BODY)
        return _NEGATIVE.sub(_as_constant, flat(head)) + begins + body
    definition = _NEGATIVE.sub(_as_constant, flat(definition))
    if kind in _TABLES:
        definition = _NOT_NULL.sub(
            lambda found: b"" if found[0].startswith(b"CONSTRAINT ") else found[0], definition
        )
    if kind == "POLICY":
        definition = _POLICY.sub(_sorted_roles, definition)
    if kind in _KINDS:
        definition = _JOINED.sub(lambda found: b" ON (true)" if found["always"] else found[0], definition)
        definition = _without_unused(_CONSTANT.sub(_without_name, definition))
    return definition


def _as_constant(found: re.Match[bytes]) -> bytes:
    digits = found["digits"]
    if digits is None:
        return found[0]
    return b"'-" + digits + b"'::" + (b"numeric" if b"." in digits else b"integer")


def _sorted_roles(found: re.Match[bytes]) -> bytes:
    return bytes(found[1]) + b", ".join(sorted(_NAME.findall(found[2])))


def _without_name(found: re.Match[bytes]) -> bytes:
    if not found["constant"] or _NAMES[found["type"]] != found["name"]:
        return found[0]
    return found[0][: found.start("name") - found.start() - len(b" AS ")]


def _without_unused(definition: bytes) -> bytes:
    if not any(found["call"] for found in _ALIAS.finditer(definition)):
        return definition
    elsewhere = _ALIAS.sub(lambda found: found["call"] or b"", definition)

    def shortened(found: re.Match[bytes]) -> bytes:
        if not found["call"]:
            return found[0]
        columns = _NAME.findall(found["columns"])
        while columns and not re.search(_WORD % re.escape(columns[-1]), elsewhere):
            columns.pop()
        return bytes(found["call"]) + b", ".join(columns) + b")"

    return _ALIAS.sub(shortened, definition)
