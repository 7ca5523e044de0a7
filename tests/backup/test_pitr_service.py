"""The whole path with the real process: ``wal serve`` stores the WAL, a base backup is taken meanwhile, and the store alone restores both."""

import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest

from backup.physical import lsn
from backup.physical.slot import NAME
from stack.ports import HOST, choose
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.restorekit import Command, value
from tests.backup.walkit import PUBLIC, SECRET, is_ready, serving, until, without_slot


@pytest.fixture
def server(postgres_of: Callable[[int], Postgres]) -> Iterator[Postgres]:
    found = postgres_of(SUPPORTED[-1])
    with without_slot(found):
        yield found


@pytest.fixture
def shop(server: Postgres) -> str:
    name = f"shop_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return name


@pytest.fixture
def environ(server: Postgres, shop: str, tmp_path: Path) -> dict[str, str]:
    for name in ("store", "work"):
        (tmp_path / name).mkdir()
    return {
        "BACKUP_SERVERS": f"main={server.url_for('postgres')}",
        "BACKUP_DATABASE_URLS": f"shop={server.url_for(shop)}",
        "BACKUP_STORE_URL": f"file://{tmp_path}/store",
        "BACKUP_WORK_DIR": str(tmp_path / "work"),
        "BACKUP_POSTGRES_BIN": str(server.programs),
        "BACKUP_AGE_RECIPIENTS": PUBLIC,
        "BACKUP_AGE_IDENTITY": SECRET,
        "BACKUP_WAL_INTERVAL": "0.2",
        "BACKUP_WAL_PORT": str(choose()),
        "LOG_LEVEL": "WARNING",
    }


@pytest.fixture
def service(environ: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with serving(environ) as process:
        yield process


def test_the_moment_before_a_mistake_comes_back_from_what_the_service_stored(
    environ: dict[str, str],
    service: "subprocess.Popen[bytes]",
    server: Postgres,
    shop: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = Command(environ, monkeypatch, capsys)
    with psycopg.connect(server.url_for(shop), autocommit=True) as connection:
        connection.execute("CREATE TABLE ledger AS SELECT n FROM generate_series(1, 1000) n")
        until(lambda: is_ready(environ), "the service streams")
        base = command.passed("run", "-d", "main")
        connection.execute("INSERT INTO ledger VALUES (1001)")
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        moment: datetime = row[0]
        connection.execute("TRUNCATE ledger")
        # The tests' server does not wait for the disk; this commit does, and so do all before it.
        connection.execute("SET synchronous_commit = on")
        connection.execute("INSERT INTO ledger VALUES (-1)")
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        end = lsn.parse(row[0])
        until(lambda: _confirmed(server) >= end, "all of it is stored")
    # The host is lost, and the server with it.
    service.send_signal(signal.SIGKILL)
    service.wait()
    away = {"BACKUP_SERVERS": f"main=postgresql://nobody@{HOST}:1/postgres"}
    done = command.passed("restore", "main", "--at", moment.isoformat(" "), "-d", "shop", **away)
    assert (done["ok"], done["base"]) == (True, base["id"]), done
    assert value(server, done["into"], "SELECT count(*) FROM ledger") == 1001


def _confirmed(server: Postgres) -> int:
    """The position that the service has confirmed to its slot."""
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [NAME]
        ).fetchone()
    return lsn.parse(row[0]) if row else 0
