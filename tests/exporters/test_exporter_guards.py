"""Guards of the exporter that need two brokers or workers, or a time that no test can wait for."""

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from exporters.decode import typed
from exporters.events.redis import DEAD_AFTER, PING_AFTER, Backlog, Batch, Subscription
from exporters.events.sockets import DisconnectedError
from exporters.queues import unacked
from exporters.queues.unacked import MAX_TAGS, NEW_TAGS_A_ROUND, Unacked
from exporters.tables.budget import Budget, Limits
from exporters.tables.collectors import Collector, TaskCollector, WorkerCollector
from exporters.tables.early import MAX_TASKS, PATIENCE, AwaitSent, EarlyEvents
from exporters.tables.eta import EtaTable
from exporters.tables.groups import TRACK_SERIES, Group
from exporters.tables.inflight import InFlight
from exporters.tables.state import EventState
from exporters.tables.workers import Ledger, Liveness
from tests.exporters.test_exporter_tables import NOW, counts, event, received, sent, take


def test_each_frame_that_is_turned_away_is_counted() -> None:
    backlog = Backlog(100)
    backlog.add(Batch([b"x" * 50, b"x" * 50], 100))
    backlog.add(Batch([b"x"] * 5, 5))
    backlog.add(Batch([b"x"] * 3, 3))
    assert (backlog.dropped, len(backlog), backlog.bytes, backlog.peak) == (8, 1, 100, 100)
    backlog.take()
    backlog.add(Batch([b"x"] * 5, 5))
    assert (backlog.dropped, backlog.bytes) == (8, 5)


class Socket:
    """A connection that swallows everything."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def wait(self, _: float) -> bool:
        return False

    def send(self, data: bytes) -> None:
        self.sent.append(data)


def test_a_silent_connection_is_asked_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    silent = Subscription.__new__(Subscription)
    silent._socket = socket = Socket()  # type: ignore[assignment]
    silent._heard = silent._asked = now[0]
    for passed, asked in ((1.0, 0), (PING_AFTER + 0.1, 1), (PING_AFTER + 1, 1), (DEAD_AFTER, 2)):
        now[0] = 1_000.0 + passed
        silent.wait(0.1)
        assert len(socket.sent) == asked, passed
    assert b"PING" in socket.sent[0]
    now[0] = 1_000.0 + DEAD_AFTER + 0.1
    with pytest.raises(DisconnectedError, match="silent for 15 s"):
        silent.wait(0.1)


def test_unacknowledged_messages_beyond_the_tags_are_counted_under_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = json.dumps([{"headers": {"task": "shop.add"}}, "", "mail"]).encode()
    total, tags = MAX_TAGS + 500, [b"tag%d" % number for number in range(MAX_TAGS)]
    settings: Any = SimpleNamespace(global_prefix="", unacked_index="unacked_index", unacked="unacked")
    bindings: Any = SimpleNamespace(routes={})
    client: Any = None
    looking = Unacked(client, settings, bindings, lambda headers, queue: None, lambda reason: None)

    def pipelined(_: Any, commands: Any) -> list[Any]:
        answers: dict[str, Any] = {"ZCARD": total, "ZRANGE": tags}
        # In each round, one message that does not name its queue.
        return [answers.get(one[0], [b"odd", *[message] * (len(one) - 3)]) for one in commands]

    monkeypatch.setattr(unacked, "pipelined", pipelined)
    found = looking.counts()
    assert found == {"mail": NEW_TAGS_A_ROUND - 1, "unknown": total - NEW_TAGS_A_ROUND + 1}
    for _ in range(MAX_TAGS // NEW_TAGS_A_ROUND):
        found = looking.counts()
    rounds = MAX_TAGS // NEW_TAGS_A_ROUND
    assert found == {"mail": MAX_TAGS - rounds, "unknown": 500 + rounds}


def heartbeat(node: str, **fields: Any) -> dict[str, Any]:
    return event("worker-heartbeat", hostname=node, processed=0, active=0, **fields)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [50_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_workers_get_their_whole_timeout_after_a_reconnection(clock: list[float]) -> None:
    state = EventState(liveness=Liveness(timeout=5, purge=600))
    take(state, heartbeat("live@h"), heartbeat("gone@h"), received=clock[0])
    take(state, event("worker-offline", hostname="gone@h", active=0), received=clock[0])
    state.roster.connection.lost()
    clock[0] += 60
    assert [worker.node for worker in state.roster.alive()] == ["live@h"]
    state.roster.connection.restored()
    clock[0] += 4
    assert [worker.node for worker in state.roster.alive()] == ["live@h"]
    clock[0] += 2
    assert state.roster.alive() == []


def test_the_series_of_workers_that_come_and_go_are_given_back() -> None:
    """Kubernetes gives each pod a new name."""
    state = EventState(limits=Limits(series=100, workers=9), liveness=Liveness(timeout=5, purge=60))
    for hour in range(50):
        node, at = f"pod-{hour}@h", hour * 3600.0
        take(state, heartbeat(node), received(str(hour), hostname=node), received=at)
        assert state.roster.workers[node].host.label == node, hour
        state.purge(at + 3_599.0)
        assert not state.roster.workers
    assert (state.budget.used, state.budget.capped) == (0, 0)
    assert sum(sum(group.total().counts) for group in state.groups) == 50
    assert [group.tracks for group in state.groups if group.tracks] == []


def test_lost_starts_of_forgotten_workers_stay_counted() -> None:
    state = EventState(liveness=Liveness(timeout=5, purge=60))
    for at, processed in ((0.0, 0), (2.0, 7), (4.0, 7), (6.0, 7)):
        one = {
            "type": "worker-heartbeat",
            "hostname": "w@h",
            "processed": processed,
            "active": 0,
            "timestamp": 1e9 + at,
        }
        take(state, one, received=at)
    assert state.roster.lost == 7
    state.purge(time.monotonic() + 1e6)
    assert not state.roster.workers
    assert state.roster.lost == 7


def ended(state: EventState, *events: Any) -> dict[str, int]:
    take(state, sent(), received(), event("task-started"), *events)
    return {name: count for name, count in counts(state, "shop.add", "default").items() if count}


BEGUN = {"sent": 1, "received": 1, "started": 1}


def test_an_end_that_is_reported_twice_counts_once() -> None:
    """Celery 5.7 reports a hard time limit twice."""
    state = EventState()
    failure = event("task-failed", exception="TimeLimitExceeded(2)", traceback="")
    assert ended(state, failure, failure) == {**BEGUN, "failed": 1}
    assert state.ends.repeated == 1


@pytest.mark.parametrize(
    ("more", "state"),
    [
        (event("task-rejected", requeue=False), "rejected"),
        (event("task-rejected", requeue=True), "requeued"),
        (event("task-retried", exception="ValueError()"), "retried"),
        (event("task-succeeded", runtime=1.5), "succeeded"),
    ],
)
def test_each_end_counts_under_its_state(more: dict[str, Any], state: str) -> None:
    assert ended(EventState(), more) == {**BEGUN, state: 1}


@pytest.mark.parametrize(
    ("fields", "reasons"),
    [
        ({"expired": True, "terminated": False}, [1, 0, 0]),
        ({"expired": False, "terminated": True}, [0, 1, 0]),
        ({"expired": False, "terminated": False}, [0, 0, 1]),
    ],
)
def test_why_a_task_was_revoked(fields: dict[str, Any], reasons: list[int]) -> None:
    state = EventState()
    assert ended(state, event("task-revoked", signum=None, **fields)) == {**BEGUN, "revoked": 1}
    [group] = [one for one in state.groups if one.name == "shop.add"]
    assert group.reasons == reasons


def test_run_times_are_counted_and_added_up() -> None:
    state = EventState()
    for number, seconds in enumerate((1.5, 0.25, -1.0, None)):
        uuid = f"u{number}"
        take(
            state,
            sent(uuid),
            received(uuid),
            event("task-started", uuid),
            event("task-succeeded", uuid, runtime=seconds),
        )
    [group] = [one for one in state.groups if one.name == "shop.add"]
    runtime = group.total().runtime
    assert runtime is not None
    assert (sum(runtime.counts), runtime.total) == (2, 1.75)


def test_a_task_with_an_eta_that_is_revoked_waits_no_longer() -> None:
    state = EventState()
    take(state, sent(eta="2099-01-01T00:00:00+00:00"), received(eta="2099-01-01T00:00:00+00:00"))
    assert len(state.eta.entries) == 1
    take(state, event("task-revoked", expired=False, terminated=False, signum=None))
    assert len(state.eta.entries) == 0


def test_each_series_that_is_turned_away_is_counted() -> None:
    budget = Budget(10)
    assert [budget.take(number) for number in (6, 4, 1)] == [True, True, False]
    assert (budget.used, budget.capped) == (10, 1)
    budget.give_back(4)
    assert budget.take(3)
    assert budget.turned_away["hosts"] == 1


def ledger(*steps: tuple[str, float, int]) -> Ledger:
    """Starts by their time, and heartbeats with the number that the worker counts; all of one process."""
    made = Ledger()
    for kind, at, processed in steps:
        if kind == "start":
            made.started(at, 1)
        else:
            made.heartbeat(1, processed, at)
    return made


def test_a_start_that_is_announced_after_its_heartbeat_is_not_lost() -> None:
    late = (("beat", 0.0, 0), ("beat", 2.0, 1), ("start", 2.1, 0), ("beat", 4.0, 1), ("beat", 6.0, 1))
    assert ledger(*late).lost == 0
    never = (("beat", 0.0, 0), ("beat", 2.0, 1), ("beat", 4.0, 1), ("beat", 6.0, 1))
    assert ledger(*never).lost == 1


def test_the_starts_of_a_restarted_process_with_the_same_pid_are_its_own() -> None:
    before = (("beat", 0.0, 0), *(("start", 1.0, 0),) * 5, ("beat", 2.0, 5))
    after = (("start", 2.5, 0), ("start", 2.6, 0), ("beat", 4.0, 2), ("beat", 6.0, 2), ("beat", 8.0, 2))
    assert ledger(*before, *after).lost == 0


def test_a_worker_that_shuts_down_is_up_until_its_last_task_has_ended(clock: list[float]) -> None:
    state = EventState()
    take(state, heartbeat("w@h"), received=clock[0])
    for uuid in ("a", "b"):
        take(state, sent(uuid), received(uuid), event("task-started", uuid), received=clock[0])
    take(state, event("worker-offline", active=2), received=clock[0])
    for uuid, alive in (("a", ["w@h"]), ("b", [])):
        take(state, event("task-succeeded", uuid, runtime=1.0), received=clock[0])
        assert [worker.node for worker in state.roster.alive()] == alive
    assert state.roster.shown() == []


def test_workers_beyond_the_limit_are_counted() -> None:
    state = EventState(limits=Limits(workers=2))
    take(state, *(heartbeat(f"w{number}@h") for number in range(4)))
    assert len(state.roster.workers) == 2
    assert state.budget.turned_away["workers"] == 2


def test_the_names_that_were_idle_longest_make_room_and_give_their_series_back() -> None:
    state = EventState(limits=Limits(names=32))
    for number in range(32):
        take(state, sent(str(number), name=f"n{number}"), received=float(number))
    take(state, sent("again", name="n0"), sent("new", name="new"), received=100.0)
    left = {group.name for group in state.groups} - {"other"}
    assert left == {"new", "n0", *(f"n{number}" for number in range(3, 32))}
    assert state.budget.used == TRACK_SERIES * sum(len(group.tracks) for group in state.groups)
    assert state.budget.turned_away["names"] == 2


def test_tasks_that_never_end_are_counted_when_they_are_forgotten() -> None:
    held = InFlight(2, 1e9)
    for key in range(1, 6):
        held.hold(key, key)
    assert (held.evicted, sorted(held.old), sorted(held.held)) == (2, [3, 4], [5])


def test_a_task_that_is_delivered_again_while_it_runs_is_two_executions() -> None:
    state = EventState()
    take(state, sent(), received(), event("task-started"), received(), event("task-started"))
    [group] = [one for one in state.groups if one.name == "shop.add"]
    assert group.duplicates == 1
    take(state, event("task-succeeded", runtime=1.0))
    assert len(state.tasks) == 1
    take(state, event("task-succeeded", runtime=1.0))
    assert len(state.tasks) == 0
    assert counts(state, "shop.add", "default")["succeeded"] == 2


def test_since_when_a_task_waits() -> None:
    state = EventState()
    take(state, sent(timestamp=NOW - 100))
    assert state.tasks.due("u1") == pytest.approx(NOW - 100, abs=0.001)
    assert state.tasks.due("never heard of") is None


def test_starts_that_are_announced_are_not_lost() -> None:
    state = EventState()
    for step in range(4):
        beat = {
            "type": "worker-heartbeat",
            "hostname": "w@h",
            "processed": step,
            "active": 0,
            "timestamp": NOW + 2 * step,
        }
        take(state, beat)
        take(
            state,
            sent(str(step)),
            received(str(step)),
            event("task-started", str(step), timestamp=NOW + 2 * step + 1),
        )
    assert state.roster.lost == 0


def test_events_that_may_wait_for_their_sending_are_few() -> None:
    """A sender that never reports a task, or a flood of tasks, must not fill the memory."""
    early = EarlyEvents()
    early.listen()

    def waits(key: int, name: str) -> bool:
        try:
            early.await_sent(key, typed({"type": "task-received", "uuid": str(key), "name": name}), 100.0)
        except AwaitSent:
            return True
        return False

    assert all(waits(key, "shop.add") for key in range(MAX_TASKS))
    assert not waits(MAX_TASKS, "shop.add")
    assert early.overdue(100.0 + PATIENCE) == []
    assert len(early.overdue(100.1 + PATIENCE)) == MAX_TASKS
    assert not waits(1, "shop.add"), "no task-sent came for this task"
    assert waits(2, "shop.pay")
    early.sent("shop.add")
    assert waits(3, "shop.add")


def test_a_task_that_is_due_does_not_wait() -> None:
    table, group = EtaTable(limit=1, epoch=100.0), Group(2, "shop.add", "default")
    table.wait("a", group, 100.5)
    table.wait("b", group, 100.5)
    assert list(table.entries) == ["a"], "at its limit"
    table.epoch = 100.5
    table.wait("a", group, 100.5)
    assert table.entries == {}


def lines_of(collector: Collector, name: str) -> list[str]:
    """The lines of a family, as exposed."""
    return [line for family in collector.collect() if family.name == name for line in family.lines]


def test_a_refused_message_that_returns_to_its_queue_is_rejected_by_its_worker() -> None:
    state = EventState()
    for uuid, requeue in (("a", False), ("b", True)):
        take(state, sent(uuid), received(uuid), event("task-rejected", uuid, requeue=requeue))
    [line] = lines_of(TaskCollector(state), "celery_task_rejected")
    assert line.endswith(" 2")


def test_a_dead_worker_processes_nothing(clock: list[float]) -> None:
    state = EventState(liveness=Liveness(timeout=5, purge=600))
    busy = {**heartbeat("w@h"), "active": 3}
    take(state, busy, received=clock[0])
    [line] = lines_of(WorkerCollector(state), "celery_worker_tasks_active")
    assert line.endswith(" 3")
    clock[0] += 60
    [line] = lines_of(WorkerCollector(state), "celery_worker_tasks_active")
    assert line.endswith(" 0")


def test_what_a_scrape_has_shown_is_not_counted_again_when_its_name_is_evicted() -> None:
    state = EventState(limits=Limits(names=1))
    take(state, sent("a"), sent("b"))
    list(TaskCollector(state).collect())
    take(state, sent("c"), sent("d", name="other.task"))
    assert counts(state, "other", "other")["sent"] == 1, "only what came after the scrape"


def test_a_task_with_the_name_of_the_overflow_shares_its_series() -> None:
    state = EventState()
    take(state, sent("a", name="other", queue="other"))
    names = [(group.name, group.queue) for group in state.groups]
    assert names.count(("other", "other")) == 1
    assert state.groups.overflow.is_used


def test_tasks_that_have_not_run_take_at_most_half_of_the_names() -> None:
    groups = EventState(limits=Limits(names=8)).groups
    for number in range(8):
        groups.add_known(f"task{number}", ["default"])
    assert len(groups) == 4
