"""Restoring one database as of a point in time next to production, and a whole server into a folder."""

import secrets
import time
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from backup.cancellation import never
from backup.catalogue.manifest import Manifest, Server
from backup.catalogue.records import Difference
from backup.physical import lsn, records, waldump
from backup.programs import Programs
from backup.restore.database import Restored
from backup.restore.point import explained
from backup.wiring import Wiring
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.pitrkit import IDENTITY, LEDGER, Archiver, settings_of
from tests.backup.restorekit import Command, names
from tests.backup.walkit import Stream, emit, listing, write
from tests.conftest import PHYSICAL


@pytest.fixture
def shop(server: Postgres) -> str:
    name = f"shop_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with psycopg.connect(server.url_for(name), autocommit=True) as connection:
        connection.execute(LEDGER)
        connection.execute("CREATE UNLOGGED TABLE cached AS SELECT 1 AS n")
    return name


@pytest.fixture
def environ(server: Postgres, shop: str, store_url: str, tmp_path: Path) -> dict[str, str]:
    settings = settings_of(server, store_url, tmp_path)
    return {**settings, "BACKUP_DATABASE_URLS": f"shop={server.url_for(shop)}"}


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


class Ledger:
    """Rows that are committed one by one, and their positions in the log."""

    def __init__(self, server: Postgres, database: str, archiver: Archiver) -> None:
        self._server, self._database, self._archiver = server, database, archiver

    def grow(self, count: int = 5) -> tuple[int, datetime, str]:
        """Commit rows; returns the rows so far, a moment after the last one, and the position after it."""
        with psycopg.connect(self._server.url_for(self._database), autocommit=True) as connection:
            for _ in range(count):
                connection.execute("INSERT INTO ledger SELECT coalesce(max(n), 0) + 1 FROM ledger")
            row = connection.execute(
                "SELECT count(*), clock_timestamp(), pg_current_wal_insert_lsn()::text FROM ledger"
            ).fetchone()
        assert row is not None
        time.sleep(0.002)  # a commit in the same microsecond would be included
        return row

    def stored(self) -> None:
        """One more commit, so that every time before it can be reached; waits until all of it is stored."""
        self._archiver.wait_for(emit(self._server, b"heartbeat"))

    def rows(self, database: str) -> int:
        with psycopg.connect(self._server.url_for(database)) as connection:
            row = connection.execute("SELECT count(*) FROM ledger").fetchone()
        assert row is not None
        return int(row[0])


@pytest.fixture
def ledger(server: Postgres, shop: str, archiver: Archiver) -> Ledger:
    return Ledger(server, shop, archiver)


def test_a_table_that_was_emptied_comes_back_by_a_rename(
    command: Command, ledger: Ledger, server: Postgres, shop: str
) -> None:
    command.passed("run", "-d", "main")
    wanted, moment, _ = ledger.grow()
    with psycopg.connect(server.url_for(shop), autocommit=True) as connection:
        connection.execute("TRUNCATE ledger")
    ledger.stored()
    plan = command("restore", "main", "--at", moment.isoformat(" "), "-d", "shop", "--dry-run")
    assert plan.status == 0, plan
    assert "would recover to" in plan.out
    assert "time         not known: nothing is proven yet; then the database is dumped" in plan.out
    arguments = ("restore", "main", "--at", moment.isoformat(" "), "-d", "shop", "--dry-run")
    planned = command.passed(*arguments)
    assert (planned["production"], planned["promoted_at"]) == (shop, None)
    assert planned["server_bytes"] > 0
    done = command.passed("restore", "main", "--at", moment.isoformat(" "), "-d", "shop")
    assert done["ok"] is True
    assert ledger.rows(done["into"]) == wanted
    assert any("unlogged tables are empty" in note for note in done["notes"]), done["notes"]
    again = command.passed("restore", "main", "--at", moment.isoformat(" "), "-d", "shop")
    assert again["found"] is True
    promoted = command.passed("promote", "-d", "shop", "--yes-i-mean", shop)
    assert promoted["from"] == done["into"] == planned["into"]
    assert ledger.rows(shop) == wanted
    assert command.passed(*arguments)["promoted_at"] is not None
    command.passed("rollback", "-d", "shop", "--yes-i-mean", shop)
    assert ledger.rows(shop) == 0
    assert names(server, shop)


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_marks_positions_and_the_latest_state(command: Command, ledger: Ledger) -> None:
    command.passed("run", "-d", "main")
    first, _, position = ledger.grow()
    marked, _, _ = ledger.grow()
    name = f"before {secrets.token_hex(4)}"
    made = command.passed("mark", name)
    assert made["name"] == name
    assert command("mark", name).status == 2
    last, _, _ = ledger.grow()
    ledger.stored()
    # A restore reads only the store: the server may be unreachable or lost.
    away = "main=postgresql://nobody@127.0.0.1:1/postgres"
    for arguments, count in (
        (("--at-lsn", position), first),
        (("--at-mark", name), marked),
        (("--at", "latest"), last),
    ):
        done = command.passed(
            "restore",
            "main",
            *arguments,
            "-d",
            "shop",
            "--into",
            f"into_{secrets.token_hex(3)}",
            BACKUP_SERVERS=away,
        )
        assert ledger.rows(done["into"]) == count, arguments


def test_a_database_that_was_dropped_comes_back_whole(
    command: Command, ledger: Ledger, server: Postgres, shop: str
) -> None:
    """Recovery to a time stops before the commit of DROP DATABASE, when the files are already gone."""
    command.passed("run", "-d", "main")
    wanted, _, _ = ledger.grow()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {shop} WITH (FORCE)")
    ledger.stored()
    printed = _drop_commit(server)
    done = command.passed(
        "restore", "main", "--at", printed, "-d", "shop", "--into", f"back_{secrets.token_hex(3)}"
    )
    assert ledger.rows(done["into"]) == wanted


def _drop_commit(server: Postgres) -> str:
    """A moment just before the commit of the last DROP DATABASE, after its files were removed."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn())").fetchone()
    assert row is not None
    wal = server.data / "pg_wal"
    log = list(waldump.printed(Programs(server.programs), wal, [row[0]], server.folder, never))
    [*_, (dropped, _)] = records.drops(log)
    commit = next(each for each in records.endings(log) if each.xid == dropped.xid)
    return (commit.moment - timedelta(microseconds=1)).isoformat(" ")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--at", "2026-11-28 14:03:00"), "no time zone"),
        (("--at", "2001-01-01 00:00:00+00"), "before the end of the first base backup"),
        (("--at", "2999-01-01 00:00:00+00"), "after the end of what is stored"),
        (("--at-lsn", "0/1"), "before the end of the first base backup"),
        (("--at-lsn", "FFFF/0"), "after the end of what is stored"),
        (("--at-mark", "never made"), "is not known"),
        (("--at", "latest", "--at-lsn", "0/1"), "cannot be combined"),
        (("--at", "latest", "--to-folder", "/nonexistent/x", "--into", "y"), "cannot be combined"),
    ],
)
@pytest.mark.parametrize("server", [18], indirect=True, ids=["postgres18"])
def test_what_cannot_be_recovered_is_refused_with_words(
    command: Command, ledger: Ledger, arguments: tuple[str, ...], why: str
) -> None:
    command.passed("run", "-d", "main")
    ledger.stored()
    done = command("restore", "main", *arguments)
    assert done.status == 2, done
    assert why in done.err


def switch(server: Postgres) -> None:
    """Let the server begin another file of the log."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("SELECT pg_switch_wal()")


def test_a_whole_server_is_recovered_into_a_folder_and_starts(
    command: Command, ledger: Ledger, shop: str, server: Postgres, tmp_path: Path
) -> None:
    command.passed("run", "-d", "main")
    for _ in range(3):
        wanted, _, _ = ledger.grow()
        switch(server)
    ledger.stored()
    folder = tmp_path / "w" / "data"
    folder.parent.mkdir()
    done = command.passed("restore", "main", "--at", "latest", "--to-folder", str(folder))
    assert done["timeline"] == 2
    # The WAL before its timeline is in the store, and not in the folder again.
    [fork] = {
        line.split()[1]
        for line in (folder / "pg_wal" / "00000002.history").read_text().splitlines()
        if line.startswith("1")
    }
    begin = lsn.segment_name(1, lsn.segment_of(lsn.parse(fork), 1 << 24), 1 << 24)
    kept = {each.name[8:] for each in (folder / "pg_wal").glob("0" * 7 + "?" * 17)}
    assert min(kept) == begin[8:]
    refused = command("restore", "main", "--at", "latest", "--to-folder", str(folder))
    assert refused.status == 2
    assert "is not empty" in refused.err
    with Postgres(folder.parent, programs=server.programs) as restored:
        assert Ledger(restored, shop, None).rows(shop) == wanted  # type: ignore[arg-type]
        with psycopg.connect(restored.url) as connection:
            slots = connection.execute(
                "SELECT slot_name, restart_lsn IS NOT NULL FROM pg_replication_slots"
            ).fetchall()
    assert slots == [("posthub_wal", True)]


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_the_chain_continues_over_a_server_that_was_restored(
    command: Command,
    ledger: Ledger,
    archiver: Archiver,
    shop: str,
    server: Postgres,
    wiring: Wiring,
    tmp_path: Path,
) -> None:
    """Its slot is created before it leaves recovery: nothing that it writes is missing, and the old base backup leads there."""
    command.passed("run", "-d", "main")
    wanted, _, _ = ledger.grow()
    ledger.stored()
    folder = tmp_path / "w" / "data"
    folder.parent.mkdir()
    command.passed("restore", "main", "--at", "latest", "--to-folder", str(folder))
    # The old server is gone: nothing more is stored.
    archiver.finish()
    with Postgres(folder.parent, programs=server.programs, options=PHYSICAL) as restored:
        with psycopg.connect(restored.url_for(shop), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            connection.execute("INSERT INTO ledger VALUES (1000)")
        with Stream(restored, wiring.store, keys=wiring.keys, recipient=str(IDENTITY.to_public())) as stream:
            stream.stores(write(restored))
            assert stream.measures.timeline == 2
            found = listing(wiring.store, archiver.archive)
    assert found.gaps == ()
    assert [each.timeline for each in found.histories] == [2]
    done = command.passed(
        "restore", "main", "--at", "latest", "-d", "shop", "--into", f"on_{secrets.token_hex(3)}"
    )
    assert ledger.rows(done["into"]) == wanted + 1
    # Without its history, it is not known where a timeline begins: the old one's end is not the latest state.
    wiring.store.delete([each.stored.key for each in found.histories])
    refused = command("restore", "main", "--at", "latest", "-d", "shop")
    assert refused.status == 2, refused
    assert "WAL of timeline 2 is stored, and its history is missing or cannot be read" in refused.err
    plan = command("restore", "main", "--at", "latest", "-d", "shop", "--timeline", "1", "--dry-run")
    assert plan.status == 0, plan


@pytest.mark.parametrize("server", [SUPPORTED[-1]], indirect=True, ids=["newest"])
def test_older_programs_explain_a_restore_that_failed(
    wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may write dumps that no server accepts, such as pg_attver."""
    error = 'could not execute query: ERROR:  unrecognized parameter "pg_attver"'
    failed = [Difference(kind="restore", object="archive", expected="no error", found=error)]
    manifest = Manifest.model_construct()
    original = Server.model_construct(version="17.12", version_number=170012)
    monkeypatch.setattr(Programs, "version", lambda *_: "17.11")
    notes = explained(wiring, original, Restored("x", manifest, tuple(failed)))
    assert any("the server was PostgreSQL 17.12, the programs here are 17.11" in note for note in notes), (
        notes
    )
    assert any("the server's programs are newer than those here" in note for note in notes), notes
    assert explained(wiring, original, Restored("x", manifest)) == []
