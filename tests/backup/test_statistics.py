"""Statistics that cannot be collected leave a note, and no restore fails for them."""

import psycopg
import pytest

from backup.restore.statistics import collect
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase
from tests.backup.restorekit import Command

# Reading the foreign table fails, as it does where its server is out of reach.
SQL = """
CREATE FOREIGN DATA WRAPPER away; CREATE SERVER away FOREIGN DATA WRAPPER away;
CREATE TABLE p (a int) PARTITION BY RANGE (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10);
CREATE FOREIGN TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20) SERVER away;
CREATE TABLE ordinary AS SELECT 1 AS a;
INSERT INTO p1 VALUES (1);
"""
# Fails with the search path that ANALYZE uses, which a restore of the index does not notice while there is no row.
PICKY = """
CREATE FUNCTION picky(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
  IF $1 > 1 THEN RAISE 'no statistics of %', $1; END IF; RETURN $1; END $$;
CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1); CREATE INDEX ON t (picky(a)) WHERE a < 0;
CREATE STATISTICS s ON (picky(a + 1)) FROM t; CREATE TABLE u AS SELECT 1 AS a;
"""


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def analyzed(postgres: Postgres, name: str) -> set[str]:
    with psycopg.connect(postgres.url_for(name)) as connection:
        found = connection.execute("SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'public'")
        return {row[0] for row in found}


def test_a_part_on_another_server_is_not_read(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(SQL, "away")
    there = {"DATABASE_URL": postgres.url_for(name)}
    command.passed("run", **there)
    restored = command.passed("restore", "latest", "--into", f"{name}_back", **there)
    assert restored["differences"] == []
    assert [note for note in restored["notes"] if "statistics" in note] == [
        "public.p has no statistics for the planner: a part of it is on another server"
    ]
    assert analyzed(postgres, f"{name}_back") == {"p1", "ordinary"}


def test_one_failing_table_does_not_cost_others_their_statistics(
    postgres: Postgres, new_database: NewDatabase
) -> None:
    name = new_database(PICKY, "picky")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        notes = [note for note in collect(connection) if note.startswith("public.")]
    assert notes == ["public.t has no statistics for the planner: no statistics of 2"]
    assert "u" in analyzed(postgres, name)
