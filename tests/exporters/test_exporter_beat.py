"""Beat: when schedules are due, and whether beat is alive."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.beat.collector import BeatCollector
from exporters.beat.database import read_schedules
from exporters.beat.schedules import Schedule, crontab_after
from exporters.decode import typed
from exporters.exposition.page import render
from exporters.tables.state import EventState
from stack.servers import Postgres
from tests.backup.silentkit import SilentProxy, ended
from tests.exporters.exporterkit import HERE, Scraped

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def schedule(name: str = "due posts", **fields: Any) -> Schedule:
    base = {
        "task": "posts.publish_due",
        "enabled": True,
        "last_run_at": NOW - timedelta(seconds=30),
        "date_changed": NOW,
    }
    return Schedule(name=name, **{**base, "every": 60, "period": "seconds", **fields})


def collected(schedules: list[Schedule], state: Iterable[EventState] = (), **options: Any) -> Scraped:
    collector = BeatCollector(list(state), read=lambda: schedules, clock=NOW.timestamp, **options)
    collector.update()
    return Scraped(render(collector.collect()).decode())


def test_interval_due_and_overdue() -> None:
    found = collected([schedule(), schedule("late", last_run_at=NOW - timedelta(seconds=100))])
    name = "celery_beat_schedule_overdue_seconds"
    assert found.get(name, schedule="due posts") == 0
    assert found.get(name, schedule="late") == 40
    assert (
        found.get("celery_beat_schedule_next_due_timestamp_seconds", schedule="due posts")
        == NOW.timestamp() + 30
    )
    assert found.get("celery_beat_up") == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"enabled": False},
        {"expires": NOW - timedelta(seconds=1)},
        {"one_off": True},
        {"every": None, "period": None},
        {"every": None, "crontab": ("99", "*", "*", "*", "*", "UTC")},
        {"every": None, "crontab": ("*", "*", "*", "*", "*", "Not/AZone")},
    ],
)
def test_schedules_without_a_next_run_are_never_overdue(fields: Any) -> None:
    found = collected([schedule(last_run_at=NOW - timedelta(days=9), **fields)])
    assert found.get("celery_beat_schedule_overdue_seconds") == 0
    assert found.get("celery_beat_schedule_next_due_timestamp_seconds") is None
    assert found.get("celery_beat_schedule_enabled") == int(fields.get("enabled", True))


def test_a_later_start_time_is_waited_for() -> None:
    start = NOW + timedelta(hours=1)
    assert schedule(start_time=start).next_due(now=NOW) == start


def test_beat_is_down_when_nothing_was_sent_after_a_due_time() -> None:
    long_ago = NOW - timedelta(seconds=900)
    assert collected([schedule(last_run_at=long_ago)]).get("celery_beat_up") == 0
    stuck_next_to_living = [schedule(last_run_at=long_ago), schedule("alive", task="posts.other")]
    assert collected(stuck_next_to_living).get("celery_beat_up") == 1


def sent(state: EventState, name: str, seconds_ago: Any, client: str = "gen1@beat") -> None:
    event = {
        "type": "task-sent",
        "uuid": "u",
        "hostname": client,
        "name": name,
        "queue": "default",
        "eta": None,
        "timestamp": NOW.timestamp() - seconds_ago,
    }
    state.take([typed(event)], 1.0, NOW.timestamp())


def test_events_of_beat_are_newer_than_its_database() -> None:
    state = EventState()
    collector = BeatCollector(
        [state], read=lambda: [schedule(last_run_at=NOW - timedelta(seconds=170))], clock=NOW.timestamp
    )
    collector.update()
    sent(state, "posts.publish_due", 20)
    found = Scraped(render(collector.collect()).decode())
    assert found.get("celery_beat_schedule_overdue_seconds") == 0
    assert found.get("celery_beat_last_sent_timestamp_seconds") == NOW.timestamp() - 20


def test_a_client_that_also_sends_other_tasks_is_not_beat() -> None:
    state = EventState()
    BeatCollector([state], read=None, names=["posts.publish_due"])
    sent(state, "posts.publish_due", 20, client="gen9@web")
    sent(state, "posts.publish_now", 10, client="gen9@web")
    sent(state, "posts.publish_due", 5, client="gen9@web")
    assert state.beat.last_sent() == {}


@pytest.mark.parametrize("first", ["posts.new", "posts.publish_due"])
def test_beat_is_beat_again_once_a_new_schedule_is_read(first: str) -> None:
    state, schedules = EventState(), [schedule(last_run_at=NOW - timedelta(seconds=170))]
    collector = BeatCollector([state], read=lambda: schedules, clock=NOW.timestamp)
    collector.update()
    # Added after the last refresh, and sent before the next one.
    for name in (first, "posts.new", "posts.newer"):
        sent(state, name, 100)
    assert state.beat.last_sent() == {}
    schedules += [schedule(name, task=name, last_run_at=None) for name in ("posts.new", "posts.newer")]
    collector.update()
    assert state.beat.last_sent()["posts.new"] == NOW.timestamp() - 100
    sent(state, "posts.newer", 10)
    found = Scraped(render(collector.collect()).decode())
    assert found.get("celery_beat_last_sent_timestamp_seconds") == NOW.timestamp() - 10


def test_removing_a_schedule_does_not_make_beat_another_client() -> None:
    state, schedules = EventState(), [schedule(), schedule("old", task="posts.old")]
    collector = BeatCollector([state], read=lambda: schedules, clock=NOW.timestamp)
    collector.update()
    sent(state, "posts.old", 50)
    schedules.pop()
    collector.update()
    sent(state, "posts.old", 30)
    sent(state, "posts.publish_due", 20)
    assert state.beat.last_sent()["posts.publish_due"] == NOW.timestamp() - 20


def test_many_clients_do_not_block_liveness() -> None:
    state = EventState()
    BeatCollector([state], read=None, names=["posts.publish_due"])
    for pid in range(3_000):
        sent(state, "posts.publish_due", 10_000 - pid, client=f"gen{pid}@cron")
        sent(state, "posts.other", 10_000 - pid, client=f"gen{pid}@web")
    assert state.beat.last_sent() == {"posts.publish_due": NOW.timestamp() - 7_001}
    # Beat's last task outlives the memory of beat.
    sent(state, "posts.publish_due", 6_000)
    for pid in range(3_000):
        sent(state, "posts.other", 5_000 - pid, client=f"gen{pid}@shop")
    assert state.beat.last_sent() == {"posts.publish_due": NOW.timestamp() - 6_000}


def test_liveness_without_a_database() -> None:
    state = EventState()
    collector = BeatCollector([state], read=None, names=["posts.publish_due"], grace=100, clock=NOW.timestamp)
    assert Scraped(render(collector.collect()).decode()).get("celery_beat_up") is None
    sent(state, "posts.publish_due", 50)
    assert Scraped(render(collector.collect()).decode()).get("celery_beat_up") == 1
    sent(state, "posts.publish_due", 150)
    assert Scraped(render(collector.collect()).decode()).get("celery_beat_up") == 0


def test_beat_that_sends_events_is_missed_sooner() -> None:
    """Without events, the database may be three minutes old."""
    late = [schedule(last_run_at=NOW - timedelta(seconds=170))]
    assert collected(late).get("celery_beat_up") == 1
    for seconds_ago, up in ((50, 1), (100, 0)):
        state = EventState()
        BeatCollector([state], read=None, names=["cron.other"])
        sent(state, "cron.other", seconds_ago)
        assert collected(late, [state], names=["cron.other"]).get("celery_beat_up") == up, seconds_ago


def test_beat_is_down_although_another_schedule_is_not_due_yet() -> None:
    long_ago = NOW - timedelta(seconds=900)
    weekly = schedule("weekly", task="posts.tidy", last_run_at=long_ago, every=7 * 86_400)
    assert collected([schedule(last_run_at=long_ago), weekly]).get("celery_beat_up") == 0


def test_a_schedule_that_ends_between_two_readings_is_not_overdue() -> None:
    now = [NOW.timestamp()]
    ending = [schedule(expires=NOW + timedelta(seconds=60))]
    collector = BeatCollector([], read=lambda: ending, clock=lambda: now[0])
    collector.update()
    for passed, overdue, due in ((45, 15, NOW.timestamp() + 30), (60, 0, None)):
        now[0] = NOW.timestamp() + passed
        found = Scraped(render(collector.collect()).decode())
        assert found.get("celery_beat_schedule_overdue_seconds") == overdue
        assert found.get("celery_beat_schedule_next_due_timestamp_seconds") == due


@pytest.mark.parametrize(("other", "overdue"), [(True, 110.0), (False, 0.0)])
def test_an_event_shows_the_run_of_the_only_enabled_schedule_of_its_task(other: bool, overdue: float) -> None:
    """A task of several schedules does not show which of them sent it; a disabled schedule sends nothing."""
    last = NOW - timedelta(seconds=170)
    schedules = [schedule("due posts", last_run_at=last), schedule("later", last_run_at=last, enabled=other)]
    state = EventState()
    BeatCollector([state], read=None, names=["posts.publish_due"])
    sent(state, "posts.publish_due", 20)
    found = collected(schedules, [state])
    assert found.get("celery_beat_schedule_overdue_seconds", schedule="due posts") == overdue
    run = found.get("celery_beat_schedule_last_run_timestamp_seconds", schedule="later")
    assert run == last.timestamp(), "it was not this one"


def test_an_event_that_is_older_than_the_database_changes_nothing() -> None:
    state = EventState()
    BeatCollector([state], read=None, names=["posts.publish_due"])
    sent(state, "posts.publish_due", 500)
    found = collected([schedule()], [state])
    assert found.get("celery_beat_schedule_last_run_timestamp_seconds") == NOW.timestamp() - 30


def test_of_two_beats_the_one_that_sent_last_counts() -> None:
    state = EventState()
    BeatCollector([state], read=None, names=["posts.publish_due"])
    sent(state, "posts.publish_due", 20, client="gen1@one")
    sent(state, "posts.publish_due", 100, client="gen1@two")
    assert state.beat.last_sent() == {"posts.publish_due": NOW.timestamp() - 20}


def test_schedules_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.beat.collector.MAX_SCHEDULES", 1)
    found = collected([schedule(name) for name in ("a", "b", "c")])
    assert found.get("celery_exporter_schedules_left_out") == 2
    assert found.values("celery_beat_schedule_enabled", "schedule") == {"a"}


def test_a_schedule_that_runs_once_is_due_until_it_has_run() -> None:
    once: dict[str, Any] = {"one_off": True, "every": None, "period": None, "clocked_time": NOW}
    assert schedule(last_run_at=None, **once).next_due(now=NOW) == NOW
    assert schedule(last_run_at=NOW, **once).next_due(now=NOW) is None


@given(
    st.integers(0, 59),
    st.sampled_from(["*", "*/2", "3", "0,12"]),
    st.sampled_from(["*", "1-5", "sunday"]),
    st.integers(0, 700 * 86_400),
)
def test_crontab_names_a_later_minute_that_matches(minute: Any, hour: Any, weekday: Any, base: Any) -> None:
    base = NOW + timedelta(seconds=base)
    due = crontab_after((str(minute), hour, weekday, "*", "*", "UTC"), base)
    assert due > base
    assert (due.minute, due.second) == (minute, 0)
    assert due - base <= timedelta(days=8)


TABLES = """
create table django_celery_beat_intervalschedule (id int primary key, every int, period text);
create table django_celery_beat_crontabschedule (id int primary key, minute text, hour text, day_of_week text,
  day_of_month text, month_of_year text, timezone text);
create table django_celery_beat_clockedschedule (id int primary key, clocked_time timestamptz);
create table django_celery_beat_periodictask (id int primary key, name text, task text, enabled bool,
  last_run_at timestamptz, date_changed timestamptz, start_time timestamptz, expires timestamptz, one_off bool,
  interval_id int, crontab_id int, solar_id int, clocked_id int);
insert into django_celery_beat_intervalschedule values (1, 60, 'seconds');
insert into django_celery_beat_crontabschedule values (1, '0', '4', '*', '*', '*', 'Europe/Berlin');
insert into django_celery_beat_clockedschedule values (1, '2099-01-01T00:00:00Z');
insert into django_celery_beat_periodictask values
  (1, 'due', 'posts.publish_due', true, now(), now(), null, null, false, 1, null, null, null),
  (2, 'nightly', 'posts.tidy', true, null, now(), null, null, false, null, 1, null, null),
  (3, 'once', 'posts.announce', true, null, now(), null, null, true, null, null, null, 1);
"""


def test_a_database_that_falls_silent_is_given_up(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It accepts the query, and not even the time-out of the server arrives."""
    monkeypatch.setattr("exporters.beat.database.SILENT_SECONDS", 0.5)
    with SilentProxy(postgres.port, rb"periodictask") as proxy:
        url = postgres.url.replace(f":{postgres.port}/", f":{proxy.port}/")
        error = ended(lambda: read_schedules(url))
        assert proxy.silent.is_set()
    assert isinstance(error, psycopg.OperationalError)


def test_schedules_are_read_from_a_real_database(postgres: Postgres) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("create database beat_schedules")
    url = postgres.url_for("beat_schedules")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
    due, nightly, once = read_schedules(url)
    assert due.last_run_at is not None
    assert due.next_due() == due.last_run_at + timedelta(seconds=60)
    at = nightly.next_due()
    assert at is not None
    assert (at.hour, at.minute, str(at.tzinfo)) == (4, 0, "Europe/Berlin")
    assert once.next_due() == datetime(2099, 1, 1, tzinfo=UTC)


WEEK, HOUR = 7 * 86_400, 3_600
CASES: list[dict[str, Any]] = [
    {"start": start, "last": last, **when}
    for when in (
        {"every": WEEK},
        {"every": 60},
        {"crontab": ["0", "4", "*", "*", "*"]},
        {"crontab": ["*", "*", "*", "*", "*"]},
    )
    for start, last in (
        (None, -30),
        (None, -2 * WEEK),
        (HOUR, None),
        (-HOUR, None),
        (-HOUR, -30),
        (-WEEK, -2 * HOUR),
    )
]


def test_schedules_are_due_when_django_celery_beat_itself_would_send_them() -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "beatentries.py")],
        input=json.dumps(CASES),
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    now = datetime.now(UTC)

    def at(offset: float | None) -> datetime | None:
        return None if offset is None else now + timedelta(seconds=offset)

    for case, expected in zip(CASES, json.loads(done.stdout), strict=True):
        crontab = (*case["crontab"], "UTC") if "crontab" in case else None
        period = "seconds" if "every" in case else None
        one = Schedule(
            "n",
            "t",
            True,
            at(case["last"]),
            now,
            at(case["start"]),
            every=case.get("every"),
            period=period,
            crontab=crontab,
        )
        due = one.next_due(now=now)
        assert due is not None
        found = max(0.0, (due - now).total_seconds())
        # Beat checks again after at most five seconds, and both clocks have advanced meanwhile.
        assert found == pytest.approx(expected, abs=10), case
