"""Each metric of the event stream has its own value, and is absent while that is not known."""

import time

import pytest

from exporters.decode import typed
from exporters.events.collector import StreamCollector
from exporters.events.receiver import Health
from exporters.events.redis import Backlog, Batch
from exporters.tables.state import EventState

NOW = 1_795_000_000.0


def exposed(
    state: EventState, health: Health, backlog: Backlog, *, output: int | None, complete: bool = True
) -> dict[str, float]:
    collector = StreamCollector(
        state, health, backlog, broker="main", output_buffer=lambda: output, complete=lambda: complete
    )
    lines = (line for family in collector.collect() for line in family.lines)
    pairs = (line.rpartition(" ") for line in lines)
    return {name.removeprefix("celery_exporter_"): float(value) for name, _, value in pairs}


def test_each_metric_of_the_stream_has_its_own_value() -> None:
    state, backlog = EventState(), Backlog(limit=1000)
    heartbeat = {"type": "worker-heartbeat", "hostname": "w@h", "pid": 1, "freq": 2, "timestamp": NOW}
    task = {
        "type": "task-sent",
        "hostname": "web",
        "uuid": "1",
        "name": "add",
        "queue": "q",
        "timestamp": NOW,
    }
    events = [typed(each) for each in (heartbeat, heartbeat, task)]
    state.take(events, time.monotonic(), NOW)
    # It replies to inspect and has sent no heartbeat, so what it started is not known.
    state.roster.answered("quiet@h", time.monotonic())
    state.note_lag(events, NOW + 3)
    state.undecodable, state.ends.repeated, state.tasks.evicted = 4, 5, 6
    for number, limit in enumerate(state.budget.turned_away, 10):
        state.budget.turned_away[limit] = number
    backlog.add(Batch([b"x"], 800))
    backlog.add(Batch([b"x"] * 7, 800))
    found = exposed(state, Health(connected=True, disconnects=8), backlog, output=9)
    assert found.pop("series") == state.series > 0
    lost = {name: value for name, value in found.items() if name.startswith("events_lost")}
    assert len(lost) == 1
    assert 'hostname="w@h"' in next(iter(lost))
    assert {name: value for name, value in found.items() if name not in lost} == {
        'broker_up{broker="main"}': 1,
        "events_complete": 1,
        'events_total{type="task-sent"}': 1,
        'events_total{type="worker-heartbeat"}': 2,
        "events_dropped_total": 7,
        "events_undecodable_total": 4,
        "disconnects_total": 8,
        "events_repeated_total": 5,
        "tasks_evicted_total": 6,
        'series_capped_total{limit="names"}': 10,
        'series_capped_total{limit="hosts"}': 11,
        'series_capped_total{limit="exceptions"}': 12,
        'series_capped_total{limit="workers"}': 13,
        "event_lag_seconds": 3,
        "backlog_bytes": 800,
        "output_buffer_bytes": 9,
        "tasks_in_flight": 1,
        "waiting_tasks_sampled_ratio": 1,
    }


@pytest.mark.parametrize(
    ("health", "up"),
    [
        (Health(connected=True), 1),
        (Health(connected=True, blocked="memory alarm"), 0),
        (Health(), 0),
    ],
)
def test_a_broker_is_up_if_it_is_connected_and_accepts_messages(health: Health, up: int) -> None:
    found = exposed(EventState(), health, Backlog(1), output=None, complete=False)
    assert found['broker_up{broker="main"}'] == up
    assert found["events_complete"] == 0
    assert "output_buffer_bytes" not in found
