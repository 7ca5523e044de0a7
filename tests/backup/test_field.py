"""Cases from field reports: what ``doctor`` predicts, what ``run`` does, and what a verification reports."""

import secrets
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.postgres import roles
from backup.postgres.databases import VERIFYING, WORKING, databases
from backup.postgres.dsn import parse
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, PostgresOf
from tests.backup.restorekit import Command, Done, names, value
from tests.backup.walkit import standby


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


@pytest.fixture
def reader(postgres: Postgres) -> str:
    """The role that the documentation describes."""
    name = f"bk_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'long enough 7'")
        connection.execute(f"GRANT pg_read_all_data TO {name}")
    return name


def as_reader(postgres: Postgres, reader: str, database: str) -> dict[str, str]:
    return {"DATABASE_URL": f"postgresql://{reader}:long%20enough%207@127.0.0.1:{postgres.port}/{database}"}


def checks(done: Done) -> dict[str, Any]:
    return {each["name"]: each for each in done.json}


def proven(command: Command, **there: str) -> Any:
    """Take a backup that succeeds and is verified, as the doctor predicts; returns the report."""
    assert [each for each in command("doctor", "--json", **there).json if each["ok"] is False] == []
    command.passed("run", **there)
    report = command("verify", "--json", **there).json
    assert (report["differences"], report["unprovable"]) == ([], [])
    return report


def refused(command: Command, check: str, **there: str) -> tuple[str, str]:
    """Check that doctor and run report the same, and that no backup is begun; returns message and advice."""
    found = checks(command("doctor", "--json", **there))[check]
    assert found["ok"] is False
    done = command("run", **there)
    done.fails(2, f"Error: {found['detail']}")
    return found["detail"], found["fix"]


# --- Healthy databases that could not be backed up ------------------------------------------------------------------------


def test_an_index_on_a_function_that_needs_the_search_path(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    # Since PostgreSQL 17 such an index cannot be created, but it exists after an upgrade.
    name = new_database(
        "CREATE EXTENSION unaccent; CREATE FUNCTION iu(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT public.unaccent($1)';"
        "CREATE TABLE u (name text); INSERT INTO u VALUES ('ž'); CREATE INDEX named ON u (iu(name));"
        "CREATE OR REPLACE FUNCTION iu(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT unaccent($1)'",
        "a1",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    report = command("verify", "--json", **there).json
    # The index does not restore, as pg_restore itself would say; the rows do.
    assert {each["kind"] for each in report["differences"]} <= {"restore", "index"}
    assert "named" in str(report["differences"])


def test_rows_that_a_policy_hides(
    command: Command, postgres: Postgres, new_database: NewDatabase, reader: str
) -> None:
    name = new_database(
        "CREATE TABLE t (a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a > 5)",
        "a2",
    )
    message, advice = refused(command, f"postgres {name}", **as_reader(postgres, reader, name))
    assert "public.t" in message
    assert f"ALTER ROLE {reader} BYPASSRLS;" in advice


def test_large_objects_of_another_owner(
    command: Command, postgres: Postgres, new_database: NewDatabase, reader: str
) -> None:
    name = new_database("SELECT lo_from_bytea(4712, 'x')", "a3")
    message, advice = refused(command, f"postgres {name}", **as_reader(postgres, reader, name))
    assert "large objects 4712" in message
    assert "GRANT SELECT ON LARGE OBJECT" in advice


def test_a_partitioned_table_that_may_not_be_locked(
    command: Command, postgres: Postgres, new_database: NewDatabase, reader: str
) -> None:
    name = new_database(
        "CREATE TABLE m (a int) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (9)",
        "a3b",
    )
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"REVOKE pg_read_all_data FROM {reader}; GRANT SELECT ON m1 TO {reader}")
    message, _ = refused(command, f"postgres {name}", **as_reader(postgres, reader, name))
    assert "public.m" in message


def test_bytes_without_an_encoding(command: Command, postgres: Postgres) -> None:
    name = f"a6_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE t (a text); INSERT INTO t VALUES (convert_from('\\xc5be', 'SQL_ASCII'))"
        )
    assert proven(command, DATABASE_URL=postgres.url_for(name))["rows"] == 1


def test_names_that_no_encoding_reads(command: Command, postgres: Postgres) -> None:
    name = f"a6_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN EXECUTE format('CREATE TABLE %I (a int)', convert_from('\\xe9', 'SQL_ASCII')); END $$"
        )
    done = command("run", DATABASE_URL=postgres.url_for(name))
    done.fails(1, "a name or text in its catalogue is not valid UTF-8", "rename what is not in UTF-8")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_comment_and_a_setting_in_the_encoding_of_the_database(
    encoding: str, command: Command, postgres: Postgres
) -> None:
    """They are in a catalogue that databases of other encodings share, and come back byte for byte."""
    name = f"latin_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'".encode()
        )
    with psycopg.connect(postgres.url_for(name), autocommit=True, client_encoding=encoding) as connection:
        connection.execute(f"COMMENT ON DATABASE {name} IS 'l''\xe9t\xe9\n-- \xe0 nous'".encode("latin-1"))
        connection.execute(f"ALTER DATABASE {name} SET app.note TO '\xe9'".encode("latin-1"))
    there = {"DATABASE_URL": postgres.url_for(name)}
    proven(command, **there)
    restored = command.passed("restore", "latest", **there)["into"]

    def comment(of: str) -> bytes:
        found: bytes = value(
            postgres,
            name,
            f"SELECT textsend(shobj_description(oid, 'pg_database')) FROM pg_database WHERE datname = '{of}'",
        )
        return found.partition(b"\nposthub-ops: ")[0]

    original = "l'\xe9t\xe9\n-- \xe0 nous".encode("latin-1")
    setting = "SELECT textsend(setconfig[1]) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{}'"
    assert comment(name) == comment(restored) == original
    assert value(postgres, name, setting.format(restored)) == value(postgres, name, setting.format(name))
    command.passed("promote", "--yes-i-mean", name, **there)
    assert comment(name) == original
    command.passed("rollback", "--yes-i-mean", name, **there)
    assert comment(name) == original


def test_a_cluster_in_another_encoding(command: Command, tmp_path: Path) -> None:
    """Names of roles are in a catalogue that databases of all encodings share; the drill creates only those that are needed."""
    with Postgres(tmp_path / "own") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("DROP DATABASE postgres")
            for name in ("postgres", "shop"):
                connection.execute(
                    f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".encode()
                )
        with psycopg.connect(server.url_for("shop"), autocommit=True, client_encoding="UTF8") as connection:
            connection.execute(
                'CREATE ROLE "rôle"; COMMENT ON ROLE "rôle" IS \'été\'; ALTER ROLE "rôle" SET app.note TO \'é\''
            )
            connection.execute(
                'CREATE TABLE "tâble" ("é" text); ALTER TABLE "tâble" OWNER TO "rôle"; GRANT CREATE ON DATABASE shop TO "rôle"'
            )
            connection.execute("INSERT INTO \"tâble\" VALUES ('à')")
        there = {"DATABASE_URL": server.url_for("shop")}
        proven(command, **there)
        assert command.passed("drill", **there)["ok"]
        command.passed("restore", "latest", **there)
        command.passed("promote", "--yes-i-mean", "shop", **there)
        with Postgres(tmp_path / "other") as other:
            there["BACKUP_VERIFY_URL"] = other.url
            assert command("verify", "--json", **there).json["differences"] == []
            there["BACKUP_RESTORE_URL"] = other.url_for("shop")
            # The second time, the roles are there.
            for name in ("first", "second"):
                command.passed("restore", "latest", "--into", name, **there)
                with psycopg.connect(other.url_for(name), client_encoding="UTF8") as connection:
                    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'tâble'"
                    comment = "SELECT shobj_description('\"rôle\"'::regrole, 'pg_authid')"
                    assert [*connection.execute(owner), *connection.execute(comment)] == [("rôle",), ("été",)]


@pytest.mark.parametrize(
    ("encoding", "codec", "kept"),
    [
        ("LATIN2", "iso8859-2", False),
        ("WIN1250", "cp1250", False),
        ("KOI8R", "koi8-r", False),
        ("SQL_ASCII", "utf-8", True),
    ],
)
def test_roles_in_another_encoding(encoding: str, codec: str, kept: bool) -> None:
    letter = "ж" if codec == "koi8-r" else "ž"
    script = f"SET client_encoding = '{encoding}';\nCREATE ROLE \"{letter}\";\n".encode(codec)
    found = [f"SET client_encoding = '{encoding if kept else 'UTF8'}';", f'CREATE ROLE "{letter}";']
    assert [each.decode() for each in roles.parse(script)] == found


def test_more_tables_than_locks_for_two(command: Command, tmp_path: Path) -> None:
    """pg_dump locks each table, and there is no room for a second lock on each."""
    options = {"max_locks_per_transaction": "10", "max_connections": "20"}
    with Postgres(tmp_path / "few", options=options) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE many")
        with psycopg.connect(server.url_for("many"), autocommit=True) as connection:
            for number in range(150):
                connection.execute(f"CREATE TABLE t{number} (a int)".encode())
        command.passed("run", DATABASE_URL=server.url_for("many"))


# --- What a restore does not bring back ------------------------------------------------------------------------------------


def test_a_view_that_means_something_else_after_a_restore(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(
        "CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE TABLE ct (ci ext.citext); INSERT INTO ct VALUES ('A');",
        "d3",
    )
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("SET search_path TO public, ext")
        connection.execute("CREATE VIEW w AS SELECT CASE ci WHEN 'a' THEN 'yes' ELSE 'no' END AS x FROM ct")
        connection.execute(
            "CREATE VIEW plain AS SELECT ci = 'a'::ext.citext AS x FROM ct WHERE ci IN (SELECT ci FROM ct)"
        )
        # The operator that is printed hides the other one, but not how often there is one.
        connection.execute(
            "CREATE VIEW two AS SELECT ci = 'a' AS x, CASE ci WHEN 'a' THEN 1 END AS y FROM ct"
        )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    report = command("verify", "--json", **there).json
    both, found = report["differences"]
    assert (found["kind"], found["found"]) == ("operators", "nothing")
    assert "public.w" in found["object"]
    assert "citext" in found["expected"]
    assert (both["kind"], both["expected"]) == ("operators", f"{both['found']} (2 times)")
    assert "public.two" in both["object"]


LOST = {
    "the passwords of user mappings": (
        (
            "CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw;"
            "CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'u', password 'sesame')"
        ),
        "the options of 1 user mappings, with their passwords",
    ),
    "subscriptions": (
        "CREATE SUBSCRIPTION lost_{0} CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        "subscription lost_{0}",
    ),
    "rows of foreign tables": (
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (a int) SERVER s",
        "the rows of 1 foreign tables",
    ),
    "an index that is not valid": (
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i'::regclass",
        "index public.i: it is not valid",
    ),
    "a table that was added to an extension": (
        "CREATE EXTENSION citext; CREATE TABLE ours (a int); INSERT INTO ours VALUES (1); ALTER EXTENSION citext ADD TABLE ours",
        "the rows of public.ours of the extension citext: it does not mark them as its configuration",
    ),
    "what was made on a table of an extension": (
        (
            "BEGIN; CREATE EXTENSION citext; CREATE TABLE theirs (a int PRIMARY KEY, b int CHECK (b > 0)); CREATE INDEX ON theirs (b);"
            "CREATE RULE r AS ON DELETE TO theirs DO ALSO NOTIFY x; ALTER EXTENSION citext ADD TABLE theirs; COMMIT;"
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER late BEFORE INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION f();"
            "CREATE INDEX later ON theirs (b); ALTER TABLE theirs ADD c int CHECK (c > 0); CREATE PUBLICATION p FOR TABLE theirs"
        ),
        "column c of public.theirs and 4 more, made after the extension citext on its tables",
    ),
    "what is in the catalogue's schema": (
        "CREATE FUNCTION pg_catalog.ours() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE TYPE pg_catalog.paint AS ENUM ('red')",
        "2 objects in the schema pg_catalog, such as ours",
    ),
    "what else is in the catalogue's schema": (
        (
            'CREATE TEXT SEARCH CONFIGURATION pg_catalog.theirs (COPY = simple); CREATE COLLATION pg_catalog.theirs FROM "C";'
            "CREATE TEXT SEARCH DICTIONARY pg_catalog.theirs (TEMPLATE = simple)"
        ),
        "3 objects in the schema pg_catalog, such as theirs",
    ),
    "a changed text search configuration of PostgreSQL's own": (
        "ALTER TEXT SEARCH CONFIGURATION pg_catalog.german ALTER MAPPING FOR word WITH simple",
        "the mappings of the text search configuration pg_catalog.german: they were changed",
    ),
    "an addition to an operator family of PostgreSQL's own": (
        (
            "CREATE FUNCTION f(int, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < $2::int';"
            "CREATE OPERATOR <## (LEFTARG = int, RIGHTARG = text, FUNCTION = f);"
            "ALTER OPERATOR FAMILY pg_catalog.integer_ops USING btree ADD OPERATOR 1 <## (int, text)"
        ),
        "additions to built-in operator families, such as integer_ops: 1",
    ),
    "the owner of an extension": (
        "CREATE EXTENSION citext; UPDATE pg_extension SET extowner = (SELECT oid FROM pg_roles WHERE rolname = '{0}') WHERE extname = 'citext'",
        "extension citext: it belongs to {0}, and after a restore to the role that restores",
    ),
    "rights on row types": (
        "CREATE TABLE t (a int); REVOKE USAGE ON TYPE t FROM PUBLIC; CREATE TYPE c AS (a int); REVOKE USAGE ON TYPE c FROM PUBLIC",
        "the rights on 1 row types, such as that of public.t",
    ),
    "comments on what is inherited": (
        (
            "CREATE TABLE p (a int CONSTRAINT positive CHECK (a > 0)) PARTITION BY LIST (a); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);"
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER checked BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f(); COMMENT ON TRIGGER checked ON p IS 'x';"
            "COMMENT ON TRIGGER checked ON p1 IS 'x'; COMMENT ON CONSTRAINT positive ON p IS 'x'; COMMENT ON CONSTRAINT positive ON p1 IS 'x'"
        ),
        "the comments on 2 inherited constraints and triggers, such as checked of public.p1",
    ),
    "foreign keys that are not enforced": (
        "CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p); ALTER TABLE t DISABLE TRIGGER ALL",
        "the triggers of 1 constraints are disabled",
    ),
}


@pytest.mark.parametrize("what", LOST)
def test_what_the_dump_leaves_out_is_stated_everywhere(
    what: str, command: Command, postgres: Postgres, new_database: NewDatabase, reader: str
) -> None:
    script, remark = (text.format(reader) for text in LOST[what])
    name = new_database(script, "lost")
    there = as_reader(postgres, reader, name)
    assert remark in checks(command("doctor", "--json", **there))[f"postgres {name}: left out"]["detail"]
    done = command("run", **there)
    done.passes(remark)
    assert remark in command("show", "latest", **there).out
    assert remark in " ".join(command("verify", "--json", **there).json["notes"])


def test_materialized_views_of_another_server(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """The throwaway server reaches no other one, so it cannot fill them: a note for each, and for no other view."""
    far = new_database("CREATE TABLE source AS SELECT 7 AS a", "far")
    name = new_database(
        "CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink;"
        f"CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{postgres.port}', dbname '{far}');"
        "CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'posthub', password 'posthub');"
        "CREATE TABLE parent (a int); CREATE FOREIGN TABLE source () INHERITS (parent) SERVER far;"
        "CREATE VIEW v AS SELECT a FROM parent; CREATE MATERIALIZED VIEW near AS SELECT 1 AS a;"
        'CREATE MATERIALIZED VIEW "Of v" AS SELECT a FROM v; CREATE MATERIALIZED VIEW of_it AS SELECT * FROM "Of v";'
        "CREATE MATERIALIZED VIEW called AS SELECT * FROM dblink("
        f"'host=127.0.0.1 port={postgres.port} dbname={far} user=posthub password=posthub', 'SELECT a FROM source') t (a int);"
        "CREATE MATERIALIZED VIEW never AS SELECT a FROM source WITH NO DATA",
        "remote",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    notes = proven(command, **there)["notes"]
    found = [each.partition(":")[0] for each in notes if "reads another server" in each]
    assert found == [f"materialized view public.{view}" for view in ("Of v", "called", "of_it")]
    # Where the other server is reached, they are filled.
    assert "reads another server" not in " ".join(command.passed("restore", "latest", **there)["notes"])


def test_a_materialized_view_that_cannot_be_filled_again(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(
        "CREATE TABLE t AS SELECT 1 AS a; CREATE MATERIALIZED VIEW m AS SELECT 1 / a AS b FROM t; UPDATE t SET a = 0",
        "unfilled",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    kinds = [each["kind"] for each in command("verify", "--json", **there).json["differences"]]
    assert kinds == ["restore", "materialized view data"]


def test_event_triggers_do_not_see_the_restore(command: Command, server: Postgres) -> None:
    """One that records statements, as audits do, is restored after the last statement that it would record."""
    name = f"events_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(server.url_for(name), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE seen (tag text); CREATE MATERIALIZED VIEW m AS SELECT 1 AS a;"
            "CREATE FUNCTION record() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO public.seen VALUES (tg_tag); END $$;"
            "CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION record(); COMMENT ON EVENT TRIGGER audit IS 'x'"
        )
    there = {"DATABASE_URL": server.url_for(name), "BACKUP_POSTGRES_BIN": str(server.programs)}
    proven(command, **there)
    proven(command, **there, BACKUP_RESTORE_JOBS="1")


def test_settings_of_all_roles_and_logical_slots(command: Command, tmp_path: Path) -> None:
    with Postgres(tmp_path / "own", options={"wal_level": "logical"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(
                "ALTER ROLE ALL SET app.note TO 'a secret'; ALTER ROLE ALL SET work_mem TO '7MB'"
            )
            connection.execute("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
        notes = " ".join(proven(command, DATABASE_URL=server.url)["notes"])
    assert "the settings of all roles (ALTER ROLE ALL SET): app.note, work_mem" in notes
    assert "logical replication slot feed: a restored database has none" in notes


def test_tablespaces(command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path) -> None:
    name = new_database("SELECT 1", "d4")
    folder = tmp_path / "space"
    folder.mkdir()
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE fast_{name} LOCATION '{folder}'".encode())
        connection.execute(f"CREATE TABLE t (a int) TABLESPACE fast_{name}".encode())
        try:
            report = proven(command, DATABASE_URL=postgres.url_for(name))
        finally:
            connection.execute("DROP TABLE t")
            connection.execute(f"DROP TABLESPACE fast_{name}".encode())
    assert f"are in the tablespace fast_{name}" in " ".join(report["notes"])


def test_versions_of_extensions(command: Command, postgres: Postgres, new_database: NewDatabase) -> None:
    name = new_database("CREATE EXTENSION pg_trgm VERSION '1.3'", "d5")
    report = proven(command, DATABASE_URL=postgres.url_for(name))
    assert "extension pg_trgm: version 1.3 in the backup, 1.6 after the restore" in report["notes"]


def test_a_library_of_each_session_that_is_not_here(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    """Without it, no one can connect to the database; the throwaway server does not load it."""
    name, library = new_database("CREATE TABLE t AS SELECT 1 AS a", "preload"), tmp_path / "explains.so"
    shutil.copy(next(postgres.programs.parent.rglob("auto_explain.so")), library)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET session_preload_libraries = '{library}'".encode())
    url = postgres.url_for(name)
    made = command.passed("run", DATABASE_URL=url)
    library.unlink()
    assert command.passed("verify", made["id"], DATABASE_URL=url)["ok"]


# --- Small things ----------------------------------------------------------------------------------------------------------


def test_too_few_connections(
    command: Command, postgres: Postgres, new_database: NewDatabase, reader: str
) -> None:
    name = new_database("CREATE TABLE t (a int)", "e5")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {reader} CONNECTION LIMIT 2")
    message, advice = refused(command, f"postgres {name}", **as_reader(postgres, reader, name))
    assert f"{reader} allows 2 connections" in message
    assert "CONNECTION LIMIT" in advice


def test_rows_of_generated_columns_and_identities_are_copied_back(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """The statement of docs/restore.md."""
    name = new_database(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED);"
        "INSERT INTO t (a) VALUES (1), (2), (3)",
        "e6",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute("DELETE FROM t WHERE id = 2")
        done = command.passed("restore", "--table", "t", "--schema", "rescue", **there)
        connection.execute(done["copy"]["public.t"].encode())
    assert value(postgres, name, "SELECT string_agg(id || ' ' || b, ',' ORDER BY id) FROM t") == "1 2,2 4,3 6"


# --- Standbys, and leftovers that cannot simply be dropped ------------------------------------------------------------------


def test_a_standby_with_an_unlogged_table(command: Command, postgres_of: PostgresOf) -> None:
    primary = postgres_of(SUPPORTED[-1])
    name = f"a4_{secrets.token_hex(3)}"
    with psycopg.connect(primary.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(primary.url_for(name), autocommit=True) as connection:
        connection.execute(
            "CREATE UNLOGGED TABLE cache (a int); INSERT INTO cache VALUES (1); CREATE TABLE t AS SELECT 7 AS a"
        )
    with standby(primary) as copy:
        report = proven(command, DATABASE_URL=copy.url_for(name))
    assert "the rows of 1 unlogged tables: a standby has none" in " ".join(report["notes"])
    assert report["rows"] == 1


SUBSCRIBED = "CREATE SUBSCRIPTION {0} CONNECTION 'host=127.0.0.1 port=1 dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)"


@pytest.mark.parametrize(
    ("prefix", "verb"), [(WORKING, ("restore", "latest")), (VERIFYING, ("verify", "latest"))]
)
def test_a_leftover_with_a_subscription(
    prefix: str, verb: tuple[str, str], command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """Of a restore or verification that was killed: it is removed, and blocks nothing."""
    subscription = f"s_{secrets.token_hex(3)}"
    name = new_database(SUBSCRIBED.format(subscription), "c1")
    there = {"DATABASE_URL": postgres.url_for(name), "BACKUP_VERIFY_URL": postgres.url}
    command.passed("run", **there)
    left = new_database(SUBSCRIBED.format(subscription), prefix)
    command(*verb, **there).passes()
    assert left not in names(postgres, prefix)
    # What was restored has a subscription too, and the next one is not blocked by it either.
    command(*verb, *(["--again"] if prefix == WORKING else []), **there).passes()
    assert names(postgres, prefix) == []
    with databases(parse(postgres.url)) as server:
        for each in server.starting_with(name):
            server.drop(each)
