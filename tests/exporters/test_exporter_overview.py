"""The exporter's status page: what it shows from memory, and that nothing from a broker becomes markup."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from exporters import overview
from exporters.beat.collector import Beat, BeatCollector
from exporters.beat.schedules import Schedule
from exporters.decode import typed
from exporters.pipeline import Pipeline
from exporters.queues.model import Queue, Snapshot
from exporters.settings import ExporterSettings
from exporters.tables import recent
from exporters.tables.groups import FAILED, STARTED, STATES, Group
from sidecar import html
from tests.sidecar.markup import HOSTILE, Page

NOW = 1_795_000_000.0
NOTHING = Beat(None, None, ())


@pytest.fixture
def pipeline() -> Pipeline:
    """A pipeline whose broker is never contacted; it believes that it is connected."""
    settings = ExporterSettings.load({}, broker_url="redis://:secret@broker.example:6379/0")
    made = Pipeline(settings.brokers()[0], settings)
    made.receiver.health.connected = True
    made.state.roster.connection.restored()
    return made


def take(pipeline: Pipeline, *events: dict[str, Any]) -> None:
    pipeline.state.take([typed(each) for each in events], time.monotonic(), NOW)


def run(pipeline: Pipeline, number: int, end: str = "task-succeeded", **fields: Any) -> None:
    """One task from its sending to its end."""
    common = {"uuid": f"{end}{number}", "timestamp": NOW}
    where = {"hostname": "worker@one", "pid": 1}
    take(
        pipeline,
        {
            "type": "task-sent",
            "hostname": "gen1@web",
            "name": "shop.add",
            "queue": "default",
            **common,
            **fields,
        },
        {"type": "task-received", "name": fields.get("name", "shop.add"), **where, **common},
        {"type": "task-started", **where, **common},
        {"type": end, "runtime": 0.5, "exception": "ValueError('no')", **where, **common},
    )


def beat_of(worker: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "worker-heartbeat",
        "hostname": worker,
        "pid": 1,
        "freq": 2,
        "active": 3,
        "processed": 40,
        "loadavg": [1.5, 1, 1],
        "timestamp": NOW,
        **fields,
    }


def shown(pipeline: Pipeline, beat: Beat = NOTHING, advice: tuple[str, ...] = ()) -> Page:
    return Page(html.page("Celery exporter", overview.render([(pipeline, advice)], beat, NOW + 5)))


def test_a_page_before_anything_has_arrived(pipeline: Pipeline) -> None:
    page = shown(pipeline)
    for nothing in (
        "None is known yet",
        "None has sent a heartbeat",
        "No task event",
        "None since the exporter started",
    ):
        assert nothing in page.text
    assert "secret" not in page.text


def test_a_broken_connection_is_reported_first(pipeline: Pipeline) -> None:
    pipeline.receiver.health.connected = False
    pipeline.receiver.health.error = "connection refused"
    start = "Celery exporter Celery exporter Disconnected from redis://broker.example:6379/0"
    assert shown(pipeline).text.startswith(start)
    assert "connection refused" in shown(pipeline).text


def test_queues_with_their_age_and_consumers(pipeline: Pipeline) -> None:
    pipeline.queues.update(
        Snapshot({"idle": Queue(0, 0, 0.0, consumers=1), "mail": Queue(120, 4, 95.0, consumers=0)})
    )
    text = shown(pipeline).text
    assert "120 the oldest for 1 min 35 s" in text
    # The longest first, and a queue that nobody consumes is marked.
    assert text.index("mail 120 1 min 35 s 4 0 – –") < text.index("idle 0 – 0 1 – –")
    assert '<span class="bad">0</span>' in overview.render([(pipeline, ())], NOTHING, NOW)


def test_workers_and_a_dead_one_first(pipeline: Pipeline) -> None:
    take(pipeline, beat_of("alive@a"), beat_of("dead@b"))
    pipeline.state.roster.workers["dead@b"].seen = time.monotonic() - 600
    answered = pipeline.state.roster.answered("alive@a", time.monotonic())
    assert answered is not None
    answered.pool_size, answered.queues, answered.queues_known = 8, ("default", "mail"), True
    text = shown(pipeline).text
    assert "Down: dead@b" in text
    assert "workers up 1 of 2" in text
    assert "tasks running 3 of 8 processes" in text
    assert text.index("dead@b down 0 – 40") < text.index("alive@a up 3 8 40 1.50 5.0 s ago default, mail")


def test_the_cards_add_up_what_all_have(pipeline: Pipeline) -> None:
    lengths = {"a": Queue(20, 0, 5.0), "b": Queue(3, 0, 95.0), "unknown": Queue(None, None, None)}
    pipeline.queues.update(Snapshot(lengths))
    take(pipeline, beat_of("one@a"), beat_of("two@b", active=4))
    for name, size in (("one@a", 8), ("two@b", 2)):
        answered = pipeline.state.roster.answered(name, time.monotonic())
        assert answered is not None
        answered.pool_size = size
    text = shown(pipeline).text
    assert "workers up 2 of 2 tasks running 7 of 10 processes" in text
    assert "waiting in queues 23 the oldest for 1 min 35 s" in text
    assert "events counted 2 " in text


def test_tasks_with_their_rates_and_the_last_failures(pipeline: Pipeline) -> None:
    run(pipeline, 0)
    assert "shop.add default – 1 0 0 0.50 s" in shown(pipeline).text
    for number in range(1, 31):
        run(pipeline, number)
    run(pipeline, 31, "task-failed")
    rates = pipeline.tasks.rates
    rates._samples = tuple((at - 60, counts) for at, counts in rates._samples)
    text = shown(pipeline).text
    assert "shop.add default 31/min 31 1 0 0.50 s" in text
    assert "tasks failed 1.0/min" in text
    assert "5.0 s ago shop.add ValueError worker@one default task-failed31" in text


def test_only_the_newest_failures_are_kept(pipeline: Pipeline) -> None:
    for number in range(100):
        run(pipeline, number, "task-failed")
    newest = pipeline.state.ends.failures.newest_first()
    assert [each.id for each in newest] == [f"task-failed{99 - back}" for back in range(recent.MAX_FAILURES)]


def test_beat_and_what_is_due(pipeline: Pipeline) -> None:
    moment = datetime.fromtimestamp(NOW, UTC)
    schedules = [
        Schedule(
            name=name,
            task="posts.publish_due",
            enabled=True,
            last_run_at=moment - timedelta(seconds=ago),
            date_changed=moment,
            every=60,
            period="seconds",
        )
        for name, ago in (("punctual", 30), ("late", 400))
    ]
    beat = BeatCollector([pipeline.state], read=lambda: schedules, clock=lambda: NOW + 5)
    beat.update()
    text = shown(pipeline, beat.current()).text
    assert text.index("late posts.publish_due 6 min 45 s ago due for 5 min 45 s yes") < text.index(
        "punctual posts.publish_due 35.0 s ago in 25.0 s yes"
    )


def test_nothing_from_a_broker_becomes_markup(pipeline: Pipeline) -> None:
    run(pipeline, 1, "task-failed", name=HOSTILE, queue=HOSTILE)
    take(pipeline, beat_of(HOSTILE))
    take(
        pipeline,
        {
            "type": "task-failed",
            "uuid": HOSTILE,
            "hostname": HOSTILE,
            "exception": f"{HOSTILE}()",
            "timestamp": NOW,
        },
    )
    pipeline.queues.update(Snapshot({HOSTILE: Queue(1, 1, 1.0)}))
    pipeline.receiver.health.error = HOSTILE
    assert "<script>alert(1)" in shown(pipeline, advice=(HOSTILE,)).text
    pipeline.receiver.health.connected = False
    assert "<script>alert(1)" in shown(pipeline).text


def test_a_large_installation_has_a_page_that_can_be_read(pipeline: Pipeline) -> None:
    for number in range(600):
        take(pipeline, beat_of(f"worker@{number:04}"))
        run(pipeline, number, name=f"shop.task{number:04}")
    pipeline.queues.update(Snapshot({f"queue{number:04}": Queue(number) for number in range(600)}))
    page = shown(pipeline)
    assert "and 500 more: see the metrics" in page.text
    assert "and 400 more: see the metrics" in page.text
    assert "queue0599" in page.text


def test_rates_need_two_looks_that_are_apart() -> None:
    rates, group = recent.Rates(), Group(2, "shop.add", "default")
    before, after = [0] * len(STATES), [0] * len(STATES)
    after[STARTED] = 30
    assert rates.per_minute(100.0, {group: after}) is None
    rates.note(100.0, [(group, before)])
    assert rates.per_minute(101.0, {group: after}) is None
    found = rates.per_minute(130.0, {group: after})
    assert found is not None
    assert (found[group][STARTED], found[group][FAILED]) == (60.0, 0.0)
    # Old counts say nothing about the current rate.
    assert rates.per_minute(100.0 + recent.OLDEST_SECONDS + 1, {group: after}) is None


def test_only_the_counts_of_the_last_minute_are_remembered() -> None:
    rates, group = recent.Rates(), Group(2, "shop.add", "default")
    for second in range(1000):
        counts = [second] * len(STATES)
        rates.note(float(second), [(group, counts)])
    found = rates.per_minute(1000.0, {group: [1000] * len(STATES)})
    assert found is not None
    assert found[group][STARTED] == pytest.approx(60.0)
    assert len(rates._samples) == recent.SAMPLES


def test_without_a_connection_it_is_not_known_that_all_events_were_counted(pipeline: Pipeline) -> None:
    assert pipeline.complete()
    pipeline.receiver.health.connected = False
    assert not pipeline.complete()
