import psycopg
import pytest

from backup.verify.normalize import canonical
from stack.servers import Postgres

CHECKS = [
    "status IN ('draft', 'published')",
    "status IN ('it''s', 'a, b', '[x]')",
    "status NOT IN ('a', 'b') OR length(status) > 3",
    "status = 'a'",
    "status IN ('a', NULL)",
    "status IN ('a', upper('b, c'), ('{x,y}'::varchar[])[1])",
    "status IN (E'two\\nlines', 'c')",
    "CASE WHEN status IN ('a', 'b') THEN 'x' ELSE 'y' END IN ('x', ']')",
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_definition_read_back_and_printed_again_is_the_same(postgres: Postgres, check: str) -> None:
    with psycopg.connect(postgres.url) as connection:
        connection.execute(f"CREATE TEMP TABLE first (status varchar(16), CONSTRAINT c CHECK ({check}))")
        printed = _printed(connection, "first")
        connection.execute(f"CREATE TEMP TABLE second (status varchar(16), CONSTRAINT c {printed})")
        again = _printed(connection, "second")
    assert canonical(printed.encode()) == canonical(again.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ANY ((ARRAY['a'::character varying])::text[])", "ANY ((ARRAY['b'::character varying])::text[])"),
        ("ANY ((ARRAY['a'::character varying])::text[])", "ALL (ARRAY[('a'::character varying)::text])"),
        (
            "ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])",
            "ANY (ARRAY[('a'::character varying)::text])",
        ),
    ],
)
def test_a_real_difference_remains(one: str, other: str) -> None:
    assert canonical(one.encode()) != canonical(other.encode())


def _printed(connection: "psycopg.Connection[tuple[str]]", table: str) -> str:
    row = connection.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND conname = 'c'",
        [table],
    ).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    "text", [b"SELECT (ARRAY['never ends", b"(ARRAY[a, b])::int", b"'(ARRAY[a])::int[]'"]
)
def test_other_casts_are_unchanged(text: bytes) -> None:
    assert canonical(text) == text
