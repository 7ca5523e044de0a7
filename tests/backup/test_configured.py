"""A server that BACKUP_VERIFY_URL names, and the user's own checks: what they lack says nothing about the backup, and doctor names it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from backup.verify.configured import _version, refused
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command

ROLES = """
DROP ROLE IF EXISTS reads_only, creates_databases;
CREATE ROLE reads_only LOGIN PASSWORD 'reads';
CREATE ROLE creates_databases LOGIN CREATEDB PASSWORD 'creates'
"""


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def url_of(postgres: Postgres, login: str) -> str:
    return postgres.url_for("postgres").replace("posthub:posthub", login)


def verification(command: Command, name: str, there: dict[str, str]) -> dict[str, Any]:
    checks = command("doctor", "--json", **there).json
    (found,) = [each for each in checks if each["name"] == f"postgres {name}: verification"]
    return dict(found)


def test_a_server_that_refuses_is_not_damage(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(ROLES)
    name = new_database("CREATE TABLE t (a int)", "there")
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    assert verification(command, name, {**there, "BACKUP_VERIFY_URL": postgres.url})["ok"] is True
    for login, detail, reason in (
        ("reads_only:reads", "may not create databases", "may not create databases"),
        ("creates_databases:creates", "may not give objects to posthub", "lacks privileges"),
    ):
        given = {**there, "BACKUP_VERIFY_URL": url_of(postgres, login)}
        found = verification(command, name, given)
        assert found["ok"] is False
        assert detail in found["detail"]
        report = command("verify", "--json", **given).json
        assert reason in report["unprovable"][0]
    command("verify", **there).passes("verified")
    # Nothing is restored for a login that is rejected.
    given = {**there, "BACKUP_VERIFY_URL": url_of(postgres, "reads_only:wrong")}
    found = verification(command, name, given)
    assert found["ok"] is False
    assert "password authentication failed" in found["detail"]


def test_an_extension_that_the_server_lacks(
    command: Command, postgres: Postgres, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = new_database("CREATE TABLE t (a int)", "there")
    monkeypatch.setattr(
        "backup.postgres.inventory.extensions",
        lambda _: (SimpleNamespace(name="plpgsql"), SimpleNamespace(name="odd")),
    )
    there = {"DATABASE_URL": postgres.url_for(name), "BACKUP_VERIFY_URL": postgres.url}
    assert (
        verification(command, name, there)["detail"] == "BACKUP_VERIFY_URL: extensions are missing there: odd"
    )


def test_a_server_that_is_newer_than_pg_dump() -> None:
    connection: Any = SimpleNamespace(info=SimpleNamespace(server_version=180001))
    programs: Any = SimpleNamespace(major=lambda _: 17, version=lambda _: "17.4")
    ((found, advice),) = _version(connection, programs)
    assert found == "BACKUP_VERIFY_URL: PostgreSQL 18 runs there, pg_dump here is 17.4"
    assert "PostgreSQL 18's programs" in advice
    programs.major = lambda _: 18
    assert list(_version(connection, programs)) == []


def test_errors_that_a_superuser_would_not_get() -> None:
    assert list(refused(['ERROR:  must be able to SET ROLE "shop"'])) != []
    assert list(refused(['ERROR:  permission denied to create extension "dblink"'])) != []
    # A view whose owner may not read its table is the backup's own.
    assert list(refused(["ERROR:  permission denied for table posts"])) == []


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "is not a folder"), ("SELECT true".encode("utf-16"), "cannot be read")]
)
def test_checks_that_cannot_be_run_are_found_beforehand(
    content: bytes | None, reason: str, command: Command, tmp_path: Path
) -> None:
    made = command.passed("run")
    folder = tmp_path / "checks"
    if content is not None:
        folder.mkdir()
        (folder / "posts.sql").write_bytes(content)
    for setting in (
        {"BACKUP_VERIFY_CHECKS_DIR": str(folder)},
        {"BACKUP_VERIFY_COMMAND": "/no/such/program now"},
    ):
        wanted = reason if "BACKUP_VERIFY_CHECKS_DIR" in setting else "is not an executable program"
        command("verify", made["id"], **setting).fails(1, wanted)
        checks = {each["name"]: each for each in command("doctor", "--json", **setting).json}
        assert checks["checks"]["ok"] is False
        assert wanted in checks["checks"]["detail"]
