"""One ID is not one execution: replaced, retried, redelivered and repeated ends, and sums that no limit touches."""

import time
from typing import Any

import pytest

from exporters.decode import typed
from exporters.exposition.page import render
from exporters.inspect import held_task
from exporters.tables.budget import Limits
from exporters.tables.collectors import TaskCollector, WorkerCollector
from exporters.tables.exceptions import exception_class
from exporters.tables.groups import STATES
from exporters.tables.held import HeldTask
from exporters.tables.state import EventState
from exporters.tables.workers import Liveness
from tests.exporters.exporterkit import Scraped

NOW = 1_795_000_000.0


def event(kind: str, uuid: str = "u1", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": uuid, "hostname": "w@h", "timestamp": NOW, **fields}


def sent(
    uuid: str = "u1", name: str = "shop.add", queue: str | None = "default", **fields: Any
) -> dict[str, Any]:
    return event("task-sent", uuid, name=name, queue=queue, **{"hostname": "gen7@web", "eta": None, **fields})


def received(uuid: str = "u1", name: str = "shop.add", **fields: Any) -> dict[str, Any]:
    return event("task-received", uuid, name=name, **{"eta": None, **fields})


def started(uuid: str = "u1", **fields: Any) -> dict[str, Any]:
    return event("task-started", uuid, **fields)


def succeeded(uuid: str = "u1", **fields: Any) -> dict[str, Any]:
    return event("task-succeeded", uuid, runtime=0.1, **fields)


def take(state: EventState, *events: Any, at: float | None = None) -> None:
    state.take([typed(one) for one in events], time.monotonic() if at is None else at, NOW)


def counts(state: EventState, name: str) -> dict[str, int]:
    """The states of a task that are not 0, over all queues."""
    totals = [group.total().counts for group in state.groups if group.name == name]
    sums = [sum(column) for column in zip(*totals, strict=True)] if totals else [0] * len(STATES)
    return {key: count for key, count in zip(STATES, sums, strict=True) if count}


def exceptions(state: EventState, name: str) -> dict[str, int]:
    return {
        key: n for group in state.groups if group.name == name for key, n in group.total().exceptions.items()
    }


def named(state: EventState, name: str, queue: str | None = None) -> float:
    """Successes that are exposed under names with this prefix."""
    lines = render(TaskCollector(state, per_host=False).collect()).decode().splitlines(keepends=True)
    # Of thousands of names, the whole page takes seconds to parse.
    counted = "".join(line for line in lines if line.startswith("celery_tasks_total{"))
    return sum(
        sample.value
        for sample in Scraped(counted).samples
        if sample.labels["state"] == "succeeded"
        and sample.labels["task"].startswith(name)
        and (queue is None or sample.labels["queue"] == queue)
    )


def run(state: EventState, uuid: str, name: str, queue: str | None, host: str) -> None:
    take(
        state,
        sent(uuid, name, queue),
        *(dict(one, hostname=host) for one in (received(uuid, name), started(uuid), succeeded(uuid))),
    )


@pytest.mark.parametrize("with_sent", [True, False])
def test_a_replaced_task_counts_under_its_own_name(with_sent: bool) -> None:
    state = EventState()
    for n in range(5):
        events = [
            sent(f"u{n}", "dispatch"),
            received(f"u{n}", "dispatch"),
            started(f"u{n}"),
            sent(f"u{n}", "charge"),
            received(f"u{n}", "charge"),
            started(f"u{n}"),
            event("task-failed", f"u{n}", exception="KeyError('x')"),
        ]
        take(state, *(one for one in events if with_sent or one["type"] != "task-sent"))
    asked = {"sent": 5} if with_sent else {}
    assert counts(state, "dispatch") == {**asked, "received": 5, "started": 5}
    assert counts(state, "charge") == {**asked, "received": 5, "started": 5, "failed": 5}
    assert exceptions(state, "charge") == {"KeyError": 5}
    assert not len(state.tasks)


def test_the_start_of_a_replaced_task_may_come_late() -> None:
    state = EventState()
    take(
        state,
        sent(name="dispatch"),
        received(name="dispatch"),
        sent(name="charge"),
        received(name="charge"),
        started(),
        started(),
        succeeded(),
    )
    assert counts(state, "dispatch") == {"sent": 1, "received": 1, "started": 1}
    assert counts(state, "charge") == {"sent": 1, "received": 1, "started": 1, "succeeded": 1}


def test_a_task_that_is_redelivered_while_it_runs_keeps_its_name_and_shows() -> None:
    state = EventState()
    take(state, sent(), received(), started(), received(), started(), succeeded(), succeeded())
    assert counts(state, "shop.add") == {"sent": 1, "received": 2, "started": 2, "succeeded": 2}
    assert counts(state, "unknown") == {}
    page = Scraped(render(TaskCollector(state).collect()).decode())
    assert page.get("celery_task_duplicate_starts_total", task="shop.add") == 1
    assert not len(state.tasks)


def test_endless_redelivery_never_loses_the_name() -> None:
    state = EventState()
    take(state, sent(), received(), started())
    for _ in range(30):
        take(state, received(), started(), succeeded())
    assert counts(state, "shop.add") == {"sent": 1, "received": 31, "started": 31, "succeeded": 30}
    assert counts(state, "unknown") == {}


def test_a_retry_is_not_a_duplicate() -> None:
    state = EventState()
    take(
        state,
        sent(),
        received(),
        started(),
        sent(retries=1),
        received(),
        event("task-retried", exception="Retry()"),
        started(),
        event("task-failed", exception="MaxRetriesExceededError('x')"),
    )
    assert counts(state, "shop.add") == {"sent": 2, "received": 2, "started": 2, "failed": 1, "retried": 1}
    (group,) = list(state.groups)
    assert group.duplicates == 0
    assert not len(state.tasks)


@pytest.mark.parametrize("with_sent", [True, False])
def test_a_retry_that_starts_before_task_retried_is_not_a_duplicate(with_sent: bool) -> None:
    """As gevent workers send it."""
    state = EventState()
    first = [sent()] if with_sent else []
    second = [sent(retries=1)] if with_sent else []
    take(state, *first, received(), started(), *second, received(retries=1), started())
    take(state, event("task-retried"), event("task-failed", exception="ConnectionError('later')"))
    assert counts(state, "shop.add") == {
        **({"sent": 2} if with_sent else {}),
        "received": 2,
        "started": 2,
        "retried": 1,
        "failed": 1,
    }
    assert sum(group.duplicates for group in state.groups) == 0
    assert not len(state.tasks)


def test_an_attempt_that_is_redelivered_while_it_runs_is_a_duplicate() -> None:
    state = EventState()
    take(state, sent(), received(), started(), sent(retries=1), received(retries=1), event("task-retried"))
    take(state, started(), received(retries=1), started(), succeeded(), succeeded())
    assert state.groups.get("shop.add", "default").duplicates == 1
    assert counts(state, "shop.add")["succeeded"] == 2


def test_a_retry_without_events_of_its_sender() -> None:
    state = EventState()
    take(state, received(), started(), event("task-retried"), received(), started(), succeeded())
    assert counts(state, "shop.add") == {"received": 2, "started": 2, "retried": 1, "succeeded": 1}


def test_a_failure_that_is_reported_twice_counts_once_under_its_class() -> None:
    state = EventState()
    traceback = 'Traceback (most recent call last):\n  File "x.py", line 1, in f\nbilliard.exceptions.TimeLimitExceeded: 1\n'
    failure = event("task-failed", exception="ExceptionWithTraceback()", traceback=traceback)
    take(state, sent(), received(), started(), failure, failure)
    assert counts(state, "shop.add") == {"sent": 1, "received": 1, "started": 1, "failed": 1}
    assert exceptions(state, "shop.add") == {"TimeLimitExceeded": 1}
    assert state.ends.repeated == 1


@pytest.mark.parametrize(
    ("text", "traceback", "name"),
    [
        (
            "ExceptionWithTraceback()",
            "…\nbilliard.exceptions.WorkerLostError: Worker exited\n",
            "WorkerLostError",
        ),
        ("ExceptionWithTraceback()", '"""\nTraceback\n  x\nKeyError: 5\n"""', "KeyError"),
        ("ExceptionWithTraceback()", "ValueError", "ValueError"),
        ("ExceptionWithTraceback()", None, "ExceptionWithTraceback"),
        ("ValueError('x')", "…\nKeyError: 5", "ValueError"),
        ("", 5, "UnknownException"),
    ],
)
def test_the_class_comes_from_the_traceback_where_the_exception_is_wrapped(
    text: str, traceback: int | str | None, name: str
) -> None:
    assert exception_class(text, traceback) == name


def test_a_terminated_task_does_not_succeed_too() -> None:
    """With gevent: its greenlet ends like one whose task returned nothing."""
    state = EventState()
    take(state, sent(), received(), started(), event("task-revoked", terminated=True, signum=15), succeeded())
    assert counts(state, "shop.add") == {"sent": 1, "received": 1, "started": 1, "revoked": 1}
    assert state.ends.repeated == 1


def test_a_rejected_message_that_is_put_back_is_not_lost_work() -> None:
    state = EventState()
    for _ in range(3):
        take(state, received(), started(), event("task-rejected", requeue=True))
    take(state, received(), started(), event("task-rejected", requeue=False))
    assert counts(state, "shop.add") == {"received": 4, "started": 4, "requeued": 3, "rejected": 1}
    page = Scraped(render(TaskCollector(state).collect()).decode())
    assert page.get("celery_task_rejected_total", name="shop.add") == 4


def test_a_cancelled_task_is_redelivered_under_its_name() -> None:
    state = EventState()
    take(state, sent(), received(), started(), event("task-cancelled"), received(), started(), succeeded())
    assert counts(state, "shop.add") == {"sent": 1, "received": 2, "started": 2, "succeeded": 1}
    (group,) = list(state.groups)
    assert group.duplicates == 0


@pytest.mark.parametrize("missing", ["runtime", "timestamp", "pid", "exception", "eta", "queue"])
def test_a_missing_optional_field_does_not_prevent_counting(missing: str) -> None:
    state = EventState()
    events = [sent(), received(), started(pid=1), succeeded(), sent("b"), event("task-failed", "b")]
    take(state, *({key: value for key, value in one.items() if key != missing} for one in events))
    assert state.undecodable == 0
    assert counts(state, "shop.add") == {"sent": 2, "received": 1, "started": 1, "succeeded": 1, "failed": 1}


def test_events_wait_for_the_task_sent_that_they_overtook() -> None:
    state = EventState()
    take(state, sent("a", queue="mail"), sent("b"), received("c"), started("c"))
    assert counts(state, "shop.add") == {"sent": 2}
    take(state, sent("c", queue="mail"), succeeded("c"))
    assert named(state, "shop.add", "mail") == 1
    take(state, received("d"), started("d"))
    state.purge(time.monotonic() + 2)
    assert counts(state, "shop.add") == {"sent": 3, "received": 2, "started": 2, "succeeded": 1}


def test_the_first_task_of_all_waits_for_its_task_sent_too() -> None:
    state = EventState()
    state.connected()
    take(state, received("a"), started("a"))
    assert counts(state, "shop.add") == {}
    take(state, sent("a", queue="mail"), succeeded("a"))
    assert named(state, "shop.add", "mail") == 1
    # Without any task-sent event, only the first task of a name waits.
    take(state, received("b", name="x"))
    state.purge(time.monotonic() + 2)
    take(state, received("c", name="x"))
    assert counts(state, "x") == {"received": 2}


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("task-failed", {"exception": "NotRegistered('shop.gone')"}, {"sent": 1, "failed": 1}),
        ("task-revoked", {"expired": True, "terminated": False}, {"sent": 1, "revoked": 1}),
    ],
)
def test_a_task_that_is_refused_unread_may_end_before_its_task_sent(
    kind: str, fields: dict[str, Any], expected: dict[str, int]
) -> None:
    """Such an end does not name the task; only the task-sent event that it overtook does."""
    state = EventState()
    state.connected()
    take(state, event(kind, "u1", **fields))
    take(state, sent("u1", "shop.gone"))
    assert counts(state, "shop.gone") == expected
    assert counts(state, "unknown") == {}


def test_an_end_whose_task_sent_is_missing_is_counted_without_a_name() -> None:
    state = EventState()
    state.connected()
    now = time.monotonic()
    take(state, event("task-failed", "u1", exception="KeyError('a')"), at=now)
    state.purge(now + 5)
    assert counts(state, "unknown") == {"failed": 1}


def test_native_delayed_delivery_keeps_its_queue_and_shows_as_scheduled() -> None:
    state = EventState()
    key = ".".join("0" * 27 + "1") + ".qq"
    eta = "2026-11-18T12:00:00+00:00"
    take(state, sent(queue=None, exchange="celery_delayed_27", routing_key=key, eta=eta))
    (group,) = list(state.groups)
    assert group.queue == "qq"
    assert [entry[0] for entry in state.eta.entries.values()] == [group]
    take(state, received(eta="2020-01-01T00:00:00+00:00"))
    assert not state.eta.entries


# Tasks from before the exporter listened


def reply(uuid: str = "u1", name: str = "shop.add", **fields: Any) -> Any:
    """A task in a worker's reply to active or reserved."""
    return {"id": uuid, "name": name, "delivery_info": {"exchange": "", "routing_key": "mail"}, **fields}


def of_worker(reply: Any) -> HeldTask:
    task = held_task(reply)
    assert task is not None
    return task


def test_a_task_that_a_worker_holds_keeps_its_name_and_queue() -> None:
    state = EventState()
    state.adoption.add([of_worker(reply()), of_worker(reply("u2", time_start=1.0)), of_worker(reply("u3"))])
    # Events of the first ones were still in transit.
    take(
        state,
        received(),
        started(),
        started("u2"),
        succeeded(),
        succeeded("u2"),
        started("u3"),
        succeeded("u3"),
    )
    assert named(state, "shop.add", "mail") == 3
    assert counts(state, "unknown") == {}
    (group,) = list(state.groups)
    assert group.duplicates == 0
    assert not len(state.tasks)


def test_a_workers_report_of_a_task_that_is_known_or_over_changes_nothing() -> None:
    state = EventState()
    take(
        state,
        sent(queue="default"),
        sent("u2"),
        received("u2"),
        sent("u3"),
        received("u3"),
        event("task-failed", "u3"),
    )
    state.adoption.add(of_worker(reply(uuid)) for uuid in ("u1", "u2", "u3"))
    take(state, received(), started(), succeeded(), started("u2"), succeeded("u2"))
    assert named(state, "shop.add", "default") == 2
    assert not len(state.tasks)


def test_a_task_that_waits_for_its_eta_in_a_worker_is_scheduled() -> None:
    state = EventState()
    state.adoption.add([of_worker({"eta": "2099-01-01T00:00:00+00:00", "request": reply()})])
    state.adoption.add([of_worker({"eta": "nonsense", "request": reply("u2")})])
    state.purge(time.monotonic())
    assert list(state.eta.entries) == ["u1"]


@pytest.mark.parametrize(
    "item",
    [
        None,
        5,
        "shop.add",
        [],
        {},
        {"id": 5, "name": "x"},
        {"id": "u1", "name": None},
        {"eta": "x", "request": 5},
        {"id": "u1", "name": "x", "delivery_info": 5, "eta": []},
        {"id": "", "name": "x"},
        {"id": "u" * 300, "name": "x"},
        {"id": "u1", "name": "x", "delivery_info": {"exchange": 1, "routing_key": {}}},
    ],
)
def test_any_reply_about_held_tasks_is_harmless(item: Any) -> None:
    state = EventState()
    task = held_task(item)
    state.adoption.add([task] if task else [])
    take(state, received("u9"))
    assert len(state.tasks) <= 2


# Limits


@pytest.mark.parametrize("per_host", [True, False])
@pytest.mark.parametrize(("hosts", "names"), [(20, 60), (150, 40)])
def test_sums_keep_every_name_whatever_the_number_of_hosts(hosts: int, names: int, per_host: bool) -> None:
    state = EventState(per_host=per_host)
    for host in range(hosts):
        for name in range(names):
            run(state, f"{host}-{name}", f"task{name}", "default", f"celery@pod-{host}")
    assert named(state, "task") == hosts * names
    assert named(state, "other") == 0
    assert per_host or state.series < 5_000
    assert (state.budget.turned_away["hosts"] > 0) == per_host
    totals = [group.total() for group in state.groups]
    waits = sum(sum(total.wait.counts) for total in totals if total.wait is not None)
    runtimes = sum(sum(total.runtime.counts) for total in totals if total.runtime is not None)
    assert waits == runtimes == hosts * names


def test_names_no_longer_used_are_evicted() -> None:
    state = EventState()
    for n in range(2_100):
        run(state, f"a{n}", "user.sync", f"user-{n}", "w@1")
    named(state, "user")
    for n in range(100):
        run(state, f"b{n}", "billing.charge", "default", "w@1")
    assert named(state, "billing.charge", "default") == 100
    assert state.budget.turned_away["names"] > 0
    assert len(state.groups) <= 2_000


def test_every_event_of_an_evicted_name_is_shown_once() -> None:
    state = EventState(limits=Limits(names=16))
    seen: dict[Any, float] = {}
    for n in range(200):
        run(state, f"u{n}", f"task{n}", "default", "w@1")
        if n % 50 == 0 or n == 199:
            page = Scraped(render(TaskCollector(state).collect()).decode())
            found = {s.labels["task"]: s.value for s in page.samples if s.labels.get("state") == "succeeded"}
            seen = {**seen, **found}
    assert seen["other"] > 0
    assert sum(seen.values()) == 200


def test_series_of_an_evicted_pair_on_hosts_are_freed() -> None:
    state = EventState(limits=Limits(names=16))
    for n in range(500):
        run(state, f"u{n}", f"task{n}", "default", "w@1")
    assert sum(len(host.tracks) for host in state.roster.hosts.values()) <= 2 * 16
    assert state.budget.used <= 2 * 16 * 42


def test_workers_beyond_the_limit_are_counted() -> None:
    state = EventState(limits=Limits(workers=3))
    for n in range(5):
        take(
            state,
            {
                "type": "worker-heartbeat",
                "hostname": f"w{n}@h",
                "timestamp": NOW,
                "processed": 0,
                "active": 0,
            },
        )
    assert len(state.roster.shown()) == 3
    assert state.budget.turned_away["workers"] == 2


def test_long_names_stay_apart() -> None:
    state = EventState()
    for n in range(3):
        run(state, f"u{n}", "x" * 300 + str(n), "q" * 300 + str(n), "w@1")
    page = Scraped(render(TaskCollector(state).collect()).decode())
    lines = [line.rpartition(" ")[0] for line in page.text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))
    assert len(state.groups) == 3


@pytest.mark.parametrize("pair", [("other", "other"), ("unknown", "unknown"), ("x", "unknown")])
def test_tasks_and_queues_with_reserved_names_have_one_series(pair: tuple[str, str]) -> None:
    state = EventState(limits=Limits(names=10))
    take(state, received("a", name=pair[0]), received("b", name="x"))
    run(state, "c", *pair, "w@1")
    page = Scraped(render(TaskCollector(state).collect()).decode())
    lines = [line.rpartition(" ")[0] for line in page.text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines)), page.text


# Waiting times in a backlog


def jam(state: EventState, size: Any, wait: Any) -> Any:
    """A queue whose tasks start only after all were sent; returns the number of observed waits."""
    for n in range(size):
        state.take([typed(sent(f"u{n}", timestamp=NOW + n / 1000))], 1.0, NOW)
    for n in range(size):
        at = NOW + wait + n / 1000
        state.take(
            [typed(received(f"u{n}")), typed(started(f"u{n}", timestamp=at)), typed(succeeded(f"u{n}"))],
            1.0,
            NOW,
        )
    (group,) = [group for group in state.groups if group.name == "shop.add"]
    return group.total().wait


def test_waits_are_known_up_to_the_limit() -> None:
    state = EventState(limits=Limits(in_flight=5_000))
    assert sum(jam(state, 5_000, 60).counts) == 5_000
    assert state.tasks.sampled == 1


def test_a_larger_backlog_is_sampled_and_its_quantiles_stay_right() -> None:
    state = EventState(limits=Limits(in_flight=5_000))
    wait = jam(state, 40_000, 200)
    known = sum(wait.counts)
    assert 1_500 < known <= 5_000
    assert wait.total / known == pytest.approx(200, abs=0.01)
    assert counts(state, "shop.add")["succeeded"] == 40_000
    state.purge(2.0)
    for n in range(4):
        state.purge(3.0 + n)
    assert state.tasks.sampled == 1


def test_tasks_overtaken_by_later_ones_are_evicted_first() -> None:
    state = EventState(limits=Limits(in_flight=1_000))
    for n in range(900):
        take(state, sent(f"lost{n}", timestamp=NOW - 5_000))
    take(state, sent("late", timestamp=NOW), received("late"), started("late"))
    for n in range(800):
        take(state, sent(f"new{n}", timestamp=NOW))
    assert state.tasks.sampled == 1
    assert state.tasks.due("new0") == pytest.approx(NOW, abs=0.001)


# Workers


def beat(host: str = "w@h", at: float = NOW, **fields: Any) -> dict[str, Any]:
    return {
        "type": "worker-heartbeat",
        "hostname": host,
        "timestamp": at,
        "processed": 0,
        "active": 0,
        "freq": 2.0,
        "pid": 1,
        **fields,
    }


def up(state: EventState, now: float) -> bool:
    worker = state.roster.workers["w@h"]
    return worker.up(now, state.roster.liveness)


def test_a_worker_is_judged_by_its_own_interval() -> None:
    state = EventState()
    take(state, beat(freq=60.0), at=0.0)
    assert up(state, 170.0)
    assert not up(state, 190.0)


def test_a_reply_shows_that_a_worker_without_heartbeats_is_alive() -> None:
    state = EventState(liveness=Liveness(reply_timeout=75))
    worker = state.roster.answered("w@h", 0.0)
    assert worker in state.roster.shown()
    assert up(state, 70.0)
    assert not up(state, 80.0)
    page = Scraped(render(WorkerCollector(state).collect()).decode())
    assert page.get("celery_worker_tasks_active", hostname="w@h") is None
    assert page.get("celery_worker_processed_total", hostname="w@h") is None


def test_a_worker_that_shuts_down_finishes_its_tasks_and_disappears() -> None:
    state = EventState()
    take(state, received("a"), started("a"), received("b"), started("b"), beat(active=2))
    take(state, {"type": "worker-offline", "hostname": "w@h", "timestamp": NOW, "active": 2, "processed": 2})
    page = Scraped(render(WorkerCollector(state).collect()).decode())
    assert page.get("celery_worker_up", hostname="w@h") == 1
    assert page.get("celery_worker_stopping", hostname="w@h") == 1
    assert page.get("celery_worker_tasks_active", hostname="w@h") == 2
    take(state, succeeded("a"))
    page = Scraped(render(WorkerCollector(state).collect()).decode())
    assert page.get("celery_worker_tasks_active", hostname="w@h") == 1
    take(state, event("task-failed", "b"))
    page = Scraped(render(WorkerCollector(state).collect()).decode())
    assert page.get("celery_worker_up", hostname="w@h") is None
    take(state, beat())
    assert state.roster.workers["w@h"] in state.roster.shown()


def test_several_workers_under_one_name_are_detected_and_nothing_counts_as_lost() -> None:
    state = EventState()
    for step in range(40):
        for number in range(3):
            at = NOW + 2 * step + number * 0.6
            take(state, beat(at=at, processed=100 * number + step), started(f"{step}-{number}", timestamp=at))
    worker = state.roster.workers["w@h"]
    assert worker.cadence.is_shared
    assert state.roster.lost == 0


def test_a_restart_is_not_a_shared_name() -> None:
    state = EventState()
    for step in range(10):
        take(state, beat(at=NOW + 2 * step, processed=step))
    for step in range(10):
        take(state, beat(at=NOW + 18.5 + 2 * step, processed=step, pid=1))
    assert not state.roster.workers["w@h"].cadence.is_shared


def test_events_are_missing_only_when_tasks_start_while_we_listen() -> None:
    state = EventState()
    worker = lambda: state.roster.workers["w@h"]  # noqa: E731 - short
    for step in range(5):
        take(state, beat(at=NOW + 2 * step, processed=500))
    assert not worker().sends_no_events
    for step in range(5, 9):
        take(state, beat(at=NOW + 2 * step, processed=500 + step))
    assert worker().sends_no_events
    for step in range(9, 12):
        take(state, started(timestamp=NOW + 2 * step - 1), beat(at=NOW + 2 * step, processed=500 + step))
    assert not worker().sends_no_events
