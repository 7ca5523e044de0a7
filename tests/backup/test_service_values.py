"""What the service's metrics, jobs and state read from a catalogue in which every candidate has another value."""

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from backup.cancellation import StoppedError
from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.history import Catalogue, Entry, History
from backup.catalogue.manifest import Manifest, StoredObject, Table
from backup.catalogue.records import Attempt, Difference, Report
from backup.cron import parse
from backup.errors import BusyError, StoreError
from backup.heartbeat import Pings
from backup.replication.offsite import Offsite
from backup.service.jobs import Jobs, chosen, last_made, missed
from backup.service.scheduler import Scheduler, Trigger
from backup.service.state import State, new_state
from backup.service.summary import problems, summaries
from backup.settings import BackupSettings
from backup.store import MemoryStore
from sidecar import OpsError
from tests.backup.conftest import samples
from tests.backup.documents import attempt, history, manifest, put, put_attempt, report
from tests.backup.test_wires import wired

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
LOST = Difference(kind="rows", object="public.posts", expected="10 rows", found="9 rows")


def state_of(folder: Path, store: MemoryStore, *names: str, **settings: str) -> State:
    """The state of a service at :data:`NOW`, once it has read its stores."""
    wiring = replace(wired(folder, store, *names, **settings), clock=lambda: NOW)
    state = new_state(wiring)
    state.refresh()
    return state


def put_report(store: MemoryStore, found: Report) -> None:
    store.put(layout.report(found.database, found.backup, found.finished), encode(found))


def of_shop(state: State) -> dict[str, float]:
    """The values of the database `shop`, by the metric's name and further labels."""
    return {
        name.replace('{database="shop"}', "").replace('database="shop",', ""): value
        for name, value in samples(state).items()
        if 'database="shop"' in name
    }


def newest(**more: Any) -> Manifest:
    """A backup whose moments and sizes all differ."""
    stored = StoredObject(
        name="database.dump.zst", role="archive", raw_bytes=4_000, stored_bytes=1_000, sha256="0" * 64
    )
    return manifest(
        NOW - 4 * HOUR,
        taken=NOW - 3 * HOUR,
        finished=NOW - 2 * HOUR,
        objects=(stored,),
        tables=(Table(schema="public", name="posts", rows=70), Table(schema="public", name="users", rows=7)),
        stages={"dump": 50.0, "sweep": 1.0},
        **more,
    )


def a_week(store: MemoryStore) -> tuple[Manifest, Manifest, Manifest]:
    """Two proven backups, and a newest one that is not equal to its dump."""
    first, second = manifest(NOW - 5 * DAY, size=1_000), manifest(NOW - 2 * DAY, size=2_000)
    last = newest(anomalies=("rows fell",))
    for made, seconds in ((first, 7.0), (second, 30.0)):
        put(store, made, proven=False)
        put_report(
            store,
            report(made, stages={"download": seconds - 3, "globals": 1.0, "restore": 2.0, "count": 99.0}),
        )
    put(store, last, proven=False)
    moment = NOW - HOUR
    put_report(
        store,
        report(
            last,
            ok=False,
            differences=(LOST, LOST),
            started=moment,
            finished=moment,
            stages={"restore": 500.0},
        ),
    )
    return first, second, last


def test_each_metric_of_a_backup_has_its_own_value(tmp_path: Path) -> None:
    store = MemoryStore()
    first, second, _ = a_week(store)
    errors = {"main:put": 3, "main:odd": 9, "other:get": 1}
    for made in (
        attempt(NOW - 30 * HOUR, totals={"success": 1}, store_errors={"main:put": 1}),
        attempt(NOW - 4 * HOUR, totals={"success": 7, "failure": 2}, store_errors=errors),
        attempt(NOW - 5 * HOUR, kind="verification", totals={"success": 4, "failure": 3}),
    ):
        put_attempt(store, made)
    found = of_shop(state_of(tmp_path, store))
    expected = {
        "backup_last_attempt_success": 1,
        "backup_last_attempt_timestamp_seconds": (NOW - 4 * HOUR).timestamp(),
        "backup_last_success_timestamp_seconds": (NOW - 2 * HOUR).timestamp(),
        "backup_age_seconds": 3 * 3600,
        "backup_size_bytes": 1_000,
        "backup_raw_bytes": 4_000,
        "backup_rows": 77,
        "backup_throughput_bytes_per_second": 4_000 / 7_200,
        "backup_compression_ratio": 4,
        "backup_anomalous": 1,
        "backup_latest_verified": 0,
        "backup_last_verification_success": 0,
        "backup_verification_unprovable": 0,
        "backup_verification_differences": 2,
        "backup_last_verified_timestamp_seconds": (second.finished + timedelta(minutes=1)).timestamp(),
        "backup_last_verified_backup_timestamp_seconds": second.taken.timestamp(),
        "backup_rto_seconds": 30,
        "backup_rto_projected_seconds": 60,
        "backup_oldest_timestamp_seconds": first.taken.timestamp(),
        'backup_runs_total{outcome="success"}': 7,
        'backup_runs_total{outcome="failure"}': 2,
        'backup_verifications_total{outcome="success"}': 4,
        'backup_verifications_total{outcome="failure"}': 3,
        "backup_in_progress": 0,
        "backup_running_since_timestamp_seconds": 0,
        "backup_silent_seconds": 0,
    }
    assert {name: found[name] for name in expected} == expected
    stages = {name: value for name, value in found.items() if name.startswith("backup_duration") and value}
    assert stages == {
        'backup_duration_seconds{stage="dump"}': 50,
        'backup_duration_seconds{stage="sweep"}': 1,
        'backup_duration_seconds{stage="total"}': 7_200,
    }
    assert found['backup_verification_duration_seconds{stage="restore"}'] == 500
    counts = {name: found[f'backup_count{{tier="{name}"}}'] for name in ("total", "verified")}
    assert counts == {"total": 3, "verified": 2}


def test_a_run_that_failed_is_the_last_one_although_an_older_one_succeeded(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    put_attempt(store, attempt(NOW - 4 * HOUR))
    put_attempt(store, attempt(NOW - 2 * HOUR, outcome="failure", error="no", hint="look"))
    found = of_shop(state_of(tmp_path, store))
    assert found["backup_last_attempt_success"] == 0
    assert found["backup_last_attempt_timestamp_seconds"] == (NOW - 2 * HOUR).timestamp()


def test_nothing_is_claimed_about_a_store_that_was_never_read(tmp_path: Path) -> None:
    def down(operation: str, _: str) -> None:
        raise StoreError("it is down", hint="", operation=operation)

    state = state_of(tmp_path, MemoryStore(fault=down))
    assert of_shop(state) == {}
    assert samples(state)['backup_store_up{store="main"}'] == 0
    assert str(state.trouble) == "it is down"


def test_store_errors_are_those_of_the_newest_attempt_and_of_operations_that_exist(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    errors = {"main:put": 3, "main:odd": 9, "other:get": 1}
    put_attempt(store, attempt(NOW - 30 * HOUR, store_errors={"main:put": 1}))
    put_attempt(store, attempt(NOW - 4 * HOUR, store_errors=errors))
    # It has not ended, so its errors are not known yet.
    put_attempt(
        store,
        attempt(
            NOW - HOUR, kind="verification", outcome="running", finished=None, store_errors={"main:put": 8}
        ),
    )
    found = {
        name: value for name, value in samples(state_of(tmp_path, store)).items() if "store_errors" in name
    }
    assert {name: value for name, value in found.items() if value} == {
        'backup_store_errors_total{operation="put",store="main"}': 3
    }


def test_a_verification_that_was_not_possible_says_neither_yes_nor_no(tmp_path: Path) -> None:
    store = MemoryStore()
    last = newest()
    put(store, last, proven=False)
    put_report(store, report(last, ok=False, unprovable=("the disk is full",)))
    found = of_shop(state_of(tmp_path, store))
    assert "backup_last_verification_success" not in found
    assert found["backup_verification_unprovable"] == 1
    assert found["backup_last_verified_timestamp_seconds"] == 0


def test_a_drill_that_failed_changes_neither_the_last_success_nor_its_measures(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    for made in (
        attempt(NOW - 9 * DAY, kind="drill", measures={"rto": 90.0, "rpo": 60.0}),
        attempt(NOW - DAY, kind="drill", outcome="failure", measures={"rto": 5.0, "rpo": 6.0}),
        attempt(NOW - HOUR, kind="drill", outcome="running", finished=None),
    ):
        put_attempt(store, made)
    found = of_shop(state_of(tmp_path, store))
    assert found["backup_last_drill_timestamp_seconds"] == (NOW - 9 * DAY).timestamp()
    assert found["backup_last_drill_success"] == 0
    assert (found["backup_drill_rto_seconds"], found["backup_drill_rpo_seconds"]) == (90, 60)


def test_a_drill_in_progress_is_neither_passed_nor_failed(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    put_attempt(store, attempt(NOW - DAY, kind="drill"))
    put_attempt(store, attempt(NOW - HOUR, kind="drill", outcome="running", finished=None))
    assert of_shop(state_of(tmp_path, store))["backup_last_drill_success"] == 1


def test_failures_that_the_store_could_not_take_are_delivered_once_it_answers(tmp_path: Path) -> None:
    store = MemoryStore()
    state = state_of(tmp_path, store)
    error = StoreError("it was down", hint="", operation="check")
    state.wiring.journal("shop").failed_without_store("backup", error)
    assert store.objects == {}
    state.refresh()
    (tried,) = history(store).attempts
    assert (tried.outcome, tried.error) == ("failure", "it was down")
    assert state.wiring.backlog.of("shop") == ()


def test_a_schedule_that_was_due_since_the_last_run_was_missed() -> None:
    zone = ZoneInfo("UTC")
    last = datetime(2026, 11, 26, 3, 1, tzinfo=UTC)
    for hours, is_missed in ((23, False), (24, True), (90, True)):
        assert missed("0 3 * * *", zone, last, last + hours * HOUR) == is_missed


def test_the_decisions_of_the_last_prune_are_shown(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    for days, decisions in ((2, {"keep": 9}), (1, {"keep": 4, "delete": 2, "refused": 1})):
        put_attempt(store, attempt(NOW - days * DAY, kind="prune", decisions=decisions))
    found = of_shop(state_of(tmp_path, store))
    shown = {
        name: found[f'backup_prune_decisions{{decision="{name}"}}'] for name in ("keep", "delete", "refused")
    }
    assert shown == {"keep": 4, "delete": 2, "refused": 1}


def test_only_what_waits_in_the_spool_counts_as_spooled(tmp_path: Path) -> None:
    store = MemoryStore()
    a_week(store)
    spool = str(tmp_path / "spool")
    wiring = wired(tmp_path, store, BACKUP_SPOOL_DIR=spool)
    assert wiring.spool is not None
    put(wiring.spool, manifest(NOW - HOUR, size=123))
    found = samples(state_of(tmp_path, store, BACKUP_SPOOL_DIR=spool))
    assert (found["backup_spool_backups"], found["backup_spool_bytes"]) == (1, 123)


def running(started: datetime, **more: Any) -> Attempt:
    return attempt(started, outcome="running", finished=None, **more)


HERE, ME = socket.gethostname(), os.getpid()
# No process has this number: it is above the kernel's largest.
NOBODY = 2**22 + 1


@pytest.mark.parametrize(
    ("made", "lives"),
    [
        (running(NOW - HOUR, host="elsewhere", pid=1), True),
        (running(NOW - 7 * HOUR, host="elsewhere", pid=1), False),
        (running(NOW - HOUR, host=HERE, pid=os.getppid()), True),
        (running(NOW - HOUR, host=HERE, pid=NOBODY), False),
        # A container that was restarted: its process has the same number.
        (running(datetime(2020, 1, 1, tzinfo=UTC), host=HERE, pid=ME), False),
    ],
)
def test_a_run_is_in_progress_while_its_process_may_live(tmp_path: Path, made: Attempt, lives: bool) -> None:
    store = MemoryStore()
    put(store, newest())
    put_attempt(store, attempt(made.started - DAY))
    put_attempt(store, made)
    found = of_shop(state_of(tmp_path, store))
    assert found["backup_in_progress"] == lives
    assert found["backup_last_attempt_success"] == lives
    shown = made.started if not lives else made.started - DAY
    assert found["backup_last_attempt_timestamp_seconds"] == shown.timestamp()


def test_a_service_that_cannot_work_says_why(tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, newest())
    state = state_of(tmp_path, store, "shop", "other")
    assert state.trouble is None
    pulses: Any = state.wiring.stop.pulses
    pulses["other"] = SimpleNamespace(silence=299.0)
    assert state.trouble is None
    pulses["other"] = SimpleNamespace(silence=301.0)
    assert "other has had no response for 5 min" in str(state.trouble)
    pulses.clear()
    state.catalogue = Catalogue(NOW - timedelta(seconds=899))
    assert state.trouble is None
    state.catalogue = Catalogue(NOW - timedelta(seconds=901))
    assert "last read 15 min" in str(state.trouble)
    state.problems["main"] = "it is down"
    assert state.trouble == "it is down"


def test_the_last_run_that_was_made_is_the_last_success_or_else_the_first_run() -> None:
    failed = [attempt(NOW - hours * HOUR, outcome="failure") for hours in (9, 8)]
    assert last_made(History("shop", attempts=tuple(failed))) == NOW - 9 * HOUR
    others = [attempt(NOW - 7 * HOUR), attempt(NOW - 6 * HOUR), attempt(NOW - 2 * HOUR, kind="prune")]
    assert (
        last_made(History("shop", attempts=(*failed, *others, attempt(NOW, outcome="failure"))))
        == NOW - 6 * HOUR
    )
    assert last_made(History("shop")) is None


def test_the_unverified_are_verified_newest_first_and_then_a_sample_of_the_others() -> None:
    entries = [
        Entry(made, (report(made),) if at < 3 else ())
        for at, made in enumerate(manifest(NOW - (9 - at) * DAY) for at in range(6))
    ]
    history = History("shop", tuple(entries))
    assert chosen(history, 0) == [entries[5], entries[4], entries[3]]
    found = chosen(history, 2)
    assert found[:3] == [entries[5], entries[4], entries[3]]
    assert len({entry.id for entry in found[3:]} & {entry.id for entry in entries[:3]}) == 2
    assert len(chosen(history, 99)) == 6


def test_databases_whose_last_run_failed_come_last(tmp_path: Path) -> None:
    store = MemoryStore()
    for name, outcome in (("a", "failure"), ("b", "success"), ("c", "failure")):
        put_attempt(store, attempt(NOW - HOUR, database=name, outcome=outcome))
    state = state_of(tmp_path, store, "a", "b", "c", "d")
    assert [target.name for target in Jobs(state)._in_turn(state.wiring.targets)] == ["b", "d", "a", "c"]


def test_runs_that_were_missed_together_become_one_however_late(tmp_path: Path) -> None:
    state = state_of(tmp_path, MemoryStore())
    scheduler = Scheduler(state)
    scheduler.add("backup", "0 3 * * *", lambda: None)
    scheduler._scheduler.start(paused=True)
    job = scheduler._scheduler.get_job("backup")
    scheduler.stop()
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)


def test_a_run_that_began_a_moment_early_is_not_repeated() -> None:
    zone = ZoneInfo("UTC")
    due = datetime(2026, 11, 27, 3, tzinfo=UTC)
    trigger = Trigger(parse("0 3 * * *"), zone)
    early = due - timedelta(milliseconds=5)
    assert trigger.get_next_fire_time(None, early) == due
    assert trigger.get_next_fire_time(due, early) == due + DAY


def test_the_lag_is_the_age_of_the_oldest_sound_backup_without_a_copy() -> None:
    made = [manifest(NOW - days * DAY) for days in (9, 5, 4, 1)]
    damaged = Entry(made[0], (report(made[0], ok=False, differences=(LOST,)),))
    history = History("shop", (damaged, *map(Entry, made[1:])))
    copied = Offsite({"shop": frozenset({made[1].id})})
    assert copied.lag(history, NOW) == (NOW - made[2].finished).total_seconds()
    assert Offsite({"shop": frozenset(one.id for one in made[1:])}).lag(history, NOW) == 0


def texts(state: State) -> Sequence[str]:
    return [f"{problem.kind}: {problem.text}" for problem in problems(state, state.history("shop"), NOW)]


Change = Callable[[MemoryStore], object]


@pytest.mark.parametrize(
    ("hours", "proven", "expected"),
    [
        (25, True, []),
        (27, True, ["bad: the newest backup is 1 d 3 h old, the target is 1 d 2 h"]),
        (1, False, ["bad: no backup is verified yet"]),
    ],
)
def test_an_old_or_unproven_backup_is_a_problem(
    tmp_path: Path, hours: int, proven: bool, expected: list[str]
) -> None:
    store = MemoryStore()
    put(store, manifest(NOW - hours * HOUR), proven=proven)
    bad = [text for text in texts(state_of(tmp_path, store)) if text.startswith("bad")]
    assert bad == expected


def test_the_worst_database_comes_first(tmp_path: Path) -> None:
    store = MemoryStore()
    for hours in (50, 2):
        put(store, manifest(NOW - hours * HOUR, database="b"))
        put(store, manifest(NOW - hours * HOUR, database="d"))
    put(store, manifest(NOW - HOUR, database="c"))
    state = state_of(tmp_path, store, "a", "b", "c", "d")
    assert [(each.name, each.verdict) for each in summaries(state)] == [
        ("a", "bad"),
        ("c", "warn"),
        ("b", "good"),
        ("d", "good"),
    ]


def test_copies_that_lag_behind_the_target_are_a_problem(tmp_path: Path) -> None:
    store = MemoryStore()
    for hours in (30, 2):
        put(store, manifest(NOW - hours * HOUR))
    (tmp_path / "offsite").mkdir()
    state = state_of(tmp_path, store, BACKUP_OFFSITE_STORE_URL=f"file://{tmp_path / 'offsite'}")
    assert "bad: the off-site copy is 1 d 5 h behind" in texts(state)
    assert of_shop(state)["backup_offsite_lag_seconds"] == 30 * 3600 - 5


def test_each_report_goes_to_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, str, str]] = []

    def call(url: str, text: str = "", *, name: str = "") -> None:
        calls.append((name, url, text))

    monkeypatch.setattr("backup.heartbeat.deadman.call", call)
    names = {"BACKUP_PING_URL": "ok", "BACKUP_PING_START_URL": "start", "BACKUP_PING_FAILURE_URL": "fail"}
    pings = Pings(BackupSettings.load({name: f"http://h/{path}" for name, path in names.items()}))
    pings.started()
    pings.proven()
    pings.failed("why")
    assert calls == [
        ("start", "http://h/start", ""),
        ("success", "http://h/ok", ""),
        ("failure", "http://h/fail", "why"),
    ]
    calls.clear()
    Pings(BackupSettings.load({})).proven()
    assert calls == []


class Unread:
    """What the dead man's switch would receive."""

    def __init__(self, *_: Any) -> None:
        self.calls: list[str] = []

    def started(self) -> None:
        self.calls.append("started")

    def proven(self) -> None:
        self.calls.append("proven")

    def failed(self, why: str) -> None:
        self.calls.append(why)


def jobs_of(state: State, monkeypatch: pytest.MonkeyPatch) -> tuple[Jobs, list[str]]:
    pings = Unread()
    monkeypatch.setattr("backup.service.jobs.Pings", lambda _: pings)
    return Jobs(state), pings.calls


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BusyError("the lock is taken", hint="wait"), []),
        (OpsError("the dump failed", hint="look"), ["shop: the dump failed"]),
        (KeyError("x"), ["shop: KeyError"]),
        (None, []),
    ],
)
def test_a_job_that_fails_is_reported_unless_another_one_has_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, expected: list[str]
) -> None:
    state = state_of(tmp_path, MemoryStore())
    jobs, calls = jobs_of(state, monkeypatch)

    def work() -> str:
        if error is not None:
            raise error
        return "done"

    assert jobs._guarded(state.wiring.targets[0], work) == (None if error else "done")
    assert calls == expected


def test_a_job_that_the_end_of_the_service_stops_is_not_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(tmp_path, MemoryStore())
    jobs, calls = jobs_of(state, monkeypatch)

    def work() -> None:
        raise StoppedError("stopped", hint="")

    with pytest.raises(StoppedError):
        jobs._guarded(state.wiring.targets[0], work)
    assert calls == []


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, []),
        ({"ok": False, "unprovable": ("no server",)}, ["shop/1 could not be verified here: no server"]),
        ({"ok": False, "differences": ("a row",)}, ["shop/1 failed its verification: a row"]),
    ],
)
def test_a_verification_that_is_not_a_proof_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], expected: list[str]
) -> None:
    found = SimpleNamespace(**{"ok": True, "unprovable": (), "differences": (), **more})
    monkeypatch.setattr("backup.service.jobs.verify", lambda *_: found)
    jobs, calls = jobs_of(state_of(tmp_path, MemoryStore()), monkeypatch)
    entry: Any = SimpleNamespace(id="shop/1")
    assert jobs._verified(entry) == found.ok
    assert calls == expected


def test_databases_that_cannot_be_discovered_are_reported_and_the_others_are_backed_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = state_of(tmp_path, MemoryStore(), "a", "b")
    jobs, calls = jobs_of(state, monkeypatch)
    taken: list[str] = []

    def discover(_: object) -> None:
        raise OpsError("no server", hint="start it")

    monkeypatch.setattr(type(state.wiring), "discover", discover)
    monkeypatch.setattr(jobs, "_taken", lambda target: taken.append(target.name))
    jobs.back_up()
    assert (calls, taken) == (["databases cannot be discovered: no server", "started"], ["a", "b"])


def test_a_run_is_only_made_up_for_if_it_was_missed_or_nothing_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    for name in ("current", "forged"):
        put_attempt(store, attempt(NOW - HOUR, database=name))
    put_attempt(store, attempt(NOW - 2 * DAY, database="late"))
    state = state_of(tmp_path, store, "current", "forged", "late", "new")
    read = state.history
    other: Any = SimpleNamespace(id="1")

    def history(name: str) -> History:
        return replace(read(name), others=(other,)) if name == "forged" else read(name)

    monkeypatch.setattr(state, "history", history)
    jobs, _ = jobs_of(state, monkeypatch)
    caught_up: list[str] = []
    monkeypatch.setattr(jobs, "_back_up", lambda made: caught_up.extend(target.name for target in made))
    jobs.catch_up()
    assert caught_up == ["forged", "late"]


@pytest.mark.parametrize(
    ("waits", "problem", "moved"),
    [(True, None, 1), (False, None, 0), (True, "the store is down", 0)],
)
def test_the_spool_is_moved_if_there_is_any_and_the_store_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: bool, problem: str | None, moved: int
) -> None:
    state = state_of(tmp_path, MemoryStore(), BACKUP_SPOOL_DIR=str(tmp_path / "spool"))
    spool = state.wiring.spool
    assert spool is not None
    if waits:
        spool.put("shop/1/manifest.json", b"{}")
    state.problems["main"] = problem
    calls: list[object] = []

    def forward(wiring: object) -> int:
        calls.append(wiring)
        return 1

    monkeypatch.setattr("backup.service.jobs.forward", forward)
    jobs_of(state, monkeypatch)[0].forward_spool()
    assert len(calls) == moved
