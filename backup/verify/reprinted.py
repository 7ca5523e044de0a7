"""What PostgreSQL prints differently after a restore, although it means the same.

``EXISTS (SELECT 'x')`` is printed as ``SELECT 'x'::text``. Read back, the column has the name of the type, and is printed as
``SELECT 'x'::text AS text``. ``SELECT f.a FROM f()`` is printed as ``FROM f() f(a, b)``, with the columns that the function had
when the view was made. If its row type has gained a column since, the restored view prints that one too; a name at the end of
such a list that is not used means nothing. A natural outer join of tables without a common column is printed as
``LEFT JOIN b ON TRUE``, and after a restore as ``ON (true)``. The roles of a policy are printed in the order in which the server
happens to find them. ``CREATE TABLE archive (LIKE orders)`` copies the names of NOT NULL constraints (since 18). If the copy is restored
first, the original's constraint, whose name is not in the dump, gets a number. Columns of statistics and publications are printed
in the table's order, which a restore changes in a table that inherits (:mod:`backup.verify.inheritance`).
"""

import re

from backup.postgres.identifiers import NAME, unquoted
from backup.verify.nested import flat
from backup.verify.normalize import TYPE

_FUNCTIONS = frozenset({"FUNCTION", "PROCEDURE"})
_TABLES = frozenset({"TABLE", "FOREIGN TABLE"})
_KINDS = _FUNCTIONS | {"VIEW", "MATERIALIZED VIEW", "RULE", "POLICY"}
# Functions whose bodies are printed from what was parsed; others are printed as they were written.
_PARSED = re.compile(rb"\n *(?:BEGIN ATOMIC\n|RETURN )")
_BODY = b"\n    AS "
_STRING = rb"'(?:[^']|'')*'"
# The name that a column without one gets from a cast is that of the type, which is printed differently for these.
_NAMES = {
    b"character": "bpchar",
    b"character varying": "varchar",
    b"bit varying": "varbit",
    b"boolean": "bool",
    b"integer": "int4",
    b"bigint": "int8",
    b"smallint": "int2",
    b"real": "float4",
    b"double precision": "float8",
    b"timestamp with time zone": "timestamptz",
    b"timestamp without time zone": "timestamp",
    b"time with time zone": "timetz",
    b"time without time zone": "time",
}
_MODIFIER = re.compile(rb"(\"(?:[^\"]|\"\")*\")|\([\d, -]+\)")
_CONSTANT = re.compile(
    rb"(?P<constant>(?:" + _STRING + rb"|NULL)::(?P<type>" + TYPE + rb")(?:\[\])*"
    rb"|(?<![\w$.\x80-\xff\"])(?:true|false))"
    rb"(?: COLLATE (?:" + NAME + rb"\.)?" + NAME + rb"\))? AS (?P<name>" + NAME + rb")(?=[\s,);]|$)"
    rb"|" + _STRING + rb"|\"(?:[^\"]|\"\")*\""
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
# A list of columns whose order means nothing; expressions follow those of statistics.
_COLUMNS = {
    "STATISTICS": re.compile(
        rb"(CREATE STATISTICS "
        + NAME
        + rb"\."
        + NAME
        + rb"(?: \([a-z, ]+\))? ON )("
        + NAME
        + rb"(?:, "
        + NAME
        + rb")*)(?=, | FROM )"
    ),
    "PUBLICATION TABLE": re.compile(
        rb"(ALTER PUBLICATION "
        + NAME
        + rb" ADD TABLE ONLY "
        + NAME
        + rb"\."
        + NAME
        + rb" \()("
        + NAME
        + rb"(?:, "
        + NAME
        + rb")*)(?=\))"
    ),
}
_NAME = re.compile(NAME)
# Of a type; its schema and its words are separate.
_WORDS = re.compile(rb'"(?:[^"]|"")+"|[^\s".]+')
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
        definition = _POLICY.sub(_sorted_names, definition)
    if kind in _COLUMNS:
        definition = _COLUMNS[kind].sub(_sorted_names, definition, count=1)
    if kind in _KINDS:
        definition = _JOINED.sub(lambda found: b" ON (true)" if found["always"] else found[0], definition)
        definition = _without_unused(_CONSTANT.sub(_without_name, definition))
    return definition


def _as_constant(found: re.Match[bytes]) -> bytes:
    digits = found["digits"]
    if digits is None:
        return found[0]
    return b"'-" + digits + b"'::" + (b"numeric" if b"." in digits else b"integer")


def _sorted_names(found: re.Match[bytes]) -> bytes:
    return bytes(found[1]) + b", ".join(sorted(_NAME.findall(found[2])))


def _without_name(found: re.Match[bytes]) -> bytes:
    if not found["constant"] or _named(found["type"] or b"boolean") != unquoted(found["name"]):
        return found[0]
    return found[0][: found.start("name") - found.start() - len(b" AS ")]


def _named(printed: bytes) -> str:
    """The name that a column gets from a cast to a type."""
    plain = b" ".join(_MODIFIER.sub(rb"\1", printed).split())
    if plain.startswith(b"interval "):
        return "interval"
    return _NAMES.get(plain) or unquoted(_WORDS.findall(plain)[-1])


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
