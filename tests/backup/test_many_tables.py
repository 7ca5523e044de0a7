"""Thousands of tables: locks and statements are counted, and no message carries all names."""

import sys
from collections import Counter

import psycopg
import pytest

from backup.errors import LOCKS, DumpError
from backup.pipeline import ChildSource
from backup.postgres import inventory
from backup.postgres.dsn import parse
from backup.postgres.session import HeedingConnection, session
from backup.postgres.snapshot import snapshot
from backup.programs import clean_environment
from backup.wiring import Wiring
from sidecar import OpsError
from sidecar.errors import MAX_CHARACTERS
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire

TABLES = 120
MANY = (
    f"DO $$ BEGIN FOR i IN 1..{TABLES} LOOP EXECUTE format("
    "'CREATE TABLE t%s (id serial PRIMARY KEY, at int UNIQUE); INSERT INTO t%s (at) VALUES (%s)', i, i, i);"
    " END LOOP; END $$"
)


@pytest.fixture(scope="module")
def crowded(new_database: NewDatabase) -> str:
    return new_database(MANY, "crowded")


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The number of messages sent, by the first word of their first statement that does not concern a savepoint."""
    found: Counter[str] = Counter()
    real = HeedingConnection.execute

    def execute(self: HeedingConnection, query: object, *args: object, **options: object) -> object:
        found[str(query)] += 1
        return real(self, query, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(HeedingConnection, "execute", execute)
    return found


def test_a_snapshot_takes_one_lock_for_each_table_and_few_statements(
    postgres: Postgres, crowded: str, statements: Counter[str]
) -> None:
    with snapshot(parse(postgres.url_for(crowded))) as moment:
        contents = moment.contents.result(timeout=60)
        with psycopg.connect(postgres.url, autocommit=True) as watcher:
            row = watcher.execute(
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE application_name = 'posthub-backup-snapshot' AND datname = %s AND locktype = 'relation'",
                [crowded],
            ).fetchone()
    assert row is not None
    assert len(contents.tables) == len(contents.sequences) == TABLES
    assert {table.rows for table in contents.tables} == {1}
    assert sorted(each.last_value or 0 for each in contents.sequences) == [1] * TABLES
    # Two indexes and a sequence of each table would be 480.
    assert row[0] < TABLES + 60
    assert sum(statements.values()) < 40


def test_sequences_are_read_in_batches(
    postgres: Postgres, crowded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "SEQUENCES_AT_ONCE", 50)
    with session(parse(postgres.url_for(crowded))) as connection:
        found = inventory.sequences(connection)
    assert [each.name for each in found] == sorted(
        f"public.t{number}_id_seq" for number in range(1, TABLES + 1)
    )


def test_the_locks_of_a_dump_are_compared_with_the_servers_limit(
    wired: Wire,
    postgres: Postgres,
    crowded: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from backup.doctor import examine
    from backup.run import engine_for

    def checked(wiring: Wiring) -> str:
        return next(each.detail for each in examine(wiring) if each.name == f"postgres {crowded}: locks")

    wiring = wired(DATABASE_URL=postgres.url_for(crowded))
    assert checked(wiring) == "the server has room for the locks of a dump"
    # As on a server with less room than these tables take.
    monkeypatch.setattr(inventory, "_LOCKS", "SELECT 200::bigint")
    assert checked(wiring) == "a dump takes about 232, the server has room for about 200"
    engine_for(wiring, wiring.targets[0]).preflight()
    assert "set max_locks_per_transaction to 128 there" in caplog.text
    # Earlier versions of pg_dump keep a lock on each sequence.
    with session(parse(postgres.url_for(crowded))) as connection:
        assert inventory.locks_to_set(connection, 17) == (364, 200, 128)


def test_a_full_table_of_locks_is_named_with_its_setting(postgres: Postgres, crowded: str) -> None:
    address = parse(postgres.url_for(crowded))
    with pytest.raises(DumpError) as failed, session(address) as connection:
        connection.execute(
            "DO $$ BEGIN RAISE EXCEPTION 'out of shared memory' USING ERRCODE = '53200',"
            " HINT = 'You might need to increase \"max_locks_per_transaction\".'; END $$"
        )
    assert failed.value.hint == LOCKS
    code = "import sys; sys.exit('pg_dump: hint: You might need to increase max_locks_per_transaction')"
    with (
        pytest.raises(DumpError) as failed,
        ChildSource([sys.executable, "-c", code], env=clean_environment(), hint="none") as source,
    ):
        source.read()
    assert failed.value.hint == LOCKS


def test_no_message_carries_the_names_of_all_tables() -> None:
    statement = ", ".join(f"public.table_{number}" for number in range(8000))
    error = OpsError(f"pg_dump failed: LOCK TABLE {statement} IN ACCESS SHARE MODE", hint="none")
    assert error.message == str(error)
    assert len(error.message.encode()) < 2000
    assert error.message.startswith("pg_dump failed: LOCK TABLE public.table_0,")
    assert error.message.endswith("public.table_7999 IN ACCESS SHARE MODE")
    assert "characters are left out" in error.message
    exact = "x" * MAX_CHARACTERS
    assert OpsError(exact, hint="").message == exact
