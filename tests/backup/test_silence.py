"""If a server or a store falls silent, the job ends at its limit, and the others are not affected."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backup import cancellation
from backup.cancellation import OutOfTimeError, Stop, StoppedError, answered, carry, limited, look, waiting
from backup.doctor import examine
from backup.prune import prune
from backup.run import run
from backup.service import status_page
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.targets import Target
from backup.verify import verify
from backup.wiring import Wiring
from stack.servers import Postgres
from tests.backup.conftest import Wire, samples
from tests.backup.silentkit import PATIENCE, SilentProxy, ended

SILENCE = "2"


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
        until = time.monotonic() + PATIENCE
        while state.trouble is None and time.monotonic() < until:
            time.sleep(0.05)
        assert "has had no answer for" in str(state.trouble)
        assert "has had no answer for" in status_page.render(state)
        assert samples(state)[f'backup_silent_seconds{{database="{database}"}}'] > 0.5
        wiring.stop.request()
        running.join(PATIENCE)
        assert not running.is_alive()
    assert state.silence(database) == 0


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
    monkeypatch.setattr("backup.doctor.CHECK_SECONDS", 2.0)
    with SilentProxy(postgres.port, rb"pg_backend_pid") as proxy:
        url = postgres.url_for(database).replace(f":{postgres.port}/", f":{proxy.port}/")
        wiring = wired(DATABASE_URL=url)
        found = {}
        assert ended(lambda: found.update({check.name: check for check in examine(wiring)})) is None
    silent = found[f"postgres {database}"]
    assert not silent.ok
    assert "no answer came within" in silent.detail


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


def test_what_begins_after_the_deadline_gets_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancellation, "GRACE_SECONDS", 0.3)
    with Stop().limit(0):
        with pytest.raises(OutOfTimeError):
            look()
        check = waiting()
        check()
        time.sleep(0.4)
        with pytest.raises(OutOfTimeError):
            check()
        assert answered(lambda: "cleaned up") == "cleaned up"
        with pytest.raises(OutOfTimeError):
            answered(threading.Event().wait)
    look()


def test_a_part_ends_before_the_whole_and_never_after_it() -> None:
    stop = Stop()
    with stop.limit(3600):
        with (
            limited(0, "the first question", "look"),
            pytest.raises(OutOfTimeError, match="the first question"),
        ):
            look()
        look()
    with (
        stop.limit(0),
        limited(3600, "a part", "look"),
        pytest.raises(OutOfTimeError, match="BACKUP_TIMEOUT"),
    ):
        look()


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
