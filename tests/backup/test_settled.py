"""What a correct restore changes in definitions does not count as a difference, and what looks similar does."""

import pytest

from backup.verify import inheritance
from backup.verify.inheritance import Shape, shape
from backup.verify.reprinted import settled

PARENT = [
    b"CREATE TABLE s.p (\n    a text,\n    b text\n);",
    b"ALTER TABLE ONLY s.p ALTER COLUMN a SET STORAGE MAIN;",
]
CHILD = [
    b"CREATE TABLE s.c (\n    z integer,\n    b text,\n    a text\n)\nINHERITS (s.p);",
    b"ALTER TABLE ONLY s.c ALTER COLUMN b SET STATISTICS 7;",
    b"ALTER TABLE ONLY s.c ALTER COLUMN a SET STATISTICS 8;",
]
RESTORED = [
    b"CREATE TABLE s.c (\n    a text,\n    b text,\n    z integer\n)\nINHERITS (s.p);",
    b"ALTER TABLE ONLY s.c ALTER COLUMN a SET STATISTICS 8;",
    b"ALTER TABLE ONLY s.c ALTER COLUMN b SET STATISTICS 7;",
]
MAIN = b"ALTER TABLE ONLY s.c ALTER COLUMN a SET STORAGE MAIN;"


def of(statements: list[bytes]) -> Shape:
    return shape(b"me", statements)


def equal(expected: list[bytes], found: list[bytes]) -> bool:
    return inheritance.same(of(expected), of(found), {("s", "p"): of(PARENT)})


def test_columns_and_statements_about_them_in_a_different_order() -> None:
    assert equal(CHILD, RESTORED)
    assert not equal(CHILD, RESTORED[:2])
    assert not equal(CHILD, [*RESTORED[:2], RESTORED[2].replace(b"7", b"9")])
    assert not equal(CHILD, [RESTORED[0].replace(b"z integer", b"z bigint"), *RESTORED[1:]])


def test_storage_comes_from_a_parent_only() -> None:
    assert equal(CHILD, [*RESTORED, MAIN])
    assert not equal([*CHILD, MAIN], RESTORED)
    assert not equal(CHILD, [*RESTORED, MAIN.replace(b"MAIN", b"EXTERNAL")])
    assert not equal(CHILD, [*RESTORED, MAIN.replace(b"COLUMN a", b"COLUMN b")])
    assert not equal([*CHILD, MAIN], [*RESTORED, MAIN.replace(b"MAIN", b"PLAIN")])
    alone = [each.replace(b"\nINHERITS (s.p)", b"") for each in CHILD]
    assert not equal(alone, [*alone, MAIN])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'x'::text", "SELECT 'x'::text AS text"),
        ("SELECT 'it''s, ) AS text'::text, 1", "SELECT 'it''s, ) AS text'::text AS text, 1"),
        ("ARRAY( SELECT '-1'::integer)", "ARRAY( SELECT '-1'::integer AS int4)"),
        ("( SELECT '-1.5'::numeric LIMIT 1)", "( SELECT '-1.5'::numeric AS \"numeric\" LIMIT 1)"),
        ("( SELECT NULL::text)", "( SELECT NULL::text AS text)"),
        ("( SELECT ('x'::text COLLATE \"C\"))", "( SELECT ('x'::text COLLATE \"C\") AS text)"),
        ("SELECT f.a FROM f() f(a, b)", 'SELECT f.a FROM f() f(a, b, z, "Z z")'),
        ("FROM (a\n     LEFT JOIN b ON TRUE);", "FROM (a\n     LEFT JOIN b ON (true));"),
        ("FROM f('y, )') WITH ORDINALITY \"F f\"(a)", "FROM f('y, )') WITH ORDINALITY \"F f\"(a, b)"),
    ],
)
def test_equal(one: str, other: str) -> None:
    for kind in ("VIEW", "MATERIALIZED VIEW", "RULE", "POLICY"):
        assert settled(kind, one.encode()) == settled(kind, other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT 'x'::text AS text", "SELECT 'y'::text AS text"),
        ("SELECT 'x'::text", "SELECT 'x'::text AS int4"),
        ("SELECT 'x'::text", "SELECT 'x'::text AS texts"),
        ("SELECT a", "SELECT a AS text"),
        ("SELECT 'x'::text AS a", "SELECT 'x'::text"),
        ("SELECT ' ''q''::text AS text '", "SELECT ' ''q''::text '"),
        ("SELECT f.a, f.b FROM f() f(a, b)", "SELECT f.a, f.b FROM f() f(b, a)"),
        ("SELECT f.z FROM f() f(a, z)", "SELECT f.z FROM f() f(z)"),
        ("SELECT f.z FROM f() f(a, z)", "SELECT f.z FROM f() g(a, z)"),
        ("SELECT ' ON TRUE'", "SELECT ' ON (true)'"),
        ('SELECT " ON TRUE"', 'SELECT " ON (true)"'),
        ("FROM a LEFT JOIN b ON TRUE", "FROM a LEFT JOIN b ON (false)"),
        ("SELECT ') x(a, b)'", "SELECT ') x(a)'"),
    ],
)
def test_different(one: str, other: str) -> None:
    assert settled("VIEW", one.encode()) != settled("VIEW", other.encode())


def test_a_name_of_a_constraint_that_another_table_has_taken() -> None:
    one, other = (
        f"\"It's\" integer{name} NOT NULL DEFAULT 'CONSTRAINT c_not_null1 NOT NULL'".encode()
        for name in ("", " CONSTRAINT orders_id_not_null1")
    )
    assert settled("TABLE", one) == settled("TABLE", other)
    assert settled("TABLE", one) == settled(
        "TABLE", one.replace(b" NOT", b' CONSTRAINT "My t_a_not_null12" NOT', 1)
    )
    assert settled("TABLE", one) != settled("TABLE", other.replace(b"null1 ", b"null "))
    assert settled("TABLE", one) != settled("TABLE", one.replace(b"null1 ", b""))
    assert settled("TABLE", one) != settled("TABLE", other.replace(b" NOT NULL", b" NULL", 1))


def test_bodies_that_are_kept_as_written_are_compared_as_written() -> None:
    one, other = (f"CREATE FUNCTION f() AS $$SELECT 'x'::text{end}$$;".encode() for end in ("", " AS text"))
    assert settled("FUNCTION", one) != settled("FUNCTION", other)
    one, other = (f"\n    BEGIN ATOMIC\n SELECT 'x'::text{end};\nEND;".encode() for end in ("", " AS text"))
    assert settled("FUNCTION", one) == settled("FUNCTION", other)


def test_the_roles_of_a_policy_have_no_order() -> None:
    text = (
        b"CREATE POLICY \"p TO x, a\" ON s.t AS RESTRICTIVE FOR SELECT TO %s USING ((a = 'TO b, a'::text));"
    )
    one, other = text % b'z, "B b", a', text % b'a, "B b", z'
    assert settled("POLICY", one) == settled("POLICY", other)
    assert settled("POLICY", one) != settled("POLICY", text % b'a, "B b", y')
    assert settled("POLICY", one) != settled("POLICY", one.replace(b"TO b, a", b"TO a, b"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(((a >= 1) AND (a <= 2)) AND b)", "((a >= 1) AND (a <= 2) AND b)"),
        ("(b AND ((a >= 1) AND (a <= 2)))", "(b AND (a >= 1) AND (a <= 2))"),
        ("((((x)) OR (y)) OR (z))", "(((x)) OR (y) OR (z))"),
        (
            "((((x) OR (y)) OR (z)) AND (('a) AND (b') AND c))",
            "(((x) OR (y) OR (z)) AND ('a) AND (b') AND c)",
        ),
    ],
)
def test_nested_connectives_are_flat(one: str, other: str) -> None:
    assert settled("TABLE", one.encode()) == settled("TABLE", other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("((a AND b) OR c)", "(a AND (b OR c))"),
        ("((a OR b) AND c)", "(a OR b AND c)"),
        ("((a AND b) AND c)", "((a AND b) AND d)"),
        ("(NOT (a AND b) AND c)", "(NOT a AND b AND c)"),
        ("(f(a AND b) AND c)", "(f a AND b AND c)"),
        ("('((a AND b) AND c)' AND d)", "('(a AND b AND c)' AND d)"),
        ('("((a" AND b)', '("(a" AND b)'),
    ],
)
def test_others_keep_their_parentheses(one: str, other: str) -> None:
    assert settled("TABLE", one.encode()) != settled("TABLE", other.encode())


def test_a_negated_constant_is_a_constant() -> None:
    for one, other in (
        ("DEFAULT (- 1)", "DEFAULT '-1'::integer"),
        ("((- 1.50))::x", "('-1.50'::numeric)::x"),
    ):
        assert settled("TABLE", one.encode()) == settled("TABLE", other.encode())
    for one, other in (("(- 1)", "(- 2)"), ("'(- 1)'", "'''-1''::integer'"), ("(- a)", "'-a'::integer")):
        assert settled("TABLE", one.encode()) != settled("TABLE", other.encode())
    body, another = (
        f"CREATE FUNCTION f()\n    AS $$SELECT {each}$$;".encode() for each in ("(- 1)", "'-1'::integer")
    )
    assert settled("FUNCTION", body) != settled("FUNCTION", another)
