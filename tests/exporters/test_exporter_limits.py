"""The small tables of the exporter at their limits, each alone."""

import random
import time
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from exporters.backoff import delays
from exporters.exposition.families import OVERFLOW
from exporters.tables import beat_senders
from exporters.tables.beat_senders import BeatSenders
from exporters.tables.budget import Budget
from exporters.tables.connection import Connection
from exporters.tables.entry import BETWEEN, KEY_MASK
from exporters.tables.eta import EtaTable
from exporters.tables.exceptions import exception_class
from exporters.tables.expiry import ETA_SECONDS, GENERATION_SECONDS, Expiry
from exporters.tables.groups import MAX_EXCEPTIONS, STATES, Group, histogram_series
from exporters.tables.held import LONGEST_ID, Adoption, HeldTask
from exporters.tables.histogram import LONGEST
from exporters.tables.host_series import HostSeries
from exporters.tables.recent import MAX_FAILURES, MIN_SECONDS, OLDEST_SECONDS, SAMPLE_SECONDS, Failures, Rates

BOUNDS = (1.0, 10.0)


def test_a_budget_may_be_used_to_its_last_series() -> None:
    budget = Budget(10)
    assert budget.take(10)
    assert not budget.take(1)
    assert (budget.used, budget.turned_away["hosts"], budget.capped) == (10, 1, 1)
    budget.give_back(4)
    assert budget.take(4)
    budget.turn_away("names")
    assert (budget.used, budget.capped) == (10, 2)


class Passing:
    """Notes which tasks are forgotten."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def age(self) -> None:
        self.calls.append("age")

    def forget_before(self, epoch: float) -> None:
        self.calls.append(epoch)


def test_old_tasks_are_forgotten_once_in_each_interval() -> None:
    tasks: Any = Passing()
    eta = EtaTable(limit=9, epoch=0.0)
    eta.wait("a", Group(2, "shop.add", "default"), 50.0)
    expiry = Expiry(tasks, eta)
    expiry.forget(ETA_SECONDS, 100.0)
    assert "a" in eta.entries, "not due to be looked at yet"
    expiry.forget(ETA_SECONDS + 1, 49.0)
    assert "a" in eta.entries, "its time has not come"
    expiry.forget(2 * ETA_SECONDS + 1, 100.0)
    assert "a" in eta.entries, "looked at a minute ago"
    expiry.forget(2 * ETA_SECONDS + 2, 50.0)
    assert eta.entries == {}
    began = ETA_SECONDS
    expiry.forget(began + GENERATION_SECONDS, 5.0)
    assert tasks.calls == []
    expiry.forget(began + GENERATION_SECONDS + 1, GENERATION_SECONDS + 7.0)
    assert tasks.calls == ["age", 7.0]
    expiry.forget(began + 2 * GENERATION_SECONDS, 5.0)
    assert len(tasks.calls) == 2, "the next generation has just begun"


@pytest.fixture
def group() -> Group:
    return Group(2, "shop.add", "default")


def host_series(limit: int) -> tuple[HostSeries, Budget]:
    budget = Budget(limit)
    return HostSeries(budget, runtime_buckets=BOUNDS, wait_buckets=BOUNDS), budget


def track_of(group: Group) -> Any:
    return SimpleNamespace(group=group, runtime=None, wait=None, series=0, exceptions={})


def test_a_wait_is_counted_in_its_bucket_within_bounds(group: Group) -> None:
    series, _ = host_series(100)
    track = track_of(group)
    for waited in (-5.0, 0.0, 1.0, 1.5, 10.0, 11.0, LONGEST, LONGEST + 1):
        series.observe_wait(track, waited)
    assert list(track.wait.counts) == [3, 2, 1]
    assert track.wait.total == 23.5, "a clock that is ahead counts as no wait, and an absurd wait not at all"
    assert track.series == histogram_series(BOUNDS)


def test_beyond_the_budget_the_rest_counts(group: Group) -> None:
    series, budget = host_series(histogram_series(BOUNDS) + 1)
    track = track_of(group)
    first = series.runtime_histogram(track)
    assert first is track.runtime
    series.count_exception(track, "ValueError")
    series.observe_wait(track, 2.0)
    series.count_exception(track, "KeyError")
    series.count_exception(track, "ValueError")
    assert track.exceptions == {"ValueError": 2}
    assert track.wait is None
    assert group.rest.exceptions == {"KeyError": 1}
    assert group.rest.wait is not None
    assert list(group.rest.wait.counts) == [0, 1, 0]
    assert (track.series, budget.turned_away["hosts"]) == (histogram_series(BOUNDS) + 1, 2)


def test_a_track_has_a_limited_number_of_exceptions(group: Group) -> None:
    series, budget = host_series(1000)
    track = track_of(group)
    for number in range(MAX_EXCEPTIONS + 2):
        series.count_exception(track, f"Error{number}")
    series.count_exception(track, "Error0")
    assert track.exceptions[OVERFLOW] == 2
    assert track.exceptions["Error0"] == 2
    assert len(track.exceptions) == MAX_EXCEPTIONS + 1
    assert budget.turned_away["exceptions"] == 2


class Tasks:
    """The join by ID."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.waiting = SimpleNamespace(find=lambda key: key in self.known["waiting"])
        self.ends = SimpleNamespace(group=lambda key: 1 if key in self.known["ends"] else None)
        self.known: dict[str, set[int]] = {"held": set(), "waiting": set(), "ends": set()}

    def find(self, key: int) -> bool:
        return key in self.known["held"]

    def hold(self, key: int, entry: int) -> None:
        self.held[key] = entry


def adoption(tasks: Any, group: Group) -> tuple[Adoption, EtaTable]:
    guessed = Group(3, "shop.add", "unknown")
    groups: Any = SimpleNamespace(get=lambda *_: group, guess=lambda _: guessed, now=5.0)
    eta = EtaTable(limit=9, epoch=0.0)
    return Adoption(groups, tasks, eta, float), eta


@pytest.mark.parametrize("where", ["held", "waiting", "ends"])
def test_a_task_that_is_known_is_not_adopted(group: Group, where: str) -> None:
    tasks = Tasks()
    tasks.known[where] = {hash("a") & KEY_MASK}
    adopted, _ = adoption(tasks, group)
    adopted.add([HeldTask("a", "shop.add", "default"), HeldTask("b", "shop.add", "default")])
    adopted.complete()
    assert tasks.held.keys() == {hash("b") & KEY_MASK}


def test_ids_and_etas_that_cannot_be_are_left_out(group: Group) -> None:
    tasks = Tasks()
    adopted, eta = adoption(tasks, group)
    for uuid in ("", "x" * (LONGEST_ID + 1)):
        adopted.add([HeldTask(uuid, "shop.add", "default")])
    adopted.complete()
    assert tasks.held == {}
    adopted.add(
        [
            HeldTask("x" * LONGEST_ID, "shop.add", "default", "77"),
            HeldTask("odd", "shop.add", None, "tomorrow"),
            HeldTask("last", "shop.add", None),
        ]
    )
    adopted.complete()
    assert [*eta.entries] == ["x" * LONGEST_ID]
    assert [*tasks.held.values()] == [2 | BETWEEN, 3 | BETWEEN, 3 | BETWEEN]
    assert group.used == 5.0


def test_beat_is_the_client_that_sends_only_scheduled_tasks() -> None:
    senders = BeatSenders()
    senders.sent("beat", "clean", 1.0)
    assert senders.last_sent() == {}, "no schedule is known"
    senders.names = frozenset({"clean", "report"})
    assert senders.last_sent() == {"clean": 1.0}
    senders.sent("beat", "report", 3.0)
    senders.sent("second beat", "clean", 2.0)
    senders.sent("web", "clean", 9.0)
    senders.sent("web", "mail", 9.0)
    assert senders.last_sent() == {"clean": 2.0, "report": 3.0}


def test_forgotten_clients_keep_what_they_sent_as_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_senders, "MAX_CLIENTS", 2)
    senders = BeatSenders()
    senders.names = frozenset({"clean"})
    senders.sent("old beat", "clean", 5.0)
    senders.sent("web", "mail", 6.0)
    senders.sent("new beat", "other", 7.0)
    assert senders.last_sent() == {"clean": 5.0}
    senders.sent("web", "clean", 8.0)
    assert senders.last_sent() == {"clean": 5.0}, "web was not the oldest, so it is still known as web"


def test_a_client_keeps_only_some_of_its_other_tasks() -> None:
    senders = BeatSenders()
    for number in range(beat_senders.MAX_UNSCHEDULED + 3):
        senders.sent("beat", f"task{number}", 1.0)
    senders.sent("beat", "task0", 9.0)
    senders.names = frozenset(f"task{number}" for number in range(beat_senders.MAX_UNSCHEDULED + 3))
    found = senders.last_sent()
    assert len(found) == beat_senders.MAX_UNSCHEDULED
    assert found["task0"] == 9.0


def worker(seen: float | None, *, offline: bool = False) -> Any:
    return SimpleNamespace(seen=seen, heard=0.0, offline=offline)


def test_the_clock_of_workers_stands_while_nothing_can_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    workers = {
        "a": worker(70.0),
        "b": worker(90.0),
        "never": worker(None),
        "gone": worker(60.0, offline=True),
    }
    host: Any = SimpleNamespace(heard=0.0)
    connection = Connection(workers, {"web": host})
    assert connection.observed_at() == 100.0
    connection.lost()
    now[0] = 200.0
    connection.lost()
    assert connection.observed_at() == 100.0, "the first loss counts"
    connection.blocked()
    assert connection.observed_at() == 100.0
    connection.restored()
    assert connection.observed_at() == 200.0
    assert [each.seen for each in workers.values()] == [200.0, 200.0, None, 60.0]
    assert ({each.heard for each in workers.values()}, host.heard) == ({200.0}, 200.0)
    now[0] = 300.0
    connection.blocked()
    assert connection.observed_at() == 200.0, "the newest heartbeat"
    alone = Connection({"never": worker(None)}, {})
    alone.blocked()
    now[0] = 400.0
    assert alone.observed_at() == 300.0


@pytest.mark.parametrize(
    ("text", "traceback", "name"),
    [
        ("ValueError('no')", None, "ValueError"),
        ("<shop.errors.OutOfStock: 3>", None, "OutOfStock"),
        ("ExceptionInfo(x)", "Traceback:\n  File\nshop.Missing: x\n", "Missing"),
        ("ExceptionInfo(x)", "Traceback:\n  File\nRemoteTraceback: x\n", "ExceptionInfo"),
        ("ExceptionInfo(x)", None, "ExceptionInfo"),
        ("reject requeue=True", None, "Reject"),
        (None, "Traceback:\n  File\nKeyError\n\n  end", "KeyError"),
        (None, None, "UnknownException"),
        (7, "", "UnknownException"),
    ],
)
def test_the_class_of_an_exception(text: Any, traceback: Any, name: str) -> None:
    assert exception_class(text, traceback) == name


def test_waits_between_attempts_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    assert list(islice(delays(), 7)) == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert list(islice(delays(1.0, 3.0), 3)) == [1.0, 2.0, 3.0]
    assert set(asked) == {(0.5, 1.0)}


def test_rates_are_those_since_the_oldest_usable_counts(group: Group) -> None:
    rates = Rates()
    counts = [(0,) * len(STATES), (3,) * len(STATES), (9,) * len(STATES)]
    assert rates.per_minute(0.0, {group: counts[1]}) is None
    rates.note(0.0, [(group, counts[0])])
    rates.note(SAMPLE_SECONDS - 1, [(group, counts[2])])
    assert rates.per_minute(MIN_SECONDS - 0.5, {group: counts[1]}) is None, "a moment ago"
    assert rates.per_minute(MIN_SECONDS, {group: counts[1]}) == {group: [90.0] * len(STATES)}
    rates.note(SAMPLE_SECONDS, [(group, counts[1])])
    assert rates.per_minute(60.0, {group: counts[2]}) == {group: [9.0] * len(STATES)}
    assert rates.per_minute(OLDEST_SECONDS, {group: counts[2]}) == {
        group: [9 * 60 / OLDEST_SECONDS] * len(STATES)
    }
    assert rates.per_minute(OLDEST_SECONDS + SAMPLE_SECONDS, {group: counts[2]}) == {
        group: [6 * 60 / OLDEST_SECONDS] * len(STATES)
    }
    assert rates.per_minute(OLDEST_SECONDS + SAMPLE_SECONDS + 1, {group: counts[2]}) is None
    new = Group(3, "shop.mail", "default")
    assert rates.per_minute(60.0, {new: counts[1]}) == {new: [3.0] * len(STATES)}, "it had none before"
    assert rates.per_minute(60.0, {group: counts[0]}) == {group: [0.0] * len(STATES)}


def test_only_the_newest_failures_are_kept(group: Group) -> None:
    failures = Failures()
    for number in range(MAX_FAILURES + 1):
        failures.add(float(number), group, "ValueError", "worker@one", f"{number}" * 100)
    found = failures.newest_first()
    assert [each.at for each in found] == [float(MAX_FAILURES - place) for place in range(MAX_FAILURES)]
    assert (found[0].task, found[0].queue, len(found[0].id)) == ("shop.add", "default", 64)
