"""``python -m backup wal``: the service as a process, its pages, and its commands."""

import json
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests
from click.testing import CliRunner
from prometheus_client import generate_latest

from backup.cancellation import Stop
from backup.cli import backup
from backup.doctor import examine
from backup.errors import StoreError
from backup.physical import lsn, slot
from backup.physical.archive import Archive
from backup.physical.measures import Beat, Measures
from backup.physical.metrics import registry
from backup.physical.offsite import OffsiteCopy
from backup.physical.pulse import CHANGES, PREFIX, Pulse, beat
from backup.physical.upkeep import stored
from backup.physical.uploads import Parcel, Uploads
from backup.postgres.dsn import parse
from backup.postgres.session import connect
from backup.run import run
from backup.settings import BackupSettings
from backup.store import LocalStore, MemoryStore, RetryingStore, RetryPolicy
from backup.wiring import wire
from stack.paths import ROOT
from stack.ports import HOST, choose
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.silentkit import SilentProxy, some, statements
from tests.backup.walkit import (
    PUBLIC,
    SECRET,
    SEGMENT,
    Ledger,
    Stream,
    archive_of,
    is_ready,
    listing,
    page,
    same_as_server,
    serving,
    until,
    without_slot,
    write,
)

# `./ops bench pitr --only kills` kills the stream 30 times.
KILLS = 12


@pytest.fixture
def server(postgres_of: Callable[[int], Postgres]) -> Iterator[Postgres]:
    found = postgres_of(SUPPORTED[-1])
    with without_slot(found):
        yield found


@pytest.fixture
def environment(server: Postgres, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "store").mkdir()
    return {
        "BACKUP_SERVERS": f"main={server.url_for('postgres')}",
        "BACKUP_STORE_URL": f"file://{tmp_path}/store",
        "BACKUP_AGE_RECIPIENTS": PUBLIC,
        "BACKUP_AGE_IDENTITY": SECRET,
        "BACKUP_MANIFEST_KEY": "k" * 32,
        "BACKUP_WAL_INTERVAL": "0.2",
        "BACKUP_WAL_PORT": str(choose()),
        "LOG_LEVEL": "WARNING",
    }


def samples(environment: dict[str, str]) -> dict[str, float]:
    lines = page(environment, "/metrics").text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def test_the_service_shows_that_the_chain_works(server: Postgres, environment: dict[str, str]) -> None:
    with serving(environment) as process:
        until(lambda: is_ready(environment), "it is ready")
        last = 'backup_wal_last_heartbeat_stored_timestamp_seconds{server="main"}'
        expected = {
            'backup_wal_streaming{server="main"}': 1,
            'backup_wal_slot_status{server="main",status="reserved"}': 1,
            'backup_wal_slot_uncapped{server="main"}': 0,
            'backup_wal_slot_cap_bytes{server="main"}': 1 << 30,
            'backup_wal_synchronous{server="main"}': 0,
            'backup_wal_gaps_total{server="main"}': 0,
        }

        def is_working() -> bool:
            found = samples(environment)
            return last in found and expected.items() <= found.items()

        until(is_working, "a heartbeat is stored, and everything is known")
        found = samples(environment)
        assert abs(found[last] - time.time()) < 60
        assert found['backup_wal_unstored_seconds{server="main"}'] < 60
        # No gap was looked for or found, so there is no such series.
        assert not any("gap_timestamp" in name or "base" in name for name in found)
        assert page(environment, "/healthz").text == "ok\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 0


def test_the_service_is_not_ready_while_the_server_is_down(environment: dict[str, str]) -> None:
    environment["BACKUP_SERVERS"] = f"main=postgresql://u:hush-hush@{HOST}:{choose()}/postgres"
    with serving(environment):
        until(lambda: "cannot connect" in _text(environment), "the problem is shown")
        assert page(environment, "/readyz").status_code == 503
        assert "hush" not in page(environment, "/readyz").text
        found = samples(environment)
        assert found['backup_wal_streaming{server="main"}'] == 0
        # Unknown values are absent.
        assert not any(
            name.startswith(("backup_wal_unstored", "backup_wal_slot", "backup_wal_lag")) for name in found
        )


def _text(environment: dict[str, str]) -> str:
    with suppress(requests.ConnectionError):
        return page(environment, "/readyz").text
    return ""


@pytest.mark.timeout(900)
def test_kills_leave_no_hole(server: Postgres, environment: dict[str, str], tmp_path: Path) -> None:
    """Each at a random moment, while the server writes: exactly what it wrote is stored."""
    store = LocalStore(tmp_path / "store")
    archive = archive_of(server, wire(BackupSettings.load(environment)).keys)
    with Ledger(server) as ledger:
        for number in range(KILLS):
            before = ledger.acknowledged
            with serving(environment) as process:
                until(lambda: is_ready(environment), "it streams")
                write(server, (10, 1_000, 5_000)[number % 3])
                time.sleep(random.random())  # the moment is what is tested
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert ledger.acknowledged > before, f"the server waits after {number} kills"
    end = write(server)
    with serving(environment):
        until(lambda: is_ready(environment), "it streams")
        until(lambda: kept(server) >= end, "everything is stored")
    assert same_as_server(server, store, archive, end) > SEGMENT
    found = listing(store, archive)
    assert (found.gaps, found.strangers) == ((), ())


def kept(server: Postgres) -> int:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(
            "SELECT restart_lsn::text FROM pg_replication_slots WHERE slot_name = %s", [slot.NAME]
        ).fetchone()
    return lsn.parse(row[0]) if row else 0


def test_the_status_shows_what_is_stored_and_the_slot(
    server: Postgres, environment: dict[str, str], tmp_path: Path
) -> None:
    wiring = wire(BackupSettings.load(environment))
    with Stream(server, LocalStore(tmp_path / "store"), keys=wiring.keys) as stream:
        end = write(server, 100)
        stream.stores(end)
        # A slot in use is not dropped.
        done = CliRunner().invoke(backup, ["wal", "release"], env=environment)
        assert "is active for PID" in str(done.exception)
    done = CliRunner().invoke(backup, ["wal", "status", "--json"], env=environment)
    assert done.exit_code == 1, done.output  # nothing can be recovered without a base backup
    found = json.loads(done.stdout)[0]
    assert (found["server"], found["windows"], found["gaps"]) == ("main", [], [])
    assert found["stored_bytes"] > 0
    assert lsn.parse(found["stretches"][0]["end"]) >= end
    assert found["slot"]["state"] == "reserved"
    text = CliRunner().invoke(backup, ["wal", "status"], env=environment).output
    assert "nothing can be recovered; take a base backup: python -m backup run -d main" in text
    for message in ("was dropped", "does not exist"):
        assert message in CliRunner().invoke(backup, ["wal", "release"], env=environment).output


def test_the_status_without_the_server_shows_the_store(environment: dict[str, str]) -> None:
    environment["BACKUP_SERVERS"] = f"main=postgresql://u:p@{HOST}:{choose()}/postgres"
    done = CliRunner().invoke(backup, ["wal", "status"], env=environment)
    assert "the server does not answer" in done.output


def test_the_doctor_looks_at_the_server(
    server: Postgres, environment: dict[str, str], tmp_path: Path
) -> None:
    found = {check.name: check for check in examine(wire(BackupSettings.load(environment)))}
    for what in ("", ": limit", ": commits", ": replication", ": idle slots", ": rights"):
        assert found[f"server main{what}"].ok, found[f"server main{what}"]
    bad = {
        "synchronous_standby_names": "*",
        "idle_replication_slot_timeout": "60",
        "max_replication_slots": "0",
        "wal_level": "minimal",
        "max_wal_senders": "0",
    }
    with Postgres(tmp_path / "bad", options={key: bad[key] for key in list(bad)[:3]}) as other:
        environment["BACKUP_SERVERS"] = f"main={other.url_for('postgres')}"
        found = {check.name: check for check in examine(wire(BackupSettings.load(environment)))}
        verdicts = {
            name.rpartition(": ")[2]: check.ok
            for name, check in found.items()
            if name.startswith("server main:")
        }
        assert verdicts == {
            "limit": False,
            "commits": False,
            "replication": False,
            "idle slots": None,
            "rights": True,
        }


@pytest.fixture
def official(server: Postgres, environment: dict[str, str], tmp_path: Path) -> Iterator[Postgres]:
    """A server with the rules that the official image's entrypoint writes for every host but its own.

    docker-library/postgres, docker-entrypoint.sh, ``pg_setup_hba_conf``, as of 2026-11-28.
    """
    made = Postgres(
        tmp_path / "official", programs=server.programs, options={"max_slot_wal_keep_size": "10GB"}
    )
    environment["BACKUP_SERVERS"] = f"main=postgresql://posthub_wal:hush@{HOST}:{made.port}/postgres"
    with made:
        (made.data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
        with psycopg.connect(made.url_for("postgres")) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield made


def test_the_official_image_needs_only_the_role_of_the_documentation(
    official: Postgres, environment: dict[str, str]
) -> None:
    """No rule in pg_hba.conf, no restart."""
    [sql] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "pitr.md").read_text(), re.DOTALL)
    with psycopg.connect(official.url_for("postgres"), autocommit=True) as connection:
        connection.execute(sql.replace("…", "hush"))
    wiring = wire(BackupSettings.load(environment))
    assert [check for check in examine(wiring) if check.name.startswith("server main") and not check.ok] == []
    with serving(environment):
        until(lambda: is_ready(environment), "it is ready")
        until(lambda: 'backup_wal_synchronous{server="main"}' in samples(environment), "the status is known")
        assert run(wiring, wiring.server("main")).kind == "server"
        done = CliRunner().invoke(backup, ["mark", "before the migration"], env=environment)
        assert done.exit_code == 0, done.output


def test_what_a_role_may_not_see_is_not_known(official: Postgres, environment: dict[str, str]) -> None:
    """Without pg_monitor, a role sees its own row of pg_stat_replication without a state."""
    with psycopg.connect(official.url_for("postgres"), autocommit=True) as connection:
        connection.execute("CREATE ROLE posthub_wal LOGIN REPLICATION PASSWORD 'hush'")
    [check] = [
        each for each in examine(wire(BackupSettings.load(environment))) if each.name == "server main: rights"
    ]
    assert check.ok is None, check
    assert "whether commits wait for the sidecar is not known; marks cannot be set" in check.detail, check
    with serving(environment):
        until(lambda: is_ready(environment), "it is ready")
        until(lambda: "backup_wal_slot_cap_bytes" in page(environment, "/metrics").text, "the slot is known")
        assert 'backup_wal_synchronous{server="main"}' not in samples(environment)


def test_what_commits_wait_for_is_not_known_before_the_stream_starts(
    server: Postgres, environment: dict[str, str]
) -> None:
    stop, measures = Stop(), Measures()
    target = wire(BackupSettings.load(environment)).server("main")
    pulse = threading.Thread(target=Pulse(target, stop, measures).run)
    pulse.start()
    try:
        until(lambda: measures.cap is not None, "the status of the server is known")
    finally:
        known = measures.synchronous
        stop.request()
        pulse.join()
    assert known is None


def test_a_heartbeat_is_a_commit_in_the_wal(server: Postgres) -> None:
    with closing(connect(parse(server.url), changes=CHANGES)) as connection:
        written = beat(connection)
        assert abs(written.moment - datetime.now(UTC)) < timedelta(seconds=30)
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        assert lsn.parse(row[0]) >= written.position
    assert PREFIX == "posthub-ops"


def test_what_would_be_lost_now() -> None:
    measures = Measures()
    assert measures.unstored_seconds(0.0) is None
    measures.streaming = True
    measures.kept(100, now=10.0)
    assert measures.unstored_seconds(11.0) == 0.0
    measures.arrived(50, 150, 150, now=12.0)
    measures.arrived(50, 200, 200, now=13.0)
    measures.beat(Beat(datetime(2026, 11, 29, tzinfo=UTC), 150))
    assert measures.unstored_seconds(14.0) == 2.0
    assert measures.beat_stored is None
    measures.kept(150, now=15.0)
    assert measures.beat_stored is not None
    assert measures.unstored_seconds(16.0) == 3.0
    measures.kept(200, now=17.0)
    assert measures.unstored_seconds(18.0) == 0.0
    # While nothing arrives, it is not known what the server writes.
    measures.streaming = False
    assert measures.unstored_seconds(28.0) == 10.0
    assert b"backup_wal_lag_bytes" in generate_latest(registry({"main": measures}))


def test_copies_off_site_are_those_of_the_store(server: Postgres) -> None:
    store, offsite = MemoryStore(), MemoryStore("offsite")
    archive = archive_of(server)
    copies = OffsiteCopy(store, offsite)
    with Stream(server, store) as stream:
        stream.stores(write(server, 1_000))
        assert copied(copies, store, archive) > 0
        stream.stores(write(server, 40_000))
    store.objects[f"{archive.prefix}00000001/nonsense"] = store.objects[next(iter(store.objects))]
    # Where the whole segments are, their pieces are deleted.
    assert copied(copies, store, archive) > 0
    assert {key for key in store.objects if "nonsense" not in key} == set(offsite.objects)
    # Emptying one store does not empty the other.
    store.objects.clear()
    assert copied(copies, store, archive) == 0
    assert offsite.objects


def test_the_store_of_copies_is_listed_once() -> None:
    listings: list[str] = []
    offsite = MemoryStore(
        "offsite", fault=lambda operation, key: listings.append(key) if operation == "list" else None
    )
    store, archive = MemoryStore(), Archive("main", "7", 1 << 20)
    copies = OffsiteCopy(store, offsite)
    for number in range(3):
        start = number << 20
        store.put(archive.wal_key(1, start, start + 1, f"{number:064x}"), b"piece")
        assert copied(copies, store, archive) == 1
        store.put(archive.wal_key(1, start, start + (1 << 20), f"{number:064x}"), b"whole")
        assert copied(copies, store, archive) == 1
    assert [data for data, _ in offsite.objects.values()] == [b"whole"] * 3
    assert len(listings) == 1
    # Once in a while it looks whether something else has changed the store.
    offsite.objects.clear()
    assert copied(copies, store, archive) == 0
    copies.forget()
    assert copied(copies, store, archive) == 6
    assert len(offsite.objects) == 3
    assert len(listings) == 2


def copied(copies: OffsiteCopy, store: MemoryStore, archive: Archive) -> int:
    return copies.copy(archive, archive.listing(stored(store, archive.server)))


def test_an_off_site_store_that_fails_is_an_error(server: Postgres) -> None:
    def fault(operation: str, key: str) -> None:
        raise StoreError(f"{operation} of {key} failed", hint="", operation=operation, transient=True)

    with pytest.raises(StoreError):
        copied(
            OffsiteCopy(MemoryStore(), MemoryStore("offsite", fault=fault)), MemoryStore(), archive_of(server)
        )


def test_sigterm_ends_it_whatever_is_silent(environment: dict[str, str], server: Postgres) -> None:
    """Its stream, its heartbeat or its login, at any statement; or the store."""

    def through(proxy: SilentProxy) -> dict[str, str]:
        url = server.url_for("postgres").replace(f":{server.port}/", f":{proxy.port}/")
        return {**environment, "BACKUP_SERVERS": f"main={url}", "BACKUP_WAL_PORT": str(choose())}

    def ends(process: "subprocess.Popen[bytes]", where: object) -> None:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0, where
        assert time.monotonic() - began < 20, where

    with SilentProxy(server.port) as proxy, serving(given := through(proxy)) as process:
        until(lambda: any(b"pg_logical_emit_message" in each for each in proxy.asked), "a heartbeat")
        until(lambda: is_ready(given), "the stream")
        ends(process, "nothing is silent")
        patterns = statements(proxy.asked)
    for pattern in {rb"pg_logical_emit_message", rb"START_REPLICATION", *some(patterns, 2)}:
        with SilentProxy(server.port, pattern) as proxy, serving(through(proxy)) as process:
            until(proxy.silent.is_set, f"the silence at {pattern!r}")
            ends(process, pattern)
    with SilentProxy(None) as proxy:
        given = {
            **environment,
            "BACKUP_STORE_URL": "s3://bucket/prod",
            "BACKUP_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "BACKUP_S3_ACCESS_KEY_ID": "backups",
            "BACKUP_S3_SECRET_ACCESS_KEY": "a secret of some length",
        }
        with serving(given) as process:
            until(lambda: proxy.asked, "a request to the store")
            assert not is_ready(given)
            ends(process, "the store")


def test_a_store_that_takes_nothing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its time-outs have passed; and nothing waits for it once the stream has ended."""
    monkeypatch.setattr("backup.physical.uploads.SILENT_SECONDS", 0.2)
    monkeypatch.setattr("backup.cancellation.GRACE_SECONDS", 0.2)

    def wait(*_: str) -> None:
        threading.Event().wait()

    store = RetryingStore(MemoryStore(fault=wait), RetryPolicy())
    with Uploads(lambda parcel: store.put("wal/x", bytes(parcel.data)), lambda _: None) as uploads:
        assert uploads.problem is None
        uploads.hand_over(Parcel(1, 0, 3, b"abc"))
        until(lambda: uploads.problem, "the problem")
        assert "the store has not taken the WAL for" in str(uploads.problem)
        assert not uploads.flush(0.1, lambda: None)
