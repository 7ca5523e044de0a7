"""``doctor`` predicts what ``run`` and ``verify`` do: a ✖ where they fail, and none where they pass."""

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from backup.programs import Programs
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command

CLIENT_PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore")


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
    monkeypatch.setattr("backup.doctor.LOCK_SECONDS", 2)
    with psycopg.connect(postgres.url_for(name)) as connection:
        connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        found = failed(command, **there)
        assert "public.t is locked by server process" in found[f"postgres {name}: locked tables"]
        assert failed(command, BACKUP_EXCLUDE_TABLES="t", **there) == {}
    assert failed(command, **there) == {}


def client_only(programs: Path, folder: Path) -> str:
    """A folder of programs like that of Debian's postgresql-client."""
    folder.mkdir()
    for name in CLIENT_PROGRAMS:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{programs / name}" "$@"\n')
        path.chmod(0o755)
    return str(folder)


def test_a_host_without_server_programs_that_verifies_elsewhere(
    command: Command, postgres: Postgres, programs: Path, tmp_path: Path
) -> None:
    here = {"BACKUP_POSTGRES_BIN": client_only(programs, tmp_path / "client")}
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
