"""The service: schedules, catch-up, metrics from the first scrape, pings, a graceful end."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from zoneinfo import ZoneInfo

import pytest
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobSubmissionEvent

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.ids import new_id
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Attempt, Difference, Outcome, Report
from backup.cli import backup
from backup.load import throwaway
from backup.policy.retention import Policy
from backup.postgres.dsn import Address
from backup.postgres.lock import advisory_lock
from backup.programs import Programs
from backup.prune import prune
from backup.replication.merged import read
from backup.replication.offsite import copy_missing
from backup.run import run
from backup.service import status_page
from backup.service.daemon import scheduled
from backup.service.jobs import Jobs, missed
from backup.service.state import State, new_state
from backup.settings import BackupSettings
from backup.wiring import Wiring, wire
from sidecar.cli import run as run_cli
from stack import ports
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire, samples

CONTRACT = [
    "backup_last_success_timestamp_seconds",
    "backup_last_attempt_timestamp_seconds",
    "backup_last_attempt_success",
    "backup_last_verified_timestamp_seconds",
    "backup_last_verified_backup_timestamp_seconds",
    "backup_last_verification_success",
    "backup_verification_differences",
    "backup_verification_unprovable",
    "backup_latest_verified",
    "backup_age_seconds",
    "backup_duration_seconds",
    "backup_size_bytes",
    "backup_raw_bytes",
    "backup_rows",
    "backup_throughput_bytes_per_second",
    "backup_compression_ratio",
    "backup_rto_seconds",
    "backup_rto_projected_seconds",
    "backup_rto_target_seconds",
    "backup_rpo_target_seconds",
    "backup_count",
    "backup_prune_decisions",
    "backup_prune_blocked",
    "backup_runs_total",
    "backup_verifications_total",
    "backup_in_progress",
    "backup_running_since_timestamp_seconds",
    "backup_silent_seconds",
    "backup_progress_bytes",
    "backup_progress_expected_bytes",
    "backup_verification_progress_bytes",
    "backup_verification_progress_expected_bytes",
    "backup_spool_bytes",
    "backup_spool_backups",
    "backup_offsite_lag_seconds",
    "backup_offsite_enabled",
    "backup_store_errors_total",
    "backup_store_up",
    "backup_schedule_next_run_timestamp_seconds",
    "backup_schedule_last_run_timestamp_seconds",
    "backup_anomalous",
    "backup_oldest_timestamp_seconds",
    "backup_last_drill_timestamp_seconds",
    "backup_catalogue_refresh_timestamp_seconds",
    "backup_build_info",
]


def series(state: State) -> set[str]:
    return {name.partition("{")[0] for name in samples(state)}


def with_offsite(wired: Wire, tmp_path: Path, **more: str) -> Wiring:
    (tmp_path / "offsite").mkdir()
    return wired(
        BACKUP_OFFSITE_STORE_URL=f"file://{tmp_path / 'offsite'}",
        BACKUP_SPOOL_DIR=str(tmp_path / "spool"),
        **more,
    )


def test_every_series_exists_before_anything_happened(wired: Wire) -> None:
    state = new_state(wired())
    scheduled(state, Jobs(state))
    # Before the store is first read, "no backup" would be a guess.
    assert not any(name.startswith("backup_count") for name in series(state))
    assert "backup_store_up" in series(state)
    state.refresh()
    assert set(CONTRACT) - series(state) == set()
    before = set(samples(state))
    run(state.wiring, state.wiring.targets[0])
    state.refresh()
    assert set(samples(state)) == before


def test_a_run_its_verification_and_its_metrics(wired: Wire, tmp_path: Path, database: str) -> None:
    wiring = with_offsite(wired, tmp_path)
    state = new_state(wiring)
    Jobs(state).back_up()
    values = samples(state)

    def value(name: str, **labels: str) -> float:
        inside = ",".join(f'{key}="{text}"' for key, text in {"database": database, **labels}.items())
        return values[f"{name}{{{inside}}}"]

    assert value("backup_last_attempt_success") == 1
    assert value("backup_latest_verified") == 1
    assert value("backup_runs_total", outcome="success") == 1
    assert value("backup_verifications_total", outcome="success") == 1
    assert value("backup_rto_seconds") > 0
    assert value("backup_count", tier="verified") == 1
    assert time.time() - value("backup_oldest_timestamp_seconds") < 60
    assert value("backup_offsite_lag_seconds") > 0
    assert value("backup_verification_duration_seconds", stage="restore") > 0
    assert time.time() - value("backup_last_verified_timestamp_seconds") < 60
    # Another process exposes the same, because nothing is kept in memory.
    other = new_state(wiring)
    other.refresh()
    stable = re.compile(r"backup_(age|catalogue_refresh|schedule|offsite_lag)")
    assert {k: v for k, v in samples(other).items() if not stable.match(k)} == {
        k: v for k, v in values.items() if not stable.match(k)
    }
    Jobs(state).copy_offsite()
    values = samples(state)
    assert value("backup_offsite_lag_seconds") == 0
    html = status_page.render(state)
    assert "All is well" not in html  # the floor requires two verified backups
    assert "there is only 1 verified backup; the floor is 2" in html
    Jobs(state).back_up()
    assert "All is well" in status_page.render(state)


def test_metrics_omit_a_store_that_was_never_read(wired: Wire, tmp_path: Path, database: str) -> None:
    """It is unreachable from the start. What a run could not record there is still known."""
    wiring = wired(BACKUP_STORE_URL=f"file://{tmp_path}/missing", BACKUP_STORE_ATTEMPTS="1")
    state = new_state(wiring)
    state.refresh()
    assert samples(state)['backup_store_up{store="main"}'] == 0
    omitted = {
        "backup_count",
        "backup_age_seconds",
        "backup_catalogue_refresh_timestamp_seconds",
        "backup_runs_total",
    }
    assert not omitted & series(state)
    Jobs(state).back_up()
    assert samples(state)[f'backup_last_attempt_success{{database="{database}"}}'] == 0
    assert not (omitted - {"backup_runs_total"}) & series(state)
    (tmp_path / "missing").mkdir()
    state.refresh()
    assert {"backup_count", "backup_catalogue_refresh_timestamp_seconds"} <= series(state)


def test_the_off_site_copy_is_verified(wired: Wire, tmp_path: Path) -> None:
    wiring = with_offsite(wired, tmp_path)
    target = wiring.targets[0]
    made = [run(wiring, target).id for _ in range(2)]
    assert copy_missing(wiring, target) == 2
    assert copy_missing(wiring, target) == 0
    assert wiring.offsite is not None
    alone = dataclasses.replace(wiring, store=wiring.offsite, offsite=None)
    history = read(alone).history(target.name)
    assert [entry.id for entry in history.backups] == made
    from backup.verify import verify

    assert verify(alone, history.backups[0]).ok


def test_pruning_deletes_in_every_store(wired: Wire, tmp_path: Path) -> None:
    wiring = with_offsite(wired, tmp_path)
    wiring = dataclasses.replace(wiring, policy=Policy(last=1, daily=0, weekly=0, monthly=0, floor=1))
    target = wiring.targets[0]
    # IDs of the same second are in no particular order.
    old, new = sorted((run(wiring, target), run(wiring, target)), key=lambda made: made.taken)
    copy_missing(wiring, target)
    assert prune(wiring, target).deleted == ()
    assert "floor" in prune(wiring, target).plan.blocked[0]
    state = new_state(wiring)
    state.refresh()
    Jobs(state).verify_some()
    pruned = prune(wiring, target)
    assert (pruned.deleted, pruned.refused) == ((old.id,), ())
    assert wiring.offsite is not None
    for store in (wiring.store, wiring.offsite):
        assert not list(store.walk(f"{target.name}/{old.id}/"))
        assert list(store.walk(f"{target.name}/{new.id}/"))
    state.refresh()
    assert samples(state)[f'backup_prune_decisions{{database="{target.name}",decision="delete"}}'] == 1


def reported(wiring: Wiring, made: Manifest, hours: int, *found: Difference) -> None:
    """A verification that ended this number of hours after the backup."""
    moment = made.finished + timedelta(hours=hours)
    key = layout.manifest(made.database, made.id)
    report = Report(
        backup=made.id,
        database=made.database,
        manifest=Manifest.decode(wiring.store.get(key), key).digest,
        started=moment,
        finished=moment,
        ok=not found,
        differences=found,
    )
    wiring.store.put(layout.report(made.database, made.id, moment), encode(report))


COMMAND = Difference(kind="check", object="migrate --check", expected="exit code 0", found="exit code 1")
ROT = Difference(kind="object", object="database.dump.zst", expected="SHA-256 a", found="SHA-256 b")


@pytest.mark.parametrize(
    ("last", "later", "deleted"),
    [(3, (COMMAND,), False), (3, (ROT,), True), (1, (COMMAND,), True)],
    ids=["a check of today", "rot", "no rule keeps it"],
)
def test_a_backup_that_passed_once_survives_an_unrelated_failure(
    wired: Wire, tmp_path: Path, last: int, later: tuple[Difference, ...], deleted: bool
) -> None:
    """The off-site copy of a backup that was intact when copied stays."""
    policy = Policy(last=last, daily=0, weekly=0, monthly=0, floor=1)
    wiring = dataclasses.replace(with_offsite(wired, tmp_path), policy=policy)
    target = wiring.targets[0]
    old, new = sorted((run(wiring, target), run(wiring, target)), key=lambda made: made.taken)
    for made in (old, new):
        reported(wiring, made, 1)
    copy_missing(wiring, target)
    reported(wiring, old, 2, *later)
    assert prune(wiring, target).deleted == ((old.id,) if deleted else ())
    assert wiring.offsite is not None
    there = {entry.id for entry in wiring.reader(wiring.offsite).read(NOON).history(target.name).backups}
    assert there == {new.id, old.id} if last > 1 else {new.id}


def test_a_failed_off_site_prune_is_repeated(wired: Wire, tmp_path: Path) -> None:
    policy = Policy(last=1, daily=0, weekly=0, monthly=0, floor=1)
    wiring = dataclasses.replace(with_offsite(wired, tmp_path), policy=policy)
    target = wiring.targets[0]
    old, new = sorted((run(wiring, target), run(wiring, target)), key=lambda made: made.taken)
    for made in (old, new):
        reported(wiring, made, 1)
    copy_missing(wiring, target)
    offsite, away = tmp_path / "offsite", tmp_path / "away"
    offsite.rename(away)
    assert prune(wiring, target).deleted == (old.id,)
    away.rename(offsite)
    assert (offsite / target.name / old.id).exists()
    assert prune(wiring, target).deleted == ()
    assert not (offsite / target.name / old.id).exists()
    assert (offsite / target.name / new.id).exists()


def test_out_of_time_is_a_failure_of_one_database(
    wired: Wire, postgres: Postgres, new_database: NewDatabase, inbox: tuple[str, list[str]]
) -> None:
    url, calls = inbox
    urls = (f"{name}={postgres.url_for(new_database('CREATE TABLE t (i int)'))}" for name in "ab")
    wiring = wired(
        BACKUP_DATABASE_URLS=",".join(urls), BACKUP_TIMEOUT="0.001", BACKUP_PING_FAILURE_URL=f"{url}/fail"
    )
    state = new_state(wiring)
    Jobs(state).back_up()
    assert [state.history(name).attempts[-1].outcome for name in "ab"] == ["failure", "failure"]
    assert ["BACKUP_TIMEOUT" in call for call in calls] == [True, True]


@pytest.mark.parametrize(
    "pid", [2**22 + 1, os.getpid()], ids=["a pid of nobody", "the same in a new container"]
)
def test_a_killed_run_is_reported_at_once(wired: Wire, pid: int) -> None:
    wiring = wired()
    name, now = wiring.targets[0].name, wiring.clock() - timedelta(hours=10)
    before = Attempt(
        id=new_id(now), kind="backup", database=name, outcome="success", started=now, finished=now
    )
    wiring.store.put(f"{name}/attempts/{before.id}-backup.json", encode(before))
    now += timedelta(hours=1)
    record = Attempt(
        id=new_id(now),
        kind="backup",
        database=name,
        outcome="running",
        started=now,
        host=socket.gethostname(),
        pid=pid,
    )
    wiring.store.put(f"{name}/attempts/{record.id}-backup.json", encode(record))
    state = new_state(wiring)
    state.refresh()
    assert samples(state)[f'backup_last_attempt_success{{database="{name}"}}'] == 0
    assert "the last run was killed" in status_page.render(state)


def test_a_failed_run_is_reported_and_stops_pruning(wired: Wire) -> None:
    wiring = wired()
    state = new_state(wiring)
    run(wiring, wiring.targets[0])
    broken = dataclasses.replace(wiring.programs, folder=Path("/nowhere"))
    work = Jobs(new_state(dataclasses.replace(wiring, programs=broken)))
    work.back_up()
    state.refresh()
    name = wiring.targets[0].name
    assert samples(state)[f'backup_last_attempt_success{{database="{name}"}}'] == 0
    assert samples(state)[f'backup_runs_total{{database="{name}",outcome="failure"}}'] == 1
    assert "pg_dump is not in /nowhere" in status_page.render(state)
    assert any("the last run failed" in reason for reason in prune(wiring, wiring.targets[0]).plan.blocked)


def test_missed_runs() -> None:
    zone = ZoneInfo("Europe/Berlin")
    last = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
    assert not missed("0 2 * * *", zone, last, last + timedelta(hours=23, minutes=59))
    assert missed("0 2 * * *", zone, last, last + timedelta(hours=24, minutes=1))


NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ({}, 0),  # nothing was ever due
        ({"success": NOON - timedelta(hours=2)}, 0),
        ({"success": NOON - timedelta(days=2)}, 1),
        # A run that began on time and failed did not make a backup.
        ({"success": NOON - timedelta(days=1, hours=9), "running": NOON - timedelta(hours=10)}, 1),
        ({"success": NOON - timedelta(days=1, hours=9), "failure": NOON - timedelta(hours=10)}, 1),
        ({"failure": NOON - timedelta(days=2)}, 1),
    ],
)
def test_catching_up_from_the_catalogue(
    wired: Wire, monkeypatch: pytest.MonkeyPatch, runs: dict[Outcome, datetime], expected: int
) -> None:
    wiring = dataclasses.replace(wired(BACKUP_SCHEDULE="0 2 * * *"), clock=lambda: NOON)
    name = wiring.targets[0].name
    for outcome, began in runs.items():
        record = Attempt(
            id=new_id(began),
            kind="backup",
            database=name,
            outcome=outcome,
            started=began,
            finished=None if outcome == "running" else began,
            host="another",
        )
        wiring.store.put(f"{name}/attempts/{record.id}-backup.json", encode(record))
    state = new_state(wiring)
    state.refresh()
    made: list[str] = []
    monkeypatch.setattr(Jobs, "_back_up", lambda _, targets: made.extend(target.name for target in targets))
    Jobs(state).catch_up()
    assert made == [name] * expected


def test_a_skipped_job_is_logged(wired: Wire, caplog: pytest.LogCaptureFixture) -> None:
    state = new_state(wired())
    schedules = scheduled(state, Jobs(state))
    due = [datetime.now(UTC)]
    schedules._scheduler._dispatch_event(
        JobSubmissionEvent(EVENT_JOB_MAX_INSTANCES, "backup", "default", due)
    )
    assert "backup is skipped once" in caplog.text


def test_two_services_do_not_run_at_once(wired: Wire) -> None:
    wiring = wired()
    state = new_state(wiring)
    address = wiring.targets[0].address
    assert isinstance(address, Address)
    with advisory_lock(address):
        Jobs(state).back_up()
    history = state.history(wiring.targets[0].name)
    assert (history.backups, history.attempts) == ((), ())


def test_one_ping_for_a_whole_job(
    environ: dict[str, str],
    postgres: Postgres,
    new_database: NewDatabase,
    inbox: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``run --verify`` from cron: the success of one database must not hide the failure of another."""
    url, calls = inbox
    whole = postgres.url_for(new_database("CREATE TABLE t (i int)"))
    settings = {
        **environ,
        "BACKUP_PING_URL": f"{url}/ok",
        "BACKUP_PING_START_URL": f"{url}/start",
        "BACKUP_PING_FAILURE_URL": f"{url}/fail",
    }
    for urls, expected in ((f"a={postgres.url_for('nobody')},b={whole}", "/fail a"), (f"a={whole}", "/ok")):
        for variable, value in {**settings, "BACKUP_DATABASE_URLS": urls}.items():
            monkeypatch.setenv(variable, value)
        run_cli(backup, ["run", "--verify"], prog="python -m backup")
        assert [call.partition(":")[0] for call in calls] == ["/start", expected]
        calls.clear()


def test_a_round_takes_all_backups_before_the_first_verification(
    environ: dict[str, str],
    postgres: Postgres,
    new_database: NewDatabase,
    inbox: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = postgres.url_for(new_database("CREATE TABLE t (i int)"))
    initialised: list[Path] = []
    real = throwaway._initialise

    def noting(programs: Programs, folder: Path, *more: Any) -> None:
        initialised.append(folder)
        real(programs, folder, *more)

    monkeypatch.setattr(throwaway, "_initialise", noting)
    for variable, value in {**environ, "BACKUP_DATABASE_URLS": f"a={url},b={url}"}.items():
        monkeypatch.setenv(variable, value)
    assert run_cli(backup, ["run", "--verify"], prog="python -m backup") == 0
    verdicts = [
        line.split()[1:3] for line in capsys.readouterr().out.splitlines() if ": verified, in " in line
    ]
    assert verdicts == [["a:", "verified,"], ["b:", "verified,"]]
    wiring = wire(BackupSettings.load(dict(os.environ)))
    catalogue = wiring.reader().read(wiring.clock())
    histories = [catalogue.history(name) for name in ("a", "b")]
    taken = [history.newest("backup") for history in histories]
    proven = [history.newest("verification") for history in histories]
    assert max(each.started for each in taken if each) < min(each.started for each in proven if each)
    assert all(history.last_verified for history in histories)
    # One new server was made; each verification has a copy of it.
    assert len(initialised) == 1


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[str]]]:
    """A server that records its requests."""
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            calls.append(f"{self.path} {body}".strip())
            self.send_response(200)
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the base class names it

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", calls
    server.shutdown()
    thread.join()
    server.server_close()


def test_pings(wired: Wire, inbox: tuple[str, list[str]], tmp_path: Path) -> None:
    url, calls = inbox
    urls = {
        "BACKUP_PING_URL": f"{url}/ok",
        "BACKUP_PING_START_URL": f"{url}/start",
        "BACKUP_PING_FAILURE_URL": f"{url}/fail",
    }
    wiring = wired(**urls)
    Jobs(new_state(wiring)).back_up()
    assert calls == ["/start", "/ok"]
    calls.clear()
    # A backup that is not verified is not a success.
    Jobs(new_state(wired(**urls, BACKUP_VERIFY_AFTER_BACKUP="false"))).back_up()
    assert calls == ["/start"]
    calls.clear()
    broken = dataclasses.replace(wiring, programs=dataclasses.replace(wiring.programs, folder=tmp_path))
    Jobs(new_state(broken)).back_up()
    assert calls[0] == "/start"
    assert calls[1].startswith("/fail ")
    assert "pg_dump is not in" in calls[1]


def test_stopped_in_the_middle_of_a_run(environ: dict[str, str], tmp_path: Path) -> None:
    """SIGTERM ends a run at once and cleanly, and leaves nothing behind."""
    port, log = ports.choose(), tmp_path / "log"
    settings = {
        **os.environ,
        **environ,
        "BACKUP_PORT": str(port),
        "BACKUP_HOST": "127.0.0.1",
        "BACKUP_SCHEDULE": "0 0 1 1 *",
        "BACKUP_CATALOGUE_REFRESH": "0.5",
    }
    name = environ["DATABASE_URL"].rpartition("/")[2]
    store = Path(environ["BACKUP_STORE_URL"].removeprefix("file://"))
    attempts = store / name / "attempts"
    attempts.mkdir(parents=True)
    old = datetime(2020, 1, 1, tzinfo=UTC)
    record = Attempt(
        id="20200101T000000Z-000000",
        kind="backup",
        database=name,
        outcome="success",
        started=old,
        finished=old,
        totals={"success": 1},
    )
    (attempts / f"{record.id}-backup.json").write_bytes(encode(record))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backup", "serve"], env=settings, stdout=output, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 150
    while "backup begins" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert urlopen(f"http://127.0.0.1:{port}/healthz").read() == b"ok\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(150) == 0
    assert "Traceback" not in log.read_text()
    folders = [path for path in (store / name).iterdir() if path.name != "attempts"]
    assert all((folder / "manifest.json").exists() for folder in folders)
    assert not list((store / ".uploads").glob("*"))
