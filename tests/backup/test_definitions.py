"""Definitions of many tables are created in one transaction, or not at all."""

import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from backup.cancellation import Check, never
from backup.errors import SpaceError
from backup.load import definitions, lanes, passes, pg_restore
from backup.load.definitions import create_at_once, create_lanes, messages, without_commands
from backup.load.pg_restore import load_archive
from backup.postgres.dsn import Address, parse
from backup.programs import Programs
from stack.servers import Postgres
from stack.wait import wait_for
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
    archive: Path,
    empty: Address,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = Programs(programs)
    monkeypatch.setattr(definitions, "AT_ONCE", 1)
    # The comment is cut in its middle, so its statement is not closed.
    caplog.set_level("INFO")
    assert not create_at_once(found, empty, archive, ["--section=pre-data"], never)
    assert "so pg_restore creates them: " in caplog.text
    assert "unterminated" in caplog.text
    assert tables(empty) == []
    monkeypatch.undo()
    assert create_at_once(found, empty, archive, ["--section=pre-data"], never)
    assert sorted(tables(empty)) == ["a", "b"]
    # They exist by now.
    assert not create_at_once(found, empty, archive, ["--section=pre-data"], never)


@pytest.mark.parametrize(
    ("at_once", "least"), [(1, 1 << 20), (1, 1), (definitions.AT_ONCE, 1 << 20), (definitions.AT_ONCE, 1)]
)
def test_the_result_is_that_of_pg_restore(
    archive: Path,
    empty: Address,
    programs: Path,
    postgres: Postgres,
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    least: int,
    tmp_path: Path,
) -> None:
    """Whether the transactions succeed, or pg_restore has to do their work, in one session or two."""
    other = parse(postgres.url_for(new_database("SELECT 1", "at_once")))
    monkeypatch.setattr(passes, "MANY_TABLES", 1)
    monkeypatch.setattr(definitions, "AT_ONCE", at_once)
    monkeypatch.setattr(lanes, "LEAST", least)
    monkeypatch.setattr(lanes, "LARGEST_SHARE", 1)
    assert load_archive(Programs(programs), empty, archive, 2, alone=True) == []
    assert load_archive(Programs(programs), other, archive, 2) == []
    assert everything(programs, empty, tmp_path) == everything(programs, other, tmp_path)


def test_errors_are_those_of_pg_restore(
    archive: Path, empty: Address, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(empty.conninfo, password=empty.password) as connection:
        connection.execute("CREATE TABLE b (y int)")
    monkeypatch.setattr(passes, "MANY_TABLES", 1)
    found = load_archive(Programs(programs), empty, archive, 2, alone=True)
    assert any('relation "b" already exists' in each.found for each in found), found
    assert "a" in tables(empty)


def test_a_session_that_fails_leaves_its_part_to_pg_restore(
    archive: Path, empty: Address, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passes, "MANY_TABLES", 1)
    monkeypatch.setattr(lanes, "LEAST", 1)
    real, created = create_at_once, []

    def create(*arguments: Any) -> bool:
        created.append(arguments[3])
        return len(created) != 1 and real(*arguments)

    monkeypatch.setattr(definitions, "create_at_once", create)
    monkeypatch.setattr(pg_restore, "create_at_once", create)
    assert load_archive(Programs(programs), empty, archive, 2, alone=True) == []
    assert sorted(tables(empty)) == ["a", "b"]
    assert len(created) > 2


def test_the_error_of_one_session_ends_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = threading.Event()

    def create(programs: object, address: object, archive: object, lane: list[str], check: Check) -> bool:
        if lane == ["fails"]:
            raise SpaceError("no room", hint="none")
        try:
            wait_for(check, timeout=20, what="the end of this session", hint="see the check")
        finally:
            ended.set()
        return True

    monkeypatch.setattr(definitions, "create_at_once", create)
    with pytest.raises(SpaceError, match="no room"):
        create_lanes(Programs(), Address({}), tmp_path, [["waits"], ["fails"]], never)
    assert ended.is_set()


READS_ANOTHER = """
CREATE TABLE parent (x int);
CREATE FUNCTION known(y int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN EXISTS (SELECT FROM public.parent WHERE x = y); END $$;
INSERT INTO parent VALUES (1);
CREATE TABLE z_child (x int CHECK (known(x)), y text);
CREATE TABLE z_other (y text);
INSERT INTO z_child SELECT 1, repeat('x', 4000) FROM generate_series(1, 100);
INSERT INTO z_other SELECT repeat('x', 4000) FROM generate_series(1, 2000)
"""


def test_a_constraint_may_read_a_table_that_is_filled_later(
    postgres: Postgres,
    new_database: NewDatabase,
    programs: Path,
    empty: Address,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two processes begin with the two largest tables; one after the other, the tables come in their order."""
    url, file = postgres.url_for(new_database(READS_ANOTHER, "order")), tmp_path / "archive"
    subprocess.run([programs / "pg_dump", "-Fc", "-Z0", "-f", file, url], check=True)
    monkeypatch.setattr(passes, "MANY_TABLES", 1)
    monkeypatch.setattr(passes, "SMALL_TABLE", 1 << 30)
    assert load_archive(Programs(programs), empty, file, 2, alone=True) == []
    with psycopg.connect(empty.conninfo, password=empty.password) as connection:
        assert connection.execute("SELECT count(*) FROM z_child").fetchone() == (100,)


FAILED = (
    "pg_restore: from TOC entry 2574; 0 16391 TABLE DATA z_child posthub",
    'pg_restore: error: COPY failed for table "z_child": ERROR:  new row for relation "z_child" violates check constraint "c"',
    'CONTEXT:  COPY z_child, line 1: "1"',
    "pg_restore: warning: errors ignored on restore: 2",
)


@pytest.mark.parametrize(
    ("more", "rows", "again"),
    [
        ((), True, {b"2574"}),
        ((), False, set()),
        (("pg_restore: error: could not write: No space left on device",), True, set()),
        (("(17 lines are left out)",), True, set()),
    ],
)
def test_only_rows_that_another_table_may_have_hindered_are_tried_again(
    more: tuple[str, ...], rows: bool, again: set[bytes]
) -> None:
    assert pg_restore._hindered((*FAILED, *more), rows=rows)[1] == again
    assert pg_restore._hindered((), rows=rows)[1] == set()
