"""If a server or a store falls silent, the job ends at its limit, and the others are not affected."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import urlopen

import psycopg
import pytest
import redis

from backup import cancellation
from backup.cancellation import (
    OutOfTimeError,
    Stop,
    StoppedError,
    answered,
    carry,
    check_cancelled,
    limited,
    waiting,
)
from backup.catalogue.history import Entry
from backup.doctor import examine
from backup.errors import DumpError
from backup.postgres.dsn import parse
from backup.prune import prune
from backup.redis.lock import KEY
from backup.replication.offsite import copy_missing
from backup.run import run
from backup.service import status_page
from backup.service.jobs import Jobs
from backup.service.state import State, new_state
from backup.targets import Target
from backup.verify import verify
from backup.verify.server_pulse import asked
from backup.wiring import Wiring
from sidecar import OpsError
from stack import ports
from stack.servers import ObjectStore, Postgres, Redis
from stack.wait import wait_for
from tests.backup.conftest import NewDatabase, Wire, samples
from tests.backup.silentkit import PATIENCE, SilentProxy, ended, some, statements

SILENCE = "2"
# Seconds after its deadline in which a job has ended: 10, and a few for a machine with other work.
MAX_AFTER = 13.0
LANES = 4
T = TypeVar("T")


def only(wiring: Wiring) -> Target:
    return wiring.targets[0]


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(rb"pg_backend_pid", id="first question"),
        pytest.param(rb"LOCK TABLE", id="locks of tables"),
        pytest.param(rb"count\(\*\)", id="counts"),
        pytest.param(rb"COPY ", id="dump"),
    ],
)
def test_a_server_that_falls_silent_ends_the_run(
    wired: Wire, postgres: Postgres, database: str, pattern: bytes
) -> None:
    with SilentProxy(postgres.port, pattern) as proxy:
        url = postgres.url_for(database).replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(DATABASE_URL=url, BACKUP_STALL_TIMEOUT=SILENCE)
        error = ended(lambda: run(wiring, only(wiring)))
        assert proxy.silent.is_set()
    assert isinstance(error, OutOfTimeError)
    assert "nothing has answered" in error.message
    history = wiring.reader().read(wiring.clock()).history(database)
    assert [(attempt.outcome, attempt.error) for attempt in history.attempts] == [("failure", error.message)]
    assert not history.backups


def test_one_silent_server_takes_nothing_from_the_others(
    wired: Wire, postgres: Postgres, database: str
) -> None:
    good = postgres.url_for(database)
    with SilentProxy(postgres.port, rb"pg_try_advisory_lock") as proxy:
        bad = good.replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(
            DATABASE_URL="", BACKUP_DATABASE_URLS=f"bad={bad},good={good}", BACKUP_STALL_TIMEOUT=SILENCE
        )
        state = new_state(wiring)
        jobs = Jobs(state)
        assert ended(jobs.back_up) is None
        assert ended(jobs.prune) is None
    values = samples(state)
    assert values['backup_last_attempt_success{database="bad"}'] == 0
    assert values['backup_last_attempt_success{database="good"}'] == 1
    assert values['backup_latest_verified{database="good"}'] == 1
    assert state.history("good").newest("prune", finished=True)
    assert "nothing has answered" in status_page.render(state)
    # A database that failed may fail again, so it comes last.
    assert [target.name for target in jobs._in_turn(wiring.everything)] == ["good", "bad"]


def shows_silence(state: State, database: str, seconds: float) -> None:
    """Wait until the readiness shows it; then the page and the metric do, too."""
    until = time.monotonic() + PATIENCE
    while state.trouble is None and time.monotonic() < until:
        time.sleep(0.05)
    assert "has had no response for" in str(state.trouble)
    assert "has had no response for" in status_page.render(state)
    assert samples(state)[f'backup_silent_seconds{{database="{database}"}}'] > seconds


def test_a_run_that_hears_nothing_is_not_well(
    wired: Wire, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.service.state.SILENT_SECONDS", 0.5)
    monkeypatch.setattr("backup.service.summary.SILENT_SECONDS", 0.5)
    with SilentProxy(postgres.port, rb"LOCK TABLE") as proxy:
        url = postgres.url_for(database).replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(DATABASE_URL=url)
        state = new_state(wiring)
        state.refresh()
        assert state.trouble is None
        assert samples(state)[f'backup_silent_seconds{{database="{database}"}}'] == 0
        running = threading.Thread(target=lambda: ended(lambda: run(wiring, only(wiring))))
        running.start()
        assert proxy.silent.wait(PATIENCE)
        shows_silence(state, database, 0.5)
        wiring.stop.request()
        running.join(PATIENCE)
        assert not running.is_alive()
    assert state.silence(database) == 0


def test_a_verification_whose_server_does_not_answer_is_not_well(
    wired: Wire, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("backup.service.state", "backup.service.summary"):
        monkeypatch.setattr(f"{module}.SILENT_SECONDS", 1.0)
    monkeypatch.setattr("backup.verify.server_pulse.PAUSE_SECONDS", 0.1)
    with SilentProxy(postgres.port, rb"CREATE DATABASE") as proxy:
        verify_url = through(postgres.url, postgres.port, proxy)
        wiring = wired(DATABASE_URL=postgres.url_for(database), BACKUP_VERIFY_URL=verify_url)
        run(wiring, only(wiring))
        state = new_state(wiring)
        state.refresh()
        entry = state.history(database).backups[0]
        running = threading.Thread(target=lambda: ended(lambda: verify(wiring, entry)))
        running.start()
        assert proxy.silent.wait(PATIENCE)
        shows_silence(state, database, 1)
        wiring.stop.request()
        running.join(PATIENCE)
        assert not running.is_alive()
    assert state.silence(database) == 0


def test_a_server_that_answers_is_well_however_long_the_work_takes(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.verify.server_pulse.PAUSE_SECONDS", 0.05)
    stop = Stop()
    with asked(parse(postgres.url, "BACKUP_VERIFY_URL"), stop, "shop"):
        pulse = stop.pulses["shop"]
        answers, before = 0, pulse.silence
        until = time.monotonic() + PATIENCE
        while answers < 3 and time.monotonic() < until:
            time.sleep(0.01)
            now = pulse.silence
            answers += now < before
            before = now
    assert answers == 3
    assert stop.pulses == {}


@pytest.mark.parametrize("work", ["run", "verify", "prune"])
def test_a_silent_store_ends_each_job(wired: Wire, database: str, work: str) -> None:
    entry = None
    if work == "verify":
        wiring = wired()
        run(wiring, only(wiring))
        entry = wiring.reader().read(wiring.clock()).history(database).latest
    with SilentProxy(None) as server:
        wiring = wired(
            BACKUP_STORE_URL="s3://bucket/prod",
            BACKUP_S3_ENDPOINT_URL=f"http://127.0.0.1:{server.port}",
            BACKUP_S3_ACCESS_KEY_ID="backups",
            BACKUP_S3_SECRET_ACCESS_KEY="a secret of some length",
            BACKUP_TIMEOUT="1",
        )

        def verification() -> object:
            assert entry is not None
            return verify(wiring, entry)

        jobs: dict[str, Callable[[], object]] = {
            "run": lambda: run(wiring, only(wiring)),
            "verify": verification,
            "prune": lambda: prune(wiring, only(wiring)),
        }
        began = time.monotonic()
        error = ended(jobs[work])
        assert isinstance(error, OutOfTimeError)
        assert time.monotonic() - began < 30
    # It could not be written, but is still shown.
    if work != "verify":
        assert [attempt.outcome for attempt in wiring.backlog.of(database)] == ["failure"]


def test_a_silent_redis_ends_the_run(wired: Wire) -> None:
    with SilentProxy(None) as server:
        wiring = wired(
            DATABASE_URL="", BACKUP_REDIS_URLS=f"cache=redis://127.0.0.1:{server.port}", BACKUP_TIMEOUT="1"
        )
        assert isinstance(ended(lambda: run(wiring, only(wiring))), OutOfTimeError)


def test_doctor_names_what_is_silent(
    wired: Wire, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.doctor.check.CHECK_SECONDS", 2.0)
    with SilentProxy(postgres.port, rb"pg_backend_pid") as proxy:
        url = postgres.url_for(database).replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(DATABASE_URL=url)
        found = {}
        assert ended(lambda: found.update({check.name: check for check in examine(wiring)})) is None
    silent = found[f"postgres {database}"]
    assert not silent.ok
    assert "no response within" in silent.detail


def test_doctor_waits_once_for_each_silent_server(
    wired: Wire, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it falls silent after its first answers, and has many databases."""
    monkeypatch.setattr("backup.doctor.check.CHECK_SECONDS", 2.0)
    with SilentProxy(postgres.port, rb"extract\(epoch") as proxy:
        url = postgres.url_for(database).replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(DATABASE_URL="", BACKUP_DATABASE_URLS=f"a={url},b={url}")
        found = {}
        assert ended(lambda: found.update({check.name: check for check in examine(wiring)})) is None
    assert "no response within" in found["postgres a: clock"].detail
    refused = {name for name, check in found.items() if "did not respond earlier" in check.detail}
    kinds = ("extensions", "verification", "objects of extensions", "left out", "locks", "locked tables")
    assert refused == {*(f"postgres a: {kind}" for kind in kinds), "postgres b"}
    # What did answer counts.
    assert "may be used in" in found["work folder"].detail


def test_a_request_to_stop_ends_a_wait_for_a_silent_store(wired: Wire) -> None:
    with SilentProxy(None) as server:
        wiring = wired(
            BACKUP_STORE_URL="s3://bucket/prod",
            BACKUP_S3_ENDPOINT_URL=f"http://127.0.0.1:{server.port}",
            BACKUP_S3_ACCESS_KEY_ID="backups",
            BACKUP_S3_SECRET_ACCESS_KEY="a secret of some length",
        )
        state = new_state(wiring)
        threading.Timer(0.3, wiring.stop.request).start()
        began = time.monotonic()
        assert ended(state.refresh) is None
        assert time.monotonic() - began < 20


@pytest.fixture(scope="module")
def lanes(new_database: NewDatabase) -> list[str]:
    """Databases for runs at the same time."""
    return [new_database(prefix="lane") for _ in range(LANES)]


def through(url: str, port: int, proxy: SilentProxy) -> str:
    return url.replace(f":{port}/", f":{proxy.port}/")


def test_silence_at_any_statement_ends_the_run(
    wired: Wire, postgres: Postgres, lanes: list[str], tmp_path: Path
) -> None:
    """The statements are those of a whole run: ours, pg_dump's and pg_dumpall's, logins, connections."""

    def wiring_of(lane: str, proxy: SilentProxy, **more: str) -> Wiring:
        store = tmp_path / secrets.token_hex(4)
        store.mkdir()
        url = through(postgres.url_for(lane), postgres.port, proxy)
        return wired(DATABASE_URL=url, BACKUP_STORE_URL=f"file://{store}", **more)

    with SilentProxy(postgres.port) as proxy:
        whole = wiring_of(lanes[0], proxy)
        run(whole, only(whole))
        patterns = statements(proxy.asked)
    assert len(patterns) > 60

    def silent_at(pattern: bytes, lane: str) -> None:
        wait_until_free(postgres, lane)
        with SilentProxy(postgres.port, pattern) as proxy:
            wiring = wiring_of(lane, proxy, BACKUP_STALL_TIMEOUT=SILENCE)
            error = ended(lambda: run(wiring, only(wiring)))
            took = time.monotonic() - proxy.since
        assert proxy.silent.is_set(), pattern
        assert isinstance(error, OutOfTimeError), (pattern, error)
        assert took < float(SILENCE) + MAX_AFTER, pattern
        [attempt] = wiring.reader().read(wiring.clock()).history(lane).attempts
        assert (attempt.outcome, attempt.error) == ("failure", error.message)

    in_lanes(lanes, some(patterns, 8), silent_at)


def test_silence_at_any_statement_ends_the_verification(
    wired: Wire, postgres: Postgres, lanes: list[str], tmp_path: Path
) -> None:
    """On a given server: ours, pg_restore's, and those of the new dump."""
    made: dict[str, Entry] = {}

    def wiring_of(lane: str, proxy: SilentProxy, **more: str) -> Wiring:
        verify_url = through(postgres.url, postgres.port, proxy)
        urls = {"DATABASE_URL": postgres.url_for(lane), "BACKUP_VERIFY_URL": verify_url}
        return wired(BACKUP_STORE_URL=f"file://{tmp_path / lane}", **urls, **more)

    with SilentProxy(postgres.port) as proxy:
        for lane in lanes:
            (tmp_path / lane).mkdir()
            wiring = wiring_of(lane, proxy)
            run(wiring, only(wiring))
            made[lane] = wiring.reader().read(wiring.clock()).history(lane).backups[0]
        assert verify(wiring_of(lanes[0], proxy), made[lanes[0]]).ok
        patterns = statements(proxy.asked)
    assert len(patterns) > 100

    def silent_at(pattern: bytes, lane: str) -> None:
        with SilentProxy(postgres.port, pattern) as proxy:
            wiring = wiring_of(lane, proxy, BACKUP_TIMEOUT="10")
            began = time.monotonic()
            error = ended(lambda: verify(wiring, made[lane]))
            took = time.monotonic() - began
        # A name that is drawn at random may not come again.
        assert isinstance(error, OutOfTimeError) or not proxy.silent.is_set(), (pattern, error)
        assert took < 10 + MAX_AFTER, pattern

    in_lanes(lanes, some(patterns, 4), silent_at)


def test_a_server_that_is_silent_when_backups_are_deleted(
    wired: Wire, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked whose backups they are, for a minute at most: other databases wait for their turn."""
    monkeypatch.setattr("backup.prune.ANSWER_SECONDS", 1.0)
    healthy = wired()
    run(healthy, only(healthy))
    with SilentProxy(postgres.port, rb"pg_control_system") as proxy:
        wiring = wired(DATABASE_URL=through(postgres.url_for(database), postgres.port, proxy))
        error = ended(lambda: prune(wiring, only(wiring)))
        assert proxy.silent.is_set()
    assert isinstance(error, OutOfTimeError)
    assert "did not answer within a minute" in error.message


def test_silence_at_any_command_ends_the_run_of_redis(wired: Wire, busy_redis: Redis, tmp_path: Path) -> None:
    def wiring_of(proxy: SilentProxy, limit: str) -> Wiring:
        store = tmp_path / secrets.token_hex(4)
        store.mkdir()
        return wired(
            DATABASE_URL="",
            BACKUP_REDIS_URLS=f"cache=redis://127.0.0.1:{proxy.port}",
            BACKUP_STORE_URL=f"file://{store}",
            BACKUP_TIMEOUT=limit,
        )

    with SilentProxy(busy_redis.port) as proxy:
        whole = wiring_of(proxy, "300")
        run(whole, only(whole))
        commands = len(proxy.asked)
    for at in some(list(range(commands - 3)), 6):
        with redis.Redis(port=busy_redis.port) as client:
            client.delete(KEY)
        with SilentProxy(busy_redis.port, at=at) as proxy:
            wiring = wiring_of(proxy, "2")
            began = time.monotonic()
            error = ended(partial(run, wiring, only(wiring)))
            assert time.monotonic() - began < 2 + MAX_AFTER, at
        assert isinstance(error, OpsError), at
        [attempt] = wiring.reader().read(wiring.clock()).history("cache").attempts
        assert attempt.outcome == "failure"


@pytest.mark.parametrize("work", ["run", "verify", "prune", "copy"])
def test_silence_at_any_request_to_the_store_ends_the_job(
    wired: Wire, object_store: ObjectStore, bucket: dict[str, str], database: str, tmp_path: Path, work: str
) -> None:
    port = int(object_store.endpoint.rpartition(":")[2])
    made = wired()
    run(made, only(made))
    jobs: dict[str, Callable[[Wiring, Entry], object]] = {
        "run": lambda wiring, _: run(wiring, only(wiring)),
        "verify": verify,
        "prune": lambda wiring, _: prune(wiring, only(wiring)),
        "copy": lambda wiring, _: copy_missing(wiring, only(wiring)),
    }

    def job(proxy: SilentProxy, limit: str) -> Callable[[], object]:
        prefix = f"{bucket['BACKUP_STORE_URL']}/{secrets.token_hex(4)}"
        settings = {**bucket, "BACKUP_STORE_URL": prefix, "BACKUP_STORE_ATTEMPTS": "2"}
        healthy = wired(**settings)
        if work in ("verify", "prune"):
            run(healthy, only(healthy))
        if work == "copy":
            settings |= {
                "BACKUP_STORE_URL": made.settings.store_url or "",
                "BACKUP_OFFSITE_STORE_URL": prefix,
            }
        silent = {"BACKUP_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}", "BACKUP_TIMEOUT": limit}
        wiring = wired(**{**settings, **silent})
        entry = (healthy if work != "copy" else made).reader().read(made.clock()).history(database).latest
        return lambda: jobs[work](wiring, entry)  # type: ignore[arg-type]

    with SilentProxy(port) as proxy:
        job(proxy, "300")()
        requests = len(proxy.asked)
    for at in some(list(range(requests)), 4):
        with SilentProxy(port, at=at) as proxy:
            silenced = job(proxy, "2")
            began = time.monotonic()
            error = ended(silenced)
            assert time.monotonic() - began < 2 + MAX_AFTER, at
        # A job that has succeeded does not fail because that cannot be recorded.
        assert error is None or isinstance(error, OpsError), (at, error)


@pytest.mark.parametrize("silent", ["store", "database", "redis"])
def test_sigterm_ends_the_service_while_it_waits_for_a_silent_server(
    wired: Wire, environ: dict[str, str], tmp_path: Path, silent: str
) -> None:
    """It says meanwhile that it is not ready."""
    port, log = ports.choose(), tmp_path / "log"
    with SilentProxy(None) as proxy:
        settings = {
            "store": {
                "BACKUP_STORE_URL": "s3://bucket/prod",
                "BACKUP_S3_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
                "BACKUP_S3_ACCESS_KEY_ID": "backups",
                "BACKUP_S3_SECRET_ACCESS_KEY": "a secret of some length",
            },
            "database": {
                "DATABASE_URL": "",
                "BACKUP_DATABASE_URLS": f"one=postgresql://a@127.0.0.1:{proxy.port}/a",
            },
            "redis": {"DATABASE_URL": "", "BACKUP_REDIS_URLS": f"one=redis://127.0.0.1:{proxy.port}"},
        }[silent]
        if silent != "store":
            _missed_a_run(wired(**settings))
        given = {**os.environ, **environ, **settings, "BACKUP_PORT": str(port), "BACKUP_HOST": "127.0.0.1"}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "backup", "serve"], env=given, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            wait_for(
                lambda: proxy.asked or process.poll() is not None,
                timeout=150,
                what="the first request to the silent server",
                hint=str(log),
            )
            assert process.poll() is None, log.read_text()
            if silent == "store":
                with pytest.raises(HTTPError, match="503"):
                    urlopen(f"http://127.0.0.1:{port}/readyz")
                assert b"backup_count" not in urlopen(f"http://127.0.0.1:{port}/metrics").read()
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
            assert time.monotonic() - began < 20
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in log.read_text()


def _missed_a_run(wiring: Wiring) -> None:
    """A failed run of two days ago, so that the service catches up at its start."""
    before = replace(wiring, clock=lambda: datetime.now(UTC) - timedelta(days=2))
    with suppress(DumpError), before.journal("one").attempt("backup"):
        raise DumpError("it was down", hint="start it")


def in_lanes(lanes: list[str], items: list[T], work: Callable[[T, str], object]) -> None:
    """Work on the items, one at a time in each lane."""

    def in_lane(number: int) -> None:
        for item in items[number :: len(lanes)]:
            work(item, lanes[number])

    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(in_lane, range(len(lanes))))


def wait_until_free(server: Postgres, name: str) -> None:
    """Until the sessions of an earlier run, and with them its lock, are gone."""
    with psycopg.connect(server.url, autocommit=True) as watcher:

        def free() -> bool:
            row = watcher.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name]
            ).fetchone()
            return row == (0,)

        wait_for(free, timeout=PATIENCE, what=f"the end of all sessions of {name}", hint="a run continues")


def test_what_begins_after_the_deadline_gets_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "GRACE_SECONDS", 0.3)
    with Stop().limit(0):
        with pytest.raises(OutOfTimeError):
            check_cancelled()
        check = waiting()
        check()
        time.sleep(0.4)
        with pytest.raises(OutOfTimeError):
            check()
        assert answered(lambda: "cleaned up") == "cleaned up"
        with pytest.raises(OutOfTimeError):
            answered(threading.Event().wait)
    check_cancelled()


def test_the_clean_up_as_a_whole_gets_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it waits for many things that are silent; those that answer cost nothing."""
    monkeypatch.setattr(cancellation, "GRACE_SECONDS", 0.4)
    monkeypatch.setattr(cancellation, "ALL_GRACE_SECONDS", 0.8)
    monkeypatch.setattr(cancellation, "MIN_GRACE_SECONDS", 0.05)
    with Stop().limit(0):
        began = time.monotonic()
        for number in range(10):
            assert answered(lambda: "an answer") == "an answer"
            with limited(number, "a part", "look"), pytest.raises(OutOfTimeError):
                answered(threading.Event().wait)
        # Looked at in steps of 0.2 s.
        assert time.monotonic() - began < 2 * 0.6 + 8 * 0.4


def test_a_part_ends_before_the_whole_and_never_after_it() -> None:
    stop = Stop()
    with stop.limit(3600):
        with (
            limited(0, "the first question", "look"),
            pytest.raises(OutOfTimeError, match="the first question"),
        ):
            check_cancelled()
        check_cancelled()
    with (
        stop.limit(0),
        limited(3600, "a part", "look"),
        pytest.raises(OutOfTimeError, match="BACKUP_TIMEOUT"),
    ):
        check_cancelled()


def test_limits_reach_other_threads() -> None:
    stop, found = Stop(), []

    def work() -> None:
        try:
            answered(threading.Event().wait)
        except StoppedError as error:
            found.append(error)

    with stop.limit(3600):
        threads = [threading.Thread(target=carry(work)) for _ in range(3)]
    for thread in threads:
        thread.start()
    stop.request()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(found) == 3


def test_an_action_that_fails_raises_its_own_error() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with Stop().limit(3600), pytest.raises(TimeoutError, match="its own"):
        answered(fail)


def test_a_program_that_prints_no_version_is_given_up(
    wired: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.programs._SECONDS", 0.5)
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(Exception, match="printed nothing within"):
        wired(BACKUP_POSTGRES_BIN=str(tmp_path)).programs.version("pg_dump")
