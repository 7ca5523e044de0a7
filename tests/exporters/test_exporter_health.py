"""What the receiver of events knows about its connection and its losses, without a broker."""

from types import SimpleNamespace
from typing import Any

import pytest

from exporters.broker import RedisSettings
from exporters.events.receiver import Health, Housekeeping, RedisReceiver
from exporters.events.redis import Backlog, Batch
from exporters.pipeline import Pipeline
from exporters.tables.state import EventState


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr("exporters.events.receiver.time.monotonic", lambda: now.value)
    return now


def test_a_connection_that_is_lost_is_one_incident(clock: Any) -> None:
    health = Health()
    health.down("refused")
    assert (health.disconnects, health.last_incident, health.error) == (0, None, "refused")
    clock.value = 110.0
    health.up(7)
    assert (health.connected, health.client_id, health.error, health.changed_at) == (True, 7, "", 110.0)
    clock.value = 120.0
    health.down("reset")
    clock.value = 130.0
    health.down("refused")
    assert (health.connected, health.client_id, health.error) == (False, None, "refused")
    assert (health.disconnects, health.last_incident, health.changed_at) == (1, 120.0, 120.0)


@pytest.mark.parametrize(
    ("connected", "blocked", "hears"), [(True, "", True), (True, "alarm", False), (False, "", False)]
)
def test_events_arrive_over_a_connection_that_is_not_blocked(
    connected: bool, blocked: str, hears: bool
) -> None:
    assert Health(connected=connected, blocked=blocked).hears == hears


@pytest.mark.parametrize("kind", ["dropped", "lost"])
def test_lost_events_are_an_incident_once(clock: Any, kind: str) -> None:
    state, health, backlog = EventState(), Health(), Backlog(1 << 20)
    house = Housekeeping(state, health, backlog)
    house.tidy()
    assert (health.alive_at, health.last_incident) == (100.0, None)
    if kind == "dropped":
        backlog.dropped = 3
    else:
        state.roster._lost_by_purged = 3
    clock.value = 100.5
    house.tidy()
    assert (health.alive_at, health.last_incident) == (100.5, None), "it looks once a second"
    for clock.value in (101.0, 102.0):
        house.tidy()
    assert (health.alive_at, health.last_incident) == (102.0, 101.0)


def test_frames_without_an_event_are_counted() -> None:
    state = EventState()
    source = RedisReceiver(RedisSettings({}, 0), state)
    source.count(Batch([b"{}", b"no JSON", b"[]"], 11))
    assert state.undecodable == 3


@pytest.mark.parametrize(
    ("health", "complete"),
    [
        (Health(), False),
        (Health(connected=True), True),
        (Health(connected=True, last_incident=100.0), False),
        (Health(connected=True, last_incident=40.0), False),
        (Health(connected=True, last_incident=39.9), True),
        (Health(last_incident=1.0), False),
    ],
)
def test_events_are_complete_once_a_window_passed_without_an_incident(
    clock: Any, health: Health, complete: bool
) -> None:
    pipeline: Any = SimpleNamespace(receiver=SimpleNamespace(health=health), _window=60.0)
    assert Pipeline.complete(pipeline) == complete
