"""A dump that another pg_dump made, in any form, is imported, verified and restored."""

import gzip
import secrets
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import zstandard

from backup import foreign
from backup.load import script
from backup.postgres.databases import creation
from stack.programs import major, postgres_bin
from stack.servers import Postgres
from tests.backup.conftest import ROWS, SCHEMA, NewDatabase, PostgresOf
from tests.backup.restorekit import Command, value


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def dumped(server: Postgres, database: str, file: Path, *options: str) -> Path:
    program = str(postgres_bin() / "pg_dump")
    subprocess.run([program, *options, f"--file={file}", server.url_for(database)], check=True)
    return file


@pytest.mark.parametrize("options", [("-Fc",), ("-Fp",)], ids=["archive", "script"])
def test_it_is_a_backup_like_others(
    options: tuple[str, ...],
    command: Command,
    postgres: Postgres,
    new_database: NewDatabase,
    tmp_path: Path,
) -> None:
    owner = f"Old Owner {secrets.token_hex(3)}"
    name = new_database(
        f'{SCHEMA} CREATE ROLE "{owner}"; ALTER TABLE "Mixed Case" OWNER TO "{owner}"; GRANT SELECT ON events TO "{owner}";'
        f'CREATE POLICY p ON empty TO "{owner}" USING (true)',
        "foreign",
    )
    file = dumped(postgres, name, tmp_path / "old.dump", *options)
    made = command.passed("import", str(file), "--as", "old-shop")
    assert made["rows"] == ROWS
    report = command("verify", "latest", "-d", "old-shop", "--json").json
    assert report["differences"] == []
    assert "imported from a file" in " ".join(report["notes"])
    there = {"BACKUP_RESTORE_URL": postgres.url_for(name)}
    into = f"old_{name}"
    done = command.passed("restore", "latest", "-d", "old-shop", "--into", into, **there)
    assert done["differences"] == []
    assert value(postgres, into, "SELECT count(*) FROM posts") == 2000
    assert value(postgres, into, "SELECT tableowner FROM pg_tables WHERE tablename = 'Mixed Case'") == owner


AWKWARD = r"""
CREATE TABLE t (a int, b text DEFAULT E'x;\n\\.\nCOPY public.t (a) FROM stdin;', "c;" bytea);
INSERT INTO t VALUES (1, E'a\tb\n\\.', '\x00'), (2, NULL, NULL), (3, '-- PostgreSQL database dump complete', '');
CREATE TABLE none (); INSERT INTO none DEFAULT VALUES;
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT ';'; -- \connect x
SELECT E'\\connect y'; $$;
CREATE SEQUENCE s START 7; SELECT nextval('s');
SELECT lo_from_bytea(4711, '\x5c2e0a');
COMMENT ON TABLE t IS E'two\nlines;';
CREATE TABLE p (a int, b text DEFAULT 'no OWNER TO nobody') PARTITION BY LIST (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); INSERT INTO p VALUES (1), (2);
"""


@pytest.mark.parametrize(
    "options",
    [
        ["-Fp", "--create"],
        ["-Fp", "--inserts"],
        ["-Fp", "--clean", "--if-exists"],
        ["-Fp", "--clean", "--load-via-partition-root"],
        ["-Fc", "--load-via-partition-root"],
        ["-Ft"],
        ["-Fd"],
    ],
)
def test_every_form(
    options: list[str], command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database(AWKWARD, "forms")
    file = dumped(postgres, name, tmp_path / "old.dump", *options)
    made = command.passed("import", str(file), "--as", "old-forms")
    assert made["rows"] == 6
    report = command("verify", "latest", "-d", "old-forms", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])
    if options[0] != "-Fc":  # the other forms are converted
        assert f"from a server {major(postgres.programs)}." in " ".join(report["notes"])
    assert not list(tmp_path.glob("posthub*"))


@pytest.mark.parametrize("table", ["p1", "t"])
def test_a_table_without_its_rows(
    table: str, command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database(AWKWARD, "rowless")
    file = dumped(postgres, name, tmp_path / "old.dump", "-Fc", f"--exclude-table-data={table}")
    command.passed("import", str(file), "--as", "old-rowless")
    report = command("verify", "latest", "-d", "old-rowless", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])


@pytest.mark.parametrize(
    "options", [["-Fc", "--schema-only"], ["-Fc", "--exclude-table-data=s"], ["-Ft", "--schema-only"]]
)
def test_a_dump_without_the_values_of_sequences(
    options: list[str], command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database(
        f"{AWKWARD} CREATE TABLE i (a bigserial, b int GENERATED ALWAYS AS IDENTITY (START 5))", "valueless"
    )
    file = dumped(postgres, name, tmp_path / "old.dump", *options)
    command.passed("import", str(file), "--as", "old-valueless")
    report = command("verify", "latest", "-d", "old-valueless", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])


LARGE_OBJECTS = """
SELECT lo_from_bytea(12, ''), lo_from_bytea(13, 'x'); CREATE ROLE of_large_objects; CREATE ROLE reads_large_objects;
ALTER LARGE OBJECT 12 OWNER TO of_large_objects; GRANT SELECT ON LARGE OBJECT 13 TO reads_large_objects;
"""


def test_large_objects_of_others(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    script = LARGE_OBJECTS.replace("large_objects;", f"others_{secrets.token_hex(3)};")
    file = dumped(postgres, new_database(script, "others"), tmp_path / "old.dump", "-Fc")
    command.passed("import", str(file), "--as", "old-others")
    report = command("verify", "latest", "-d", "old-others", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])


def test_an_archive_of_an_older_version(command: Command, postgres_of: PostgresOf, tmp_path: Path) -> None:
    """It has all large objects in one group."""
    old, name = postgres_of(15), f"older_{secrets.token_hex(3)}"
    with psycopg.connect(old.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    with psycopg.connect(old.url_for(name), autocommit=True) as connection:
        connection.execute(AWKWARD.encode())
        connection.execute(LARGE_OBJECTS.encode())
    file = tmp_path / "old.dump"
    subprocess.run([old.programs / "pg_dump", "-Fc", f"--file={file}", old.url_for(name)], check=True)
    command.passed("import", str(file), "--as", "old-15")
    report = command("verify", "latest", "-d", "old-15", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])


ODD = r"""
CREATE SCHEMA "a; 'b"; CREATE TABLE "a; 'b"."c
d" (a int); INSERT INTO "a; 'b"."c
d" VALUES (1), (2);
CREATE TABLE "a; 'b".e (a int); INSERT INTO "a; 'b".e VALUES (1);
CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER ev ON ddl_command_end EXECUTE FUNCTION f(); ALTER EVENT TRIGGER ev DISABLE;
ALTER TABLE "a; 'b".e ENABLE ROW LEVEL SECURITY; ALTER TABLE "a; 'b".e FORCE ROW LEVEL SECURITY;
CREATE MATERIALIZED VIEW m AS SELECT a FROM "a; 'b".e; CREATE ROLE {owner}; CREATE TABLE o (a int); CREATE TABLE p (a int);
ALTER TABLE "a; 'b"."c
d" OWNER TO {owner}; ALTER TABLE o OWNER TO {owner}; ALTER TABLE p OWNER TO {owner};
CREATE DOMAIN d1 AS int; ALTER DOMAIN d1 OWNER TO {owner}; CREATE DOMAIN d2 AS int; ALTER DOMAIN d2 OWNER TO {owner};
CREATE DOMAIN d3 AS int; ALTER DOMAIN d3 OWNER TO {owner}; CREATE DOMAIN d4 AS int; ALTER DOMAIN d4 OWNER TO {owner};
"""


@pytest.mark.parametrize("options", [["-Fc"], ["-Fp"]], ids=["archive", "script"])
def test_names_with_separators_and_what_only_a_superuser_owns(
    options: list[str], command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    """The original's superuser has any name. It is not the one that owns most here, but the one that owns a trigger for events."""
    name = new_database(ODD.replace("{owner}", f"most_{secrets.token_hex(3)}"), "odd")
    file = dumped(postgres, name, tmp_path / "old.dump", *options)
    assert command.passed("import", str(file), "--as", "old-odd")["rows"] == 3
    report = command("verify", "latest", "-d", "old-odd", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])
    manifest = command("show", "latest", "-d", "old-odd", "--json").json["manifest"]
    rows = {(table["schema"], table["name"]): table["rows"] for table in manifest["tables"]}
    assert rows["a; 'b", "c\nd"] == 2
    assert rows["a; 'b", "e"] == 1


@pytest.mark.parametrize("options", [["-Fc"], ["-Fp"]], ids=["archive", "script"])
def test_dumps_of_some_tables(
    options: list[str], command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database(
        'CREATE SCHEMA "A b"; CREATE TABLE "A b".t (a int); INSERT INTO "A b".t VALUES (7)', "part"
    )
    file = dumped(postgres, name, tmp_path / "old.dump", *options, "--table", '"A b".t')
    done = command("import", str(file), "--as", "old-part")
    done.passes("1 table, 1 row", 'the schemas of its tables, which were created: "A b"')
    report = command("verify", "latest", "-d", "old-part", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])
    rows = dumped(postgres, name, tmp_path / "rows.dump", *options, "--data-only")
    command("import", str(rows), "--as", "old-part").fails(
        2, "has the rows of tables, and not their definitions"
    )


@pytest.mark.parametrize("options", [["-Fc"], ["-Fp"]], ids=["archive", "script"])
def test_names_that_are_all_quoted(
    options: list[str], command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database("CREATE TABLE t (a int); INSERT INTO t VALUES (7)", "quoted")
    file = dumped(postgres, name, tmp_path / "old.dump", *options, "--quote-all-identifiers")
    command("import", str(file), "--as", "old-quoted").passes("1 table, 1 row")


@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_compressed_file(
    packed: Callable[[bytes], bytes],
    command: Command,
    postgres: Postgres,
    new_database: NewDatabase,
    tmp_path: Path,
) -> None:
    name = new_database(AWKWARD, "packed")
    whole = packed(dumped(postgres, name, tmp_path / "old.sql").read_bytes())
    (file := tmp_path / "old.sql.packed").write_bytes(whole)
    assert command.passed("import", str(file), "--as", "old-packed")["rows"] == 6
    file.write_bytes(whole[: len(whole) // 2])
    command("import", str(file), "--as", "old-packed").fails(1, "cannot be decompressed")
    file.write_bytes(packed(bytes(256 << 20)))
    tracemalloc.start()
    try:
        command("import", str(file), "--as", "old-packed").fails(2, "is not a dump")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    file.write_bytes(b"\x04\x22\x4d\x18" + whole)
    command("import", str(file), "--as", "old-packed").fails(2, "is compressed with LZ4")
    assert not list(tmp_path.glob("posthub*"))


BEFORE_11 = """\
--
-- PostgreSQL database dump
--

-- Dumped from database version 9.6.24
-- Dumped by pg_dump version 9.6.24

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE SCHEMA crm;
SET search_path = crm, pg_catalog;
SET default_tablespace = '';
SET default_with_oids = false;
CREATE TABLE t (
    a integer NOT NULL
);
COPY t (a) FROM stdin;
1
2
\\.
SET search_path = public, pg_catalog;
CREATE TABLE t (
    a integer NOT NULL
);
COPY t (a) FROM stdin;
3
\\.
--
-- PostgreSQL database dump complete
--
"""


def test_a_script_of_an_old_version_names_no_schemas(command: Command, tmp_path: Path) -> None:
    (file := tmp_path / "old.sql").write_text(BEFORE_11)
    assert command.passed("import", str(file), "--as", "old-96")["rows"] == 3
    report = command("verify", "latest", "-d", "old-96", "--json").json
    assert (report["differences"], report["unprovable"]) == ([], [])


def test_a_script_that_windows_has_written(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    """There, standard output gets a carriage return before each line feed, and editors begin UTF-8 with a mark."""
    name = new_database(AWKWARD + "INSERT INTO t VALUES (4, E'\\r\\n\\r')", "windows")
    options = ("--use-set-session-authorization", "--disable-triggers")
    whole = dumped(postgres, name, tmp_path / "old.sql", *options).read_bytes()
    assert b"\nSET SESSION AUTHORIZATION '" in whole
    file = tmp_path / "new.sql"
    file.write_bytes(b"\xef\xbb\xbf" + whole.replace(b"\n", b"\r\n"))
    assert command.passed("import", str(file), "--as", "old-windows")["rows"] == 7
    manifest = command("show", "latest", "-d", "old-windows", "--json").json["manifest"]
    assert postgres.url.split("/")[2].split(":")[0] in manifest["roles"]
    assert list(script.pieces(file)) == list(script.pieces(tmp_path / "old.sql"))
    file.write_bytes(whole.decode().encode("utf-16"))
    command("import", str(file), "--as", "old-windows").fails(2, "is in UTF-16")


def test_other_files_are_refused(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    name = new_database(AWKWARD, "forms")
    whole = dumped(postgres, name, tmp_path / "old.sql").read_bytes()
    file = tmp_path / "new.sql"

    def refused(content: bytes, status: int, *messages: str) -> None:
        file.write_bytes(content)
        done = command("import", str(file), "--as", "old")
        done.fails(status, messages[0])
        assert all(message in done.err for message in messages), done

    refused(whole[: len(whole) // 2], 1, "was cut off")
    refused(
        whole.replace(b"\nCREATE FUNCTION", b"\n\\! touch /tmp/x\nCREATE FUNCTION"),
        1,
        "PostgreSQL refused the script",
    )
    refused(
        whole.replace(b"CREATE SEQUENCE", b"CREATE EXTENSION nowhere; CREATE SEQUENCE"),
        1,
        "PostgreSQL refused the script",
        "nowhere",
    )
    refused(whole.replace(b"\n3\t", b"\nno number 7\t"), 1, "invalid input syntax for type integer")
    refused(b"\\connect a\n" + whole + b"\\connect b\n" + whole, 1, "has 2 databases")
    refused(b"-- MySQL dump 10.13\n", 2, "is not a dump of pg_dump")
    refused(b"", 2, "is not a dump of pg_dump")
    assert command("list", "--json").json == []


def test_a_damaged_archive_is_refused(
    command: Command, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    whole = dumped(postgres, database, tmp_path / "old.dump", "-Fc")
    half = tmp_path / "half.dump"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = command("import", str(half), "--as", "old")
    done.fails(1, "pg_restore exited with")
    done = command("import", str(whole), "--as", database)
    done.fails(2, "is a configured database")
    done = command("import", str(whole), "--as", "../x")
    done.fails(2, "not a valid folder name")
    assert command("list", "--json").json == []


def test_roles_are_read_from_what_names_roles_and_from_no_text() -> None:
    statements = [
        b"ALTER TABLE public.a OWNER TO owner;",
        b"SET SESSION AUTHORIZATION 'by string';",
        b"SET SESSION AUTHORIZATION grantor;",
        b'GRANT SELECT ON TABLE public."x TO y" TO "grantee; 1" WITH GRANT OPTION;',
        b"ALTER DEFAULT PRIVILEGES FOR ROLE maker IN SCHEMA public REVOKE ALL ON TABLES FROM reader;",
        b'CREATE POLICY "p TO q" ON public.t AS RESTRICTIVE FOR SELECT TO one, "Two, 2" USING ((a = 1));',
        b"CREATE USER MAPPING FOR mapped SERVER far OPTIONS (user 'u');",
        b"ALTER ROLE setter IN DATABASE shop SET app.note TO 'x';",
        b"GRANT ALL ON SCHEMA public TO PUBLIC;",
        b"COMMENT ON TABLE public.t IS 'was OWNER TO no1; FOR ROLE no2 ';",
        b"ALTER TABLE ONLY public.t ALTER COLUMN a SET DEFAULT ' OWNER TO no3'::text;",
        b"CREATE FUNCTION f() RETURNS void AS $$ \nGRANT x TO no4;\nALTER TABLE t OWNER TO no5;$$;",
        b"CREATE POLICY p ON public.t USING ((a <> ' TO no6 USING'::text));",
        b"CREATE VIEW v AS\n SELECT 'x'::text AS \"OWNER TO no7\";",
    ]
    found = foreign._roles(statements)
    assert set(found) == {
        "by string", "grantee; 1", "grantor", "maker", "mapped", "one", "owner", "reader", "setter", "Two, 2",
    }  # fmt: skip
    assert found["Two, 2"] == '"Two, 2"'


def test_the_locale_and_the_rules_of_its_provider_are_those_of_the_original() -> None:
    statement = (
        b"CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu"
        b" LOCALE = 'English_United States.1252' ICU_LOCALE = 'de-u-ks-level2' ICU_RULES = '&''a'' < b';"
    )
    found = foreign._server({"version": "16.4", "version_number": 160004}, [statement])
    assert (found.locale_provider, found.locale, found.collate) == (
        "i",
        "de-u-ks-level2",
        "English_United States.1252",
    )
    created = creation("new", found, 180000).as_string()
    assert created.endswith("LOCALE_PROVIDER icu ICU_LOCALE 'de-u-ks-level2' ICU_RULES '&''a'' < b'")
