"""Definitions of many tables are created in one transaction, or not at all."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from backup.cancellation import never
from backup.load import definitions, pg_restore
from backup.load.definitions import create_at_once, messages, without_commands
from backup.load.pg_restore import load_archive
from backup.postgres.dsn import Address, parse
from backup.programs import Programs
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase

LOOKS_LIKE_AN_END = "a;\n\n\n--\n-- Name: b"
SQL = (
    "CREATE TABLE a (x int PRIMARY KEY); CREATE TABLE b (x int REFERENCES a); INSERT INTO a VALUES (1);"
    f"INSERT INTO b VALUES (1); COMMENT ON TABLE a IS '{LOOKS_LIKE_AN_END}'; REVOKE ALL ON a FROM CURRENT_USER"
)


@pytest.fixture
def archive(postgres: Postgres, new_database: NewDatabase, programs: Path, tmp_path: Path) -> Path:
    url, file = postgres.url_for(new_database(SQL, "at_once")), tmp_path / "archive"
    subprocess.run([programs / "pg_dump", "-Fc", "-Z0", "-f", file, url], check=True)
    return file


@pytest.fixture
def empty(postgres: Postgres, new_database: NewDatabase) -> Address:
    return parse(postgres.url_for(new_database("SELECT 1", "at_once")))


def everything(programs: Path, address: Address, folder: Path) -> bytes:
    """A dump of a database without the key in it."""
    file = folder / "dump.sql"
    subprocess.run(
        [programs / "pg_dump", "--restrict-key=x", "-f", file, address.conninfo],
        check=True,
        env={"PGPASSWORD": address.password},
    )
    return file.read_bytes()


def tables(address: Address) -> list[str]:
    with psycopg.connect(address.conninfo, password=address.password) as connection:
        return [
            row[0]
            for row in connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid > 16384")
        ]


def test_the_parts_are_the_script_and_end_between_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    script = b"".join(b"SELECT %d;\n\n\n--\n-- Name: x\n--\n\n" % number for number in range(100))
    assert list(messages(script)) == [script]
    monkeypatch.setattr(definitions, "AT_ONCE", 100)
    parts = list(messages(script))
    assert b"".join(parts) == script
    assert len(parts) > 20
    assert all(part.endswith(b";") for part in parts[:-1])
    assert list(messages(b"")) == []


def test_only_the_commands_to_psql_are_left_out() -> None:
    body = b"SELECT '\n\\restrict other\n';\n"
    assert without_commands(b"--\n\\restrict KEY\n" + body + b"\\unrestrict KEY\n") == b"--\n" + body
    assert without_commands(body.replace(b"\\restrict ", b"")) == body.replace(b"\\restrict ", b"")


def test_a_refused_statement_leaves_nothing(
    archive: Path, empty: Address, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Programs(programs)
    monkeypatch.setattr(definitions, "AT_ONCE", 1)
    # The comment is cut in its middle, so its statement is not closed.
    assert not create_at_once(found, empty, archive, ["--section=pre-data"], never)
    assert tables(empty) == []
    monkeypatch.undo()
    assert create_at_once(found, empty, archive, ["--section=pre-data"], never)
    assert sorted(tables(empty)) == ["a", "b"]
    # They exist by now.
    assert not create_at_once(found, empty, archive, ["--section=pre-data"], never)


@pytest.mark.parametrize("at_once", [1, definitions.AT_ONCE])
def test_the_result_is_that_of_pg_restore(
    archive: Path,
    empty: Address,
    programs: Path,
    postgres: Postgres,
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    tmp_path: Path,
) -> None:
    """Whether the transaction succeeds, or pg_restore has to do its work."""
    other = parse(postgres.url_for(new_database("SELECT 1", "at_once")))
    monkeypatch.setattr(pg_restore, "MANY_TABLES", 1)
    monkeypatch.setattr(definitions, "AT_ONCE", at_once)
    assert load_archive(Programs(programs), empty, archive, 2, alone=True) == []
    assert load_archive(Programs(programs), other, archive, 2) == []
    assert everything(programs, empty, tmp_path) == everything(programs, other, tmp_path)


def test_errors_are_those_of_pg_restore(
    archive: Path, empty: Address, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(empty.conninfo, password=empty.password) as connection:
        connection.execute("CREATE TABLE b (y int)")
    monkeypatch.setattr(pg_restore, "MANY_TABLES", 1)
    found = load_archive(Programs(programs), empty, archive, 2, alone=True)
    assert any('relation "b" already exists' in each.found for each in found), found
    assert "a" in tables(empty)
