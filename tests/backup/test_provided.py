"""What no dump contains: changes to objects that extensions or PostgreSQL itself provide, and what pg_dump never writes."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Provided
from backup.postgres import inventory
from backup.postgres.provided import provided
from backup.verify.provided import differing, hindering
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command
from tests.backup.test_field import proven

CHANGES = """
CREATE EXTENSION unaccent; ALTER FUNCTION unaccent(text) IMMUTABLE;
CREATE EXTENSION dict_int; ALTER TEXT SEARCH DICTIONARY intdict (maxlen = 9);
CREATE EXTENSION hstore; ALTER OPERATOR @> (hstore, hstore) SET (RESTRICT = NONE);
CREATE EXTENSION citext; COMMENT ON TYPE citext IS 'ours'; ALTER EXTENSION citext DROP AGGREGATE max(citext);
ALTER EXTENSION citext DROP FUNCTION citext_larger(citext, citext); DROP AGGREGATE max(citext); DROP FUNCTION citext_larger(citext, citext);
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TABLE ours (a int);
ALTER EXTENSION citext ADD FUNCTION f(); ALTER EXTENSION citext ADD TABLE ours;
CREATE EXTENSION pg_trgm VERSION '1.3';
"""
BUILT_IN = """
ALTER FUNCTION pg_catalog.abs(int) COST 7; REVOKE EXECUTE ON FUNCTION pg_catalog.abs(bigint) FROM PUBLIC;
COMMENT ON FUNCTION pg_catalog.lower(text) IS 'ours'; COMMENT ON SCHEMA pg_catalog IS 'ours'; COMMENT ON SCHEMA public IS 'ours';
UPDATE pg_cast SET castcontext = 'a' WHERE castsource = 'int4'::regtype AND casttarget = 'bit'::regtype;
REVOKE SELECT ON information_schema.columns FROM PUBLIC; GRANT USAGE ON SCHEMA pg_toast TO pg_monitor;
REVOKE USAGE ON SCHEMA information_schema FROM PUBLIC; GRANT SELECT ON pg_authid TO pg_monitor;
CREATE OR REPLACE VIEW information_schema.enabled_roles AS
  SELECT rolname::information_schema.sql_identifier AS role_name FROM pg_authid WHERE pg_has_role(oid, 'USAGE') AND true;
ALTER FUNCTION plpgsql_call_handler() COST 5
"""


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


@contextmanager
def fresh(server: Postgres, script: str = "") -> Iterator[Connection[TupleRow]]:
    """A connection to a new database, which is dropped afterwards."""
    name = f"provided_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as outer:
        outer.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            with psycopg.connect(server.url_for(name), autocommit=True) as connection:
                connection.execute(script.encode())
                connection.execute("SET search_path TO pg_catalog; SET jit TO off")
                yield connection
        finally:
            outer.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_changes_to_objects_of_extensions(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """The backup is as good as pg_dump can make it, so these are notes."""
    name = new_database(CHANGES, "members")
    report = proven(command, DATABASE_URL=postgres.url_for(name))
    own = "changed; a restored database has the extension's original"
    assert [each for each in report["notes"] if " of the extension " in each] == [
        f"type public.citext of the extension citext: {own}",
        "function public.f(), table public.ours of the extension citext: added to it; missing from a restored database",
        (
            "aggregate public.max(public.citext), function public.citext_larger(public.citext,public.citext) of the extension"
            " citext: removed from it; present again in a restored database"
        ),
        f"text search dictionary public.intdict of the extension dict_int: {own}",
        f"operator public.@>(public.hstore,public.hstore) of the extension hstore: {own}",
        (
            "operator family public.gin_trgm_ops USING gin, operator family public.gist_trgm_ops USING gist, operator"
            " public.%(pg_catalog.text,pg_catalog.text) and 12 more of the extension pg_trgm: from a different version here, or changed"
        ),
        f"function public.unaccent(pg_catalog.text) of the extension unaccent: {own}",
    ]
    assert "extension pg_trgm: version 1.3 in the backup, 1.6 after the restore" in report["notes"]


def test_built_in_objects_that_were_changed(server: Postgres) -> None:
    with fresh(server, BUILT_IN) as changed, fresh(server) as new:
        found = provided(changed)
        names = [each.object for each in found if not each.provider]
        there = provided(new, names)
        # Rights in the schema pg_catalog are restored, so a function with others is only a candidate.
        assert "function pg_catalog.abs(bigint)" in names
        unchanged = {(each.object, each.digest) for each in there}
        assert [
            each.object for each in found if not each.provider and (each.object, each.digest) not in unchanged
        ] == [
            "cast (integer AS bit)",
            "function pg_catalog.abs(integer)",
            "function pg_catalog.lower(pg_catalog.text)",
            "schema information_schema",
            "schema pg_catalog",
            "schema pg_toast",
            "view information_schema.columns",
            "view information_schema.enabled_roles",
        ]
        assert list(differing(found, there, ["plpgsql"])) == [
            (
                "function pg_catalog.plpgsql_call_handler() of the extension plpgsql:"
                " changed; a restored database has the extension's original"
            ),
            (
                "cast (integer AS bit), function pg_catalog.abs(integer), function pg_catalog.lower(pg_catalog.text) and 5 more:"
                " changed; a restored database has PostgreSQL's original"
            ),
        ]


def test_a_new_database_has_no_changes(server: Postgres) -> None:
    with fresh(server) as connection:
        assert {each.provider for each in provided(connection)} == {"plpgsql"}
        assert [
            each
            for each in inventory.left_out(connection)
            if not each.startswith("the settings of all roles")
        ] == []


def test_all_extensions_are_the_same_when_they_are_created_again(postgres: Postgres) -> None:
    """Also after an update from an older version, and however they were created."""
    with fresh(postgres) as updated, fresh(postgres) as created:
        versions = updated.execute(
            "SELECT name, array_agg(version ORDER BY version = default_version, version) FROM pg_available_extensions"
            " JOIN pg_available_extension_versions USING (name) WHERE name <> 'plpgsql' GROUP BY 1 ORDER BY 1"
        ).fetchall()
        for connection in (updated, created):
            connection.execute("SET search_path TO public; SET client_min_messages TO error")
        for name, all_versions in versions:
            created.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE'.encode())
            updated.execute(
                f"CREATE EXTENSION IF NOT EXISTS \"{name}\" VERSION '{all_versions[0]}' CASCADE".encode()
            )
            updated.execute(f'ALTER EXTENSION "{name}" UPDATE'.encode())
        for connection in (updated, created):
            connection.execute("SET search_path TO pg_catalog")
        before, after = provided(updated), provided(created)
        assert len(before) > 1000
        assert list(differing(before, after, [name for name, _ in versions])) == []


@pytest.mark.parametrize(
    ("expected", "found", "others", "notes"),
    [
        ({"f": 1}, {"f": 1}, (), []),
        ({"f": 1}, {}, (), ["f of the extension x: added to it; missing from a restored database"]),
        (
            {"g": 2},
            {"f": 1, "g": 2},
            (),
            ["f of the extension x: removed from it; present again in a restored database"],
        ),
        ({}, {"f": 1}, (), []),
        (
            {"f": 1, "g": 2},
            {"f": 3, "h": 4},
            ("x",),
            ["f, g, h of the extension x: from a different version here, or changed"],
        ),
    ],
    ids=["same", "added", "removed", "unknown to an older manifest", "another version"],
)
def test_lines_for_an_extension(
    expected: dict[str, int], found: dict[str, int], others: tuple[str, ...], notes: list[str]
) -> None:
    def objects(digests: dict[str, int]) -> list[Provided]:
        return [Provided(provider="x", object=name, digest=digest) for name, digest in digests.items()]

    assert list(differing(objects(expected), objects(found), ["x"], others)) == notes
    assert list(differing(objects(expected), objects(found), [])) == []


UNRESTORABLE = {
    "CREATE EXTENSION unaccent; ALTER EXTENSION unaccent DROP FUNCTION unaccent(text)": (
        "pg_restore cannot restore function public.unaccent(pg_catalog.text), which the extension unaccent creates too:"
        " add it to the extension in the original (ALTER EXTENSION … ADD)"
    ),
    "CREATE EXTENSION unaccent; CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (a e); ALTER EXTENSION unaccent ADD TYPE e": (
        "pg_restore cannot restore what uses type public.e, which pg_dump left out:"
        " remove it from the extension unaccent in the original (ALTER EXTENSION … DROP)"
    ),
    "SET allow_system_table_mods = on; CREATE FUNCTION pg_catalog.own() RETURNS int LANGUAGE sql AS 'SELECT 1';"
    " CREATE VIEW v AS SELECT own()": (
        "pg_restore cannot restore what uses 1 objects in the schema pg_catalog, such as own, which pg_dump left out:"
        " move them into another schema in the original"
    ),
}


@pytest.mark.parametrize("script", UNRESTORABLE, ids=["removed", "added", "built-in schema"])
def test_what_pg_restore_cannot_restore_is_not_damage(
    script: str, command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    url = postgres.url_for(new_database(script, "kept"))
    bad = [each for each in command("doctor", "--json", DATABASE_URL=url).json if each["ok"] is False]
    assert [f"{each['detail']}: {each['fix']}" for each in bad] == [UNRESTORABLE[script]]
    command.passed("run", DATABASE_URL=url)
    report = command("verify", "latest", "--json", DATABASE_URL=url).json
    assert report["unprovable"] == [UNRESTORABLE[script]]


HARMLESS = {
    "removed and dropped": "CREATE EXTENSION citext; ALTER EXTENSION citext DROP AGGREGATE max(citext); DROP AGGREGATE max(citext)",
    "added and not used by others": "CREATE EXTENSION unaccent; CREATE TABLE o (a serial PRIMARY KEY, b text CHECK (b <> ''));"
    " CREATE INDEX ON o (b); CREATE VIEW v AS SELECT * FROM o; ALTER EXTENSION unaccent ADD TABLE o; ALTER EXTENSION unaccent ADD VIEW v",
    "not used in a built-in schema": "SET allow_system_table_mods = on;"
    " CREATE FUNCTION pg_catalog.own() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "names as in the extension's script": "CREATE EXTENSION vector; CREATE TABLE vector_dims (a vector(3), b vector[]);"
    " CREATE FUNCTION vector_dims(text) RETURNS int LANGUAGE sql AS 'SELECT 1'",
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_pg_restore_can_restore_is_not_predicted_to_fail(
    case: str, command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    proven(command, DATABASE_URL=postgres.url_for(new_database(HARMLESS[case], "harmless")))


def test_what_only_an_older_version_of_an_extension_has_was_not_added_to_it(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(
        "CREATE EXTENSION pg_stat_statements VERSION '1.9'; CREATE EXTENSION unaccent; CREATE TYPE e AS ENUM ('a');"
        " CREATE TABLE t (a e); ALTER EXTENSION unaccent ADD TYPE e; CREATE FUNCTION w() RETURNS void"
        " BEGIN ATOMIC SELECT pg_stat_statements_reset(0, 0, 0); END",
        "older",
    )
    bad = [
        each
        for each in command("doctor", "--json", DATABASE_URL=postgres.url_for(name)).json
        if each["ok"] is False
    ]
    assert [each["detail"] for each in bad] == [
        "pg_restore cannot restore what uses type public.e, which pg_dump left out"
    ]


def test_errors_about_other_objects_remain_differences() -> None:
    mine = [
        Provided(provider="x", object=name, digest=1) for name in ("function public.f(integer)", "type t")
    ]
    other = [Provided(provider="x", object="function public.g(integer)", digest=1)]
    assert list(hindering(mine, mine[:1], ["x"], ["type f does not exist (CREATE TABLE public.a)"])) == []
    assert list(hindering(mine, other, ["x"], ["a function ff() is missing"])) == []
    assert list(hindering(mine, other, [], ["function f(integer) is missing"])) == []
    assert len(list(hindering(mine, other, ["x"], ['function "f" is missing, g exists']))) == 2


# --- What pg_dump never writes --------------------------------------------------------------------------------------------

NEVER = """
CREATE TABLE t (a int PRIMARY KEY); CREATE TYPE c AS (x int); CREATE TYPE r AS RANGE (subtype = float8, multirange_type_name = m);
COMMENT ON TYPE t IS 'x'; COMMENT ON TYPE t[] IS 'x'; COMMENT ON TYPE m IS 'x'; COMMENT ON TYPE c[] IS 'x'; COMMENT ON TYPE c IS 'kept';
CREATE VIEW v AS SELECT * FROM t; COMMENT ON RULE "_RETURN" ON v IS 'x'; CREATE RULE kept AS ON INSERT TO v DO INSTEAD NOTHING;
COMMENT ON RULE kept ON v IS 'x'; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE CONSTRAINT TRIGGER fires AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); COMMENT ON CONSTRAINT fires ON t IS 'x';
CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent); ALTER TABLE parent ADD CONSTRAINT k CHECK (a > 0) NOT VALID;
ALTER TABLE child VALIDATE CONSTRAINT k; CREATE TABLE other () INHERITS (parent);
ALTER TABLE other DROP CONSTRAINT IF EXISTS nothing; CREATE TABLE e (a int4range, EXCLUDE USING gist ((a * a) WITH &&));
ALTER INDEX e_expr_excl ALTER COLUMN 1 SET STATISTICS 700; CREATE INDEX kept ON e ((upper(a))); ALTER INDEX kept ALTER COLUMN 1 SET STATISTICS 7;
CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2);
UPDATE pg_inherits SET inhdetachpending = true WHERE inhrelid = 'p1'::regclass; ALTER TYPE r RENAME TO renamed
"""


def test_what_pg_dump_never_writes_is_named(server: Postgres) -> None:
    with fresh(server, NEVER) as connection:
        assert set(inventory.left_out(connection)) >= {
            "the comments on 6 row types, array types, multiranges, rules of views and constraint triggers, such as _RETURN of public.v",
            "the validation of 2 constraints of child tables, such as k of public.child: those of their parents are not valid",
            "the statistics targets of 1 expressions in exclusion constraints, such as e_expr_excl of public.e",
            "partition public.p1: it is being detached, and a restore attaches it",
            "function public.r: a restore creates it with the name of its type, public.renamed",
        }


def test_replication_origins_and_enabled_subscriptions_are_named(server: Postgres) -> None:
    """Origins belong to the whole server, and those of subscriptions are created with them."""
    name = f"origin_{secrets.token_hex(3)}"
    with fresh(server) as connection:
        connection.execute("SELECT pg_replication_origin_create(%s)", [name])
        connection.execute(
            f"CREATE SUBSCRIPTION {name} CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p"
            " WITH (connect = false, slot_name = 'lost')".encode()
        )
        notes = inventory.left_out(connection)
        assert f"replication origin {name}: a restored server has none" in notes
        assert [each for each in notes if each.startswith("subscription") or "origin pg_" in each] == []
        try:
            connection.execute(f"ALTER SUBSCRIPTION {name} ENABLE".encode())
            assert f"subscription {name}: it is enabled, and a restore disables it" in inventory.left_out(
                connection
            )
        finally:
            connection.execute("SELECT pg_replication_origin_drop(%s)", [name])
            for step in ("DISABLE", "SET (slot_name = NONE)"):
                connection.execute(f"ALTER SUBSCRIPTION {name} {step}".encode())
            connection.execute(f"DROP SUBSCRIPTION {name}".encode())


def test_prepared_transactions_are_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("prepared")
    with Postgres(folder, options={"max_prepared_transactions": "2"}) as server, fresh(server) as connection:
        connection.execute("CREATE TABLE public.t (a int)")
        connection.execute("BEGIN; INSERT INTO public.t VALUES (1); PREPARE TRANSACTION 'forgotten'")
        try:
            assert inventory.left_out(connection) == (
                "the changes of 1 prepared transactions, such as forgotten: they are not committed",
            )
        finally:
            connection.execute("ROLLBACK PREPARED 'forgotten'")
