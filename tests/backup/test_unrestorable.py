"""A database that works, and cannot be restored as pg_dump writes it: neither damaged nor proven. The report says why."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.catalogue.manifest import Manifest, Server, Table
from backup.catalogue.records import Difference
from backup.load import pg_restore
from backup.load.pg_restore import Refusals
from backup.postgres.archive import DATA, POST_DATA, Entry
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.verify import verifier
from backup.verify.unrestorable import reasons
from backup.wiring import wire
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, samples
from tests.backup.documents import NOW, manifest
from tests.backup.restorekit import Command
from tests.backup.test_foreign import dumped


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


FAMILY = (
    'CREATE TABLE parent (a int PRIMARY KEY); CREATE TABLE child (a int CONSTRAINT "child; key" REFERENCES parent, b text);'
    " INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 'x');"
)
ORPHAN = FAMILY + "SET session_replication_role = replica; INSERT INTO child VALUES (9, 'y');"
DUPLICATE = (
    "CREATE TABLE t (a int, CONSTRAINT once PRIMARY KEY (a)); CREATE TABLE r (a int REFERENCES t); INSERT INTO t VALUES (1);"
    " COMMENT ON CONSTRAINT once ON t IS 'x'; UPDATE pg_index SET indisready = false WHERE indexrelid = 'once'::regclass;"
    " INSERT INTO t VALUES (1); UPDATE pg_index SET indisready = true WHERE indexrelid = 'once'::regclass;"
)
KNOWN = (
    "CREATE TABLE l (a int); INSERT INTO l VALUES (1); CREATE FUNCTION known(int) RETURNS bool LANGUAGE {} AS {};"
    " CREATE TABLE t (a int CHECK (known(a))); INSERT INTO t VALUES (1);"
)
IN_SQL = KNOWN.format("sql", "'SELECT EXISTS (SELECT FROM l WHERE a = $1)'")
IN_PLPGSQL = KNOWN.format("plpgsql", "'BEGIN RETURN EXISTS (SELECT FROM l WHERE a = $1); END'")
OLD = "CREATE FUNCTION ok(int) RETURNS bool LANGUAGE sql AS 'SELECT true';"
NEW = "CREATE OR REPLACE FUNCTION ok(int) RETURNS bool LANGUAGE {} AS {};"
STRICTER = NEW.format("sql", "'SELECT $1 > 1'")
AGAIN = "correct them in the original, or add the constraint again as NOT VALID"
CASES = {
    "foreign key": (
        ORPHAN,
        f"pg_restore cannot create the foreign key child; key of public.child, which rows violate: {AGAIN}",
    ),
    "disabled trigger": (
        FAMILY + "ALTER TABLE child DISABLE TRIGGER ALL; INSERT INTO child VALUES (9, 'y')",
        f"pg_restore cannot create the foreign key child; key of public.child, which rows violate: {AGAIN}",
    ),
    "check": (
        OLD
        + "CREATE TABLE t (a int CONSTRAINT c CHECK (ok(a)), PRIMARY KEY (a)); CREATE TABLE r (a int REFERENCES t);"
        + "INSERT INTO t VALUES (1), (2); INSERT INTO r VALUES (1);"
        + STRICTER,
        f"pg_restore cannot restore the rows of public.t, which violate its check constraint c: {AGAIN}",
    ),
    "domain": (
        OLD
        + "CREATE DOMAIN d AS int CONSTRAINT c CHECK (ok(VALUE)); CREATE TABLE t (a d[]); INSERT INTO t VALUES ('{1}');"
        + STRICTER,
        f"pg_restore cannot restore the rows of public.t, which violate the constraint c of the domain public.d: {AGAIN}",
    ),
    "domain that requires a value": (
        (
            "CREATE DOMAIN d AS int; CREATE TABLE t (a d); INSERT INTO t VALUES (NULL);"
            "UPDATE pg_type SET typnotnull = true WHERE typname = 'd'"
        ),
        "pg_restore cannot restore the rows of public.t, which lack values of the domain public.d: set them in the original",
    ),
    "not null": (
        (
            "CREATE TABLE t (a int, b int NOT NULL); UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 't'::regclass;"
            "INSERT INTO t VALUES (1); UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 't'::regclass AND attname = 'b'"
        ),
        "pg_restore cannot restore public.t: rows have no value in b, which is NOT NULL: set it in the original",
    ),
    "unique": (
        DUPLICATE,
        (
            "pg_restore cannot create the unique index once: rows have the same key: delete the duplicates in the original,"
            " and REINDEX it"
        ),
    ),
    "search path": (
        IN_SQL,
        (
            "pg_restore cannot restore the rows of public.t, because the function known needs a search path, which a restore"
            ' leaves empty (relation "l" does not exist): ALTER FUNCTION known SET search_path = … in the original'
        ),
    ),
    "search path in PL/pgSQL": (
        IN_PLPGSQL,
        (
            "pg_restore cannot restore the rows of public.t, because the function public.known needs a search path, which a"
            ' restore leaves empty (relation "l" does not exist): ALTER FUNCTION public.known SET search_path = … in the original'
        ),
    ),
    "function that fails": (
        OLD
        + "CREATE TABLE t (a int CHECK (ok(a))); INSERT INTO t VALUES (1);"
        + NEW.format("plpgsql", "'BEGIN RAISE ''never''; END'"),
        "pg_restore cannot restore the rows of public.t, because the function public.ok fails: correct it in the original",
    ),
    "materialized view": (
        (
            "CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE MATERIALIZED VIEW m AS SELECT 1 / a AS b FROM t;"
            "CREATE MATERIALIZED VIEW n AS SELECT b FROM m; CREATE UNIQUE INDEX ON m (b); UPDATE t SET a = 0"
        ),
        "pg_restore cannot fill the materialized view public.m, because its query fails: correct it in the original",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_original_has_and_pg_restore_cannot_create(
    case: str, command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    script, reason = CASES[case]
    there = {"DATABASE_URL": postgres.url_for(new_database(script, "refused"))}
    command.passed("run", **there)
    report = command("verify", "--json", **there).json
    assert report["unprovable"] == [reason], report
    assert report["differences"]
    assert command("list", "--json", **there).json[0]["state"] == "unprovable"


def test_messages_of_all_versions(command: Command, server: Postgres) -> None:
    name = f"refused_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    with psycopg.connect(server.url_for(name), autocommit=True) as connection:
        connection.execute(f"{IN_PLPGSQL.replace(' t ', ' u ')} {DUPLICATE} {ORPHAN}".encode())
    there = {"DATABASE_URL": server.url_for(name), "BACKUP_POSTGRES_BIN": str(server.programs)}
    command.passed("run", **there)
    found = command("verify", "--json", **there).json["unprovable"]
    wanted = [CASES[case][1] for case in ("search path in PL/pgSQL", "unique", "foreign key")]
    assert sorted(found) == sorted([wanted[0].replace("public.t", "public.u"), *wanted[1:]])


def test_it_is_neither_damaged_nor_proven(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    there = {"DATABASE_URL": postgres.url_for(new_database(ORPHAN, "orphan"))}
    command.passed("run", **there)
    done = command("verify", **there)
    done.fails(1, "could not be verified", "foreign key child; key")
    state = new_state(wire(BackupSettings.load({**command.environ, **there})))
    state.refresh()
    found = {name.partition("{")[0]: value for name, value in samples(state).items()}
    assert found["backup_verification_unprovable"] == 1
    assert "backup_last_verification_success" not in found
    assert found["backup_prune_blocked"] == 1


DAMAGES = {
    "a row": "DELETE FROM child WHERE b = 'x'",
    "another definition": "ALTER TABLE parent ADD CHECK (a > 0)",
    "a right": "GRANT SELECT ON parent TO PUBLIC",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_anything_else_that_differs_is_damage(
    damage: str,
    command: Command,
    postgres: Postgres,
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"DATABASE_URL": postgres.url_for(new_database(ORPHAN, "both"))}
    command.passed("run", **there)
    load: Callable[..., Any] = pg_restore.load_archive

    def damaging(*place: Any, **more: Any) -> Any:
        found = load(*place, **more)
        with psycopg.connect(place[1].conninfo, password=place[1].password, autocommit=True) as connection:
            connection.execute(DAMAGES[damage].encode())
        return found

    monkeypatch.setattr(verifier, "load_archive", damaging)
    report = command("verify", "--json", **there).json
    assert report["unprovable"] == []
    assert command("list", "--json", **there).json[0]["state"] == "FAILED"


def test_an_imported_archive(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Its data are compressed, its list of contents is not."""
    file = dumped(postgres, new_database(ORPHAN, "orphans"), tmp_path / "old.dump", "-Fc")
    command.passed("import", str(file), "--as", "old-orphans")
    report = command("verify", "latest", "-d", "old-orphans", "--json").json
    assert report["unprovable"] == [CASES["foreign key"][1]]


# --- Decisions ------------------------------------------------------------------------------------------------------------

ROWS = Entry(7, b"TABLE DATA", DATA, name="t", schema="public")
KEY = Entry(8, b"FK CONSTRAINT", POST_DATA, name="r r_a_fkey", schema="public")
COPY = [
    'pg_restore: error: COPY failed for table "t": ERROR:  new row for relation "t" violates check constraint "c"'
]


def refused(*messages: list[str], entries: tuple[int, ...] = (7,), complete: bool = True) -> Refusals:
    return Refusals(list(messages), set(entries), complete)


def different(kind: str, name: str, expected: str = "an object", found: str = "nothing") -> Difference:
    return Difference(kind=kind, object=name, expected=expected, found=found)


def made() -> Manifest:
    return manifest(NOW).model_copy(
        update={
            "tables": (Table(schema="public", name="t", rows=2),),
            "server": Server(version="18", version_number=180000),
        }
    )


EMPTY = [different("rows", "public.t", "2", "0"), different("table data", "public.t", "2 rows", "0 rows")]


@pytest.mark.parametrize(
    ("refusals", "differences", "explained"),
    [
        (refused(COPY), EMPTY, True),
        (refused(COPY), [*EMPTY, different("check", "newest.sql")], True),
        (refused(COPY), [*EMPTY, different("operators", "index public.i", "x")], True),
        # The archive has fewer rows than the original had.
        (refused(COPY), [EMPTY[0], different("table data", "public.t", "1 rows", "0 rows")], False),
        (refused(COPY), [*EMPTY, different("table data", "public.u", "2 rows", "1 rows")], False),
        (refused(COPY), [*EMPTY, different("rows", "public.u", "2", "1")], False),
        (refused(COPY), [*EMPTY, different("index", "public.i")], False),
        (refused(COPY), [*EMPTY, different("operators", "index public.i", "x", "y")], False),
        (refused(COPY, ["pg_restore: error: something else"]), EMPTY, False),
        (refused(COPY, ['pg_restore: error: ERROR:  relation "public.u" does not exist']), EMPTY, False),
        (refused(COPY, ['pg_restore: error: ERROR:  relation "public.t" does not exist']), EMPTY, True),
        (refused(COPY, complete=False), EMPTY, False),
        (refused(), EMPTY, False),
        (refused(COPY, entries=()), EMPTY, False),
        (refused(COPY), [*EMPTY, different("fk constraint", "public.r r_a_fkey")], False),
        (refused(COPY, entries=(7, 8)), [*EMPTY, different("fk constraint", "public.r r_a_fkey")], True),
    ],
)
def test_only_what_could_not_be_restored_may_differ(
    refusals: Refusals, differences: list[Difference], explained: bool
) -> None:
    assert bool(reasons(refusals, [ROWS, KEY], differences, made())) is explained


def test_what_follows_from_a_refusal_is_not_another_reason() -> None:
    """Rows that refer to those that could not be restored violate nothing in the original."""
    key = [
        'pg_restore: error: could not execute query: ERROR:  insert or update on table "r" violates foreign key constraint "r_a_fkey"',
        'DETAIL:  Key (a)=(1) is not present in table "t".',
        "Command was: ALTER TABLE ONLY public.r",
    ]
    refusals = refused(COPY, key, entries=(7, 8))
    found = reasons(refusals, [ROWS, KEY], [*EMPTY, different("fk constraint", "public.r r_a_fkey")], made())
    assert [each.split(",")[0] for each in found] == ["pg_restore cannot restore the rows of public.t"]


def test_an_error_of_a_view_that_reads_another_server_is_not_a_reason() -> None:
    """It is empty only here, so its error is not among the differences."""
    far = [
        "pg_restore: error: could not execute query: ERROR:  could not connect to server",
        "Command was: REFRESH MATERIALIZED VIEW public.far;",
    ]
    assert reasons(refused(far), [ROWS], [], made()) == []
    only_rows = reasons(refused(COPY), [ROWS], EMPTY, made())
    assert reasons(refused(COPY, far), [ROWS], EMPTY, made()) == only_rows != []
