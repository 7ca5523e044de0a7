"""``doctor`` predicts what ``run`` and ``verify`` do: a ✖ where they fail, and none where they pass."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from backup.programs import Programs
from backup.verify.provable import CLIENT_PROGRAMS, SERVER_PROGRAMS
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, PostgresOf
from tests.backup.restorekit import Command


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def failed(command: Command, **more: str) -> dict[str, str]:
    """The checks of doctor that failed, with their details and advice."""
    found = command("doctor", "--json", **more).json
    return {each["name"]: f"{each['detail']}; {each['fix']}" for each in found if each["ok"] is False}


@pytest.fixture
def reader(postgres: Postgres) -> Iterator[str]:
    """A role that may read everything, and nothing else."""
    name = f"reader_{secrets.token_hex(3)}"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'longer than ten'".encode())
    yield name
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE {name}".encode())


@pytest.mark.parametrize(
    ("privilege", "what"),
    [
        ("EXECUTE ON FUNCTION", "pg_export_snapshot()"),
        ("EXECUTE ON FUNCTION", "pg_current_snapshot()"),
        ("EXECUTE ON FUNCTION", "pg_try_advisory_lock(bigint)"),
        ("EXECUTE ON FUNCTION", "set_config(text,text,boolean)"),
        ("SELECT ON", "pg_database"),
        ("SELECT ON", "pg_seclabels"),
    ],
)
def test_a_privilege_of_everyone_that_was_revoked(
    command: Command, postgres: Postgres, new_database: NewDatabase, reader: str, privilege: str, what: str
) -> None:
    """The advice can be followed as it is."""
    name = new_database("CREATE TABLE t (a int); INSERT INTO t VALUES (1)", "revoked")
    url = urlsplit(postgres.url_for(name))
    there = {"DATABASE_URL": f"postgresql://{reader}:longer%20than%20ten@{url.hostname}:{url.port}/{name}"}
    of = f"{privilege} {what}"
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"GRANT SELECT ON t TO {reader}".encode())
        assert failed(command, **there) == {}
        connection.execute(f"REVOKE {of} FROM PUBLIC".encode())
        found = failed(command, **there)
        assert f"{reader} may not" in found[f"postgres {name}"]
        assert f"GRANT {privilege} pg_catalog.{what} TO {reader};" in found[f"postgres {name}"]
        done = command("run", **there)
        done.fails(2, f"{reader} may not", f"pg_catalog.{what}")
        connection.execute(f"GRANT {of} TO {reader}".encode())
        try:
            assert failed(command, **there) == {}
            command.passed("run", **there)
        finally:
            connection.execute(f"DROP OWNED BY {reader}".encode())


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "prepared", options={"max_prepared_transactions": "3"}) as server:
        yield server


@pytest.mark.parametrize(
    ("statement", "locked"),
    [
        ("ALTER TABLE t ADD b int", "t"),
        ("ALTER TABLE p ADD b int", "p"),
        ("CREATE OR REPLACE VIEW v AS SELECT a, 1 AS b FROM t", "v"),
        ("CREATE TABLE other (a int); INSERT INTO t VALUES (2)", None),
    ],
)
def test_a_lock_of_a_prepared_transaction(
    command: Command, prepared: Postgres, statement: str, locked: str | None
) -> None:
    there = {"DATABASE_URL": prepared.url}
    with psycopg.connect(prepared.url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE t (a int); CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE VIEW v AS SELECT a FROM t"
        )
        connection.execute("BEGIN")
        connection.execute(statement.encode())
        connection.execute("PREPARE TRANSACTION 'old one'")
        found = failed(command, **there)
        if locked is None:
            assert found == {}
            command.passed("run", **there)
        else:
            detail = found.pop("postgres posthub: locked tables")
            assert detail.startswith(f"public.{locked} is locked by prepared transaction old one")
            assert "ROLLBACK PREPARED" in detail
            assert found == {}
        connection.execute("ROLLBACK PREPARED 'old one'")
    assert failed(command, **there) == {}


def test_a_lock_of_a_session_counts_only_if_a_dump_would_wait_in_vain(
    command: Command, postgres: Postgres, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_database("CREATE TABLE t (a int)", "locked")
    there = {"DATABASE_URL": postgres.url_for(name)}
    monkeypatch.setattr("backup.doctor.postgres.LOCK_SECONDS", 2)
    with psycopg.connect(postgres.url_for(name)) as connection:
        connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        found = failed(command, **there)
        assert "public.t is locked by server process" in found[f"postgres {name}: locked tables"]
        assert failed(command, BACKUP_EXCLUDE_TABLES="t", **there) == {}
    assert failed(command, **there) == {}


def with_programs(programs: Path, folder: Path, names: tuple[str, ...]) -> str:
    """A folder with some of the programs; Debian's postgresql-client has only those of clients."""
    folder.mkdir()
    for name in names:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{programs / name}" "$@"\n')
        path.chmod(0o755)
    return str(folder)


def test_a_host_without_server_programs_that_verifies_elsewhere(
    command: Command, postgres: Postgres, programs: Path, tmp_path: Path
) -> None:
    here = {"BACKUP_POSTGRES_BIN": with_programs(programs, tmp_path / "client", CLIENT_PROGRAMS)}
    assert set(failed(command, **here)) >= {"programs"}
    here["BACKUP_VERIFY_URL"] = postgres.url_for("postgres")
    assert failed(command, **here) == {}
    command.passed("run", **here)
    assert command.passed("verify", **here)["ok"]
    assert command.passed("restore", "latest", "--into", f"copy_{secrets.token_hex(3)}", **here)["ok"]


def test_an_extension_that_only_the_verifying_server_needs(
    command: Command, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Programs, "extension_folder", lambda _: tmp_path)
    assert "the extension is missing: plpgsql, vector" in command("run").err
    there = {"BACKUP_VERIFY_URL": postgres.url_for("postgres")}
    assert failed(command, **there) == {}
    done = command("run", "--verify", **there)
    done.passes()
    assert "missing" not in done.err


@pytest.mark.parametrize(("free", "enough"), [(4.0, False), (60.0, True)])
def test_the_share_of_the_disk_that_must_stay_free(
    command: Command, monkeypatch: pytest.MonkeyPatch, free: float, enough: bool
) -> None:
    """A verification ends when only 5% of the disk is free, however little it needs."""
    made = command.passed("run")
    usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda folder: usage(folder)._replace(total=100 << 30, free=int(free * (1 << 30))),
    )
    assert (list(failed(command)) == []) is enough
    report = command("verify", made["id"], "--json").json
    assert report["ok"] is enough
    assert report["differences"] == []
    assert enough or "5% of the disk must stay free" in report["unprovable"][0]
    assert command("list", "--json").json[0]["state"] == ("verified" if enough else "unprovable")


def test_the_room_is_that_of_the_newest_backup(
    command: Command, monkeypatch: pytest.MonkeyPatch, postgres: Postgres, new_database: NewDatabase
) -> None:
    """Rows without indexes need more than twice their size on the server."""
    name = new_database(
        "CREATE TABLE t (a text); INSERT INTO t SELECT repeat(i::text, 400) FROM generate_series(1, 20000) i",
        "large",
    )
    there = {"DATABASE_URL": postgres.url_for(name)}
    made = command.passed("run", **there)
    usage = shutil.disk_usage
    for factor, enough in ((2.9, False), (3.1, True)):
        free = int(made["raw_bytes"] * factor)
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "disk_usage", lambda folder, free=free: usage(folder)._replace(free=free))
            found = failed(command, BACKUP_WORK_DIR_FLOOR="0", **there)
            report = command("verify", "--json", BACKUP_WORK_DIR_FLOOR="0", **there).json
        assert (found == {}, report["ok"]) == (enough, enough), found


@pytest.mark.parametrize(
    ("options", "starts"),
    [
        ("work_mem=banana", False),
        ("shared_preload_libraries=nothing_here", False),
        ("shared_preload_libraries=auto_explain; work_mem=8MB", True),
    ],
)
def test_settings_of_the_throwaway_server_are_tried(command: Command, options: str, starts: bool) -> None:
    command.passed("run")
    more = {"BACKUP_VERIFY_OPTIONS": options}
    assert (failed(command, **more) == {}) is starts
    assert (command("verify", **more).status == 0) is starts


def test_a_library_of_a_function_that_only_the_server_has(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database("SELECT 1", "library")
    there = {"DATABASE_URL": postgres.url_for(name)}
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        row = connection.execute("SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'").fetchone()
        assert row is not None
        library = Path(row[0]) / f"only_there_{secrets.token_hex(3)}.so"
        shutil.copy(Path(row[0]) / "autoinc.so", library)
        try:
            connection.execute(
                f"CREATE FUNCTION f() RETURNS trigger LANGUAGE C AS '$libdir/{library.stem}', 'autoinc'".encode()
            )
            assert failed(command, **there) == {}
            command.passed("run", **there)
        finally:
            library.unlink()
    missing = f"the library $libdir/{library.stem} of the function public.f is missing here"
    assert missing in failed(command, **there)[f"postgres {name}: verification"]
    report = command("verify", "--json", **there).json
    assert report["unprovable"] == ["an extension or library is missing here"]


def test_an_extension_of_another_version(
    command: Command, postgres: Postgres, new_database: NewDatabase, programs: Path
) -> None:
    """The type that an older version does not know does not count as damage."""
    folder, name = Programs(programs).extension_folder(), f"walk{secrets.token_hex(3)}"
    control = folder / f"{name}.control"
    scripts = [folder / f"{name}--{version}.sql" for version in ("1.0", "2.0")]
    try:
        scripts[0].write_text("CREATE TYPE old AS ENUM ('x');")
        scripts[1].write_text("CREATE TYPE old AS ENUM ('x'); CREATE TYPE new AS ENUM ('y');")
        control.write_text("default_version = '2.0'\n")
        database = new_database(f"CREATE EXTENSION {name}; CREATE TABLE t (a new)", "version")
        there = {"DATABASE_URL": postgres.url_for(database)}
        command.passed("run", **there)
        control.write_text("default_version = '1.0'\n")
        found = {each["name"]: each for each in command("doctor", "--json", **there).json}
        remark = found[f"postgres {database}: extensions"]
        assert remark["ok"] is None
        assert f"{name} has version 2.0 on the server and 1.0 here" in remark["detail"]
        report = command("verify", "--json", **there).json
    finally:
        for file in (control, *scripts):
            file.unlink(missing_ok=True)
    assert report["unprovable"] == [f"the extension {name} has version 1.0 here, and 2.0 on the original"]
    assert command("list", "--json", **there).json[0]["state"] == "unprovable"


def test_a_verifying_server_that_is_older(
    command: Command, postgres: Postgres, postgres_of: PostgresOf, new_database: NewDatabase
) -> None:
    """Virtual columns came with PostgreSQL 18."""
    name = new_database("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)", "virtual")
    there = {
        "DATABASE_URL": postgres.url_for(name),
        "BACKUP_VERIFY_URL": postgres_of(15).url_for("postgres"),
    }
    command.passed("run", **there)
    found = {each["name"]: each for each in command("doctor", "--json", **there).json}
    assert found[f"postgres {name}: verification"]["ok"] is None
    assert "PostgreSQL 15 runs there" in found[f"postgres {name}: verification"]["detail"]
    report = command("verify", "--json", **there).json
    assert any(why.startswith("PostgreSQL is 15.") for why in report["unprovable"]), report


@pytest.mark.parametrize("missing", ["pg_restore", "postgres", "pg_dumpall"])
def test_a_missing_program_does_not_fail_the_backup(
    command: Command, programs: Path, tmp_path: Path, missing: str
) -> None:
    command.passed("run")
    folder = with_programs(
        programs, tmp_path / "some", tuple(name for name in SERVER_PROGRAMS if name != missing)
    )
    here = {"BACKUP_POSTGRES_BIN": folder}
    assert "programs" in failed(command, **here)
    report = command("verify", "--json", **here).json
    assert report["differences"] == []
    assert report["unprovable"][0].startswith(f"programs are missing here: {missing}: ")
    assert command("list", "--json").json[0]["state"] == "unprovable"
