"""Values of row types, whose fields a restore may mix up, and keys whose hash a restore changes."""

import pytest

from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command, value
from tests.backup.test_field import checks


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


# The columns of c and d are a, x, y, b; those of "e" are in the order of its parent, and f has all of its columns.
TABLES = """
CREATE TABLE p (a int); CREATE TABLE c (x int, y int) INHERITS (p); CREATE TABLE e () INHERITS (p);
CREATE TABLE d () INHERITS (c); ALTER TABLE p ADD b int; CREATE TABLE f (a int, b int, z int); ALTER TABLE f INHERIT p;
INSERT INTO c VALUES (1, 2, 3, 4)
"""
HOLDERS = """
CREATE DOMAIN row_of_c AS c; CREATE TYPE pair AS (n int, one row_of_c); CREATE TYPE span AS RANGE (subtype = c);
CREATE TABLE plain (v c); INSERT INTO plain VALUES ((1, 2, 3, 4));
CREATE TABLE lists (v c[]); INSERT INTO lists VALUES (ARRAY[(1, 2, 3, 4)::c]);
CREATE TABLE pairs (n int, v pair); INSERT INTO pairs SELECT 1, ROW(1, (1, 2, 3, 4)::row_of_c)::pair;
CREATE TABLE spans (v span, w span_multirange); INSERT INTO spans VALUES (span(NULL, (1, 2, 3, 4)::c), '{}');
CREATE TABLE within (v pairs); INSERT INTO within SELECT pairs FROM pairs;
CREATE TABLE grandchild (v d); INSERT INTO grandchild VALUES ((1, 2, 3, 4));
"""
HARMLESS = """
CREATE TABLE none (v c); INSERT INTO none VALUES (NULL);
CREATE TABLE same (v e, w f, x p); INSERT INTO same VALUES ((1, 4), (1, 4, 3), (1, 4));
CREATE VIEW rows AS SELECT c FROM c; CREATE MATERIALIZED VIEW filled AS SELECT c FROM c;
"""


def test_rows_as_values_whose_fields_a_restore_mixes_up(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(f"{TABLES}; {HOLDERS}; {HARMLESS}", "nested")
    there = {"DATABASE_URL": postgres.url_for(name)}
    held = {
        **dict.fromkeys(["plain.v", "lists.v", "pairs.v", "spans.v", "spans.w", "within.v"], "public.c"),
        "grandchild.v": "public.d",
    }
    # What is stated before anything is lost does not depend on the rows.
    stated = [
        f"column public.{column} contains rows of {table}: a restore changes the order of that table's columns, "
        "and puts the values into other fields"
        for column, table in sorted({**held, "none.v": "public.c"}.items())
    ]
    assert checks(command("doctor", "--json", **there))[f"postgres {name}: left out"]["detail"] == "; ".join(
        stated
    )
    command("run", **there).passes(stated[0])
    done = command("verify", "--json", **there)
    assert done.status == 1
    assert [(each["kind"], each["object"], each["found"]) for each in done.json["differences"]] == [
        (
            "values",
            f"public.{column}",
            f"values in other fields, because the columns of {table} are in a different order",
        )
        for column, table in sorted(held.items())
    ]
    assert set(stated) < set(done.json["notes"])


def test_rows_as_values_whose_fields_stay(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(f"{TABLES}; {HARMLESS}", "fields")
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    report = command.passed("verify", **there)
    assert report["differences"] == []
    into = command.passed("restore", "latest", **there)["into"]
    assert value(postgres, into, "SELECT row_to_json(same)::text FROM same") == (
        '{"v":{"a":1,"b":4},"w":{"a":1,"b":4,"z":3},"x":{"a":1,"b":4}}'
    )


CONSTANTS = """
CREATE TABLE defaults (a c DEFAULT '(1,2,3,4)', b c[] DEFAULT '{"(1,2,3,4)"}', n c DEFAULT NULL, q int CHECK (ROW(q, 1, 1, 1)::c IS NOT NULL));
CREATE VIEW shown AS SELECT '(1,2,3,4)'::c AS one, c, NULL::c AS none FROM c; CREATE VIEW harmless AS SELECT c, c.*::c AS d, NULL::c AS e FROM c;
CREATE FUNCTION f(v c DEFAULT '(1,2,3,4)') RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN row_of_c AS c DEFAULT '(1,2,3,4)'
"""


def test_constants_whose_fields_a_restore_mixes_up(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """They are printed with their fields in order, so their text is the same after a restore."""
    name = new_database(f"{TABLES}; {CONSTANTS}", "constants")
    there = {"DATABASE_URL": postgres.url_for(name)}
    held = [
        "default value for public.defaults.a",
        "default value for public.defaults.b",
        "function public.f(public.c)",
        'rule "_RETURN" on public.shown',
        "table constraint defaults_q_check on public.defaults",
        "type public.row_of_c",
    ]
    stated = [
        f"{each} has constants that are rows of public.c: a restore changes the order of that table's columns,"
        " and puts the values into other fields"
        for each in held
    ]
    command("run", **there).passes(*stated)
    done = command("verify", "--json", **there)
    assert done.status == 1
    assert [(each["kind"], each["object"]) for each in done.json["differences"]] == [
        ("values", each) for each in held
    ]
