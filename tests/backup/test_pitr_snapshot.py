"""A dump is taken of a snapshot that has an exact place in the WAL; its sequences are read before it."""

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pyrage
import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Place, Sequence
from backup.physical.probe import has_place
from backup.postgres import inventory
from backup.postgres.dsn import parse
from backup.postgres.snapshot import TRIES, snapshot
from backup.programs import Programs
from backup.settings import BackupSettings
from backup.wiring import Wiring, wire
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.walkit import until
from tests.conftest import PHYSICAL, programs_of


@pytest.fixture
def server(postgres_of: Callable[[int], Postgres]) -> Postgres:
    return postgres_of(SUPPORTED[-1])


def wired(server: Postgres, folder: Path) -> Wiring:
    folder.mkdir()
    return wire(
        BackupSettings.load(
            {
                "BACKUP_SERVERS": f"main={server.url_for('postgres')}",
                "BACKUP_STORE_URL": f"file://{folder}",
                "BACKUP_WORK_DIR": str(folder),
                "BACKUP_POSTGRES_BIN": str(server.programs),
                "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
            }
        )
    )


def test_a_refused_snapshot_is_taken_again(server: Postgres) -> None:
    judged: list[Place] = []

    def judge(system: str, place: Place) -> bool:
        assert system.isdigit()
        judged.append(place)
        return len(judged) == 3

    with snapshot(parse(server.url), judge=judge) as moment:
        assert moment.place == judged[2]
        assert moment.contents.result(60)


def test_a_snapshot_is_taken_in_the_end(server: Postgres) -> None:
    """A dump that cannot be compared is still a dump."""
    judged: list[Place] = []

    def judge(_: str, place: Place) -> bool:
        judged.append(place)
        return False

    with snapshot(parse(server.url), judge=judge) as moment:
        assert moment.place is not None
    assert len(judged) == TRIES


def test_sequences_are_read_before_the_snapshot(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recovery to the snapshot has at least these values. Read in the snapshot's own transaction, they might be too high."""
    name = f"numbers_{secrets.token_hex(3)}"
    isolations: list[object] = []
    read = inventory.sequences

    def look(connection: Connection[TupleRow]) -> tuple[Sequence, ...]:
        isolations.append(connection.execute("SHOW transaction_isolation").fetchone())
        return read(connection)

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SEQUENCE {name}")
        connection.execute(f"SELECT nextval('{name}')")
        monkeypatch.setattr(inventory, "sequences", look)
        with snapshot(parse(server.url)) as moment:
            found = {each.name: each.last_value for each in moment.contents.result(60).sequences}
        connection.execute(f"DROP SEQUENCE {name}")
    assert isolations == [("read committed",)]
    assert found[f"public.{name}"] == 1


@pytest.fixture(params=SUPPORTED, ids=lambda version: f"postgres{version}")
def synchronous(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Postgres]:
    """A server whose commits wait, and are not visible meanwhile, unless they ask not to wait."""
    options = {**PHYSICAL, "synchronous_standby_names": "nobody"}
    with Postgres(tmp_path / "server", programs=programs_of(request.param), options=options) as server:
        yield server


def test_a_commit_that_is_written_and_not_yet_visible_is_noticed(
    synchronous: Postgres, tmp_path: Path
) -> None:
    wiring = wired(synchronous, tmp_path / "work")
    with psycopg.connect(synchronous.url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = local")
        system = inventory.system_identifier(connection)
        connection.execute("CREATE TABLE t (n int)")
        assert has_place(wiring, system, _place(connection))
        waiting = threading.Thread(target=_insert, args=(synchronous, 1))
        waiting.start()
        waits = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        until(lambda: connection.execute(waits).fetchone(), "the commit waits")
        # It is in the log, but not visible yet.
        connection.execute("INSERT INTO t VALUES (2)")
        assert not has_place(wiring, system, _place(connection))
        # Of another server, nothing is known.
        assert has_place(wiring, "1234567890", _place(connection))
        connection.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        waiting.join(60)
        assert has_place(wiring, system, _place(connection))
    # If the log cannot be read, a dump is more important than its place.
    assert has_place(replace(wiring, programs=Programs(tmp_path)), system, Place(snapshot="1:1:", position=1))
    away = wire(
        BackupSettings.load(
            {
                "BACKUP_SERVERS": "main=postgresql://nobody@127.0.0.1:1/postgres",
                "BACKUP_STORE_URL": f"file://{tmp_path}",
                "BACKUP_POSTGRES_BIN": str(synchronous.programs),
                "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
            }
        )
    )
    assert has_place(away, system, Place(snapshot="1:1:", position=1))


def _insert(server: Postgres, number: int) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = on")
        connection.execute("INSERT INTO t VALUES (%s)", [number])


def _place(connection: Connection[TupleRow]) -> Place:
    row = connection.execute(
        "SELECT pg_current_snapshot()::text, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint"
    ).fetchone()
    assert row is not None
    return Place(snapshot=row[0], position=row[1])
