"""Counting: captured life cycles, the join, limits, and forged events."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.decode import decode_general, typed
from exporters.tables.budget import Limits
from exporters.tables.exceptions import exception_class
from exporters.tables.groups import STATES
from exporters.tables.histogram import Histogram, parse_buckets
from exporters.tables.roster import Labels
from exporters.tables.state import EventState
from exporters.tables.workers import Ledger, Liveness
from sidecar import UsageError
from tests.exporters.exporterkit import captured, decoded

NOW = 1_795_000_000.0


def take(state: EventState, *events: Any, received: Any = None) -> None:
    state.take([typed(one) for one in events], time.monotonic() if received is None else received, NOW)


def event(kind: str, uuid: str = "u1", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": uuid, "hostname": "w@h", "timestamp": NOW, **fields}


def sent(uuid: Any = "u1", name: Any = "shop.add", queue: Any = "default", **fields: Any) -> dict[str, Any]:
    return event("task-sent", uuid, name=name, queue=queue, **{"hostname": "gen7@web", "eta": None, **fields})


def received(uuid: Any = "u1", name: str = "shop.add", **fields: Any) -> dict[str, Any]:
    return event("task-received", uuid, name=name, **{"eta": None, **fields})


def counts(state: EventState, name: str, queue: str | None) -> dict[str, int]:
    """The counts of a pair by state; empty when there is no such pair."""
    found = [group.total().counts for group in state.groups if (group.name, group.queue) == (name, queue)]
    return dict(zip(STATES, found[0], strict=True)) if found else {}


def test_a_histogram_counts_sums_and_adds() -> None:
    one, other = Histogram((0.1, 1.0)), Histogram((0.1, 1.0))
    for seconds in (0.1, 0.2, 5.0):
        one.observe(seconds)
    for seconds in (0.05, 1.0, 1.0, 7.0):
        other.observe(seconds)
    assert one.counts == [1, 1, 1]
    assert one.total == pytest.approx(5.3)
    one.add(other)
    assert one.lines("x", 'a="b"') == [
        'x_bucket{a="b",le="0.1"} 2',
        'x_bucket{a="b",le="1.0"} 5',
        'x_bucket{a="b",le="+Inf"} 7',
        f'x_sum{{a="b"}} {one.total!r}',
        'x_count{a="b"} 7',
    ]
    assert one.total == pytest.approx(14.35)


@pytest.mark.parametrize("text", ["", "a", "1,1", "2,1", "0,1", "-1,1", "inf"])
def test_bounds_that_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_buckets(text)
    assert parse_buckets("0.5, 1,inf") == (0.5, 1.0)


def test_captured_life_cycles(frames: list[bytes]) -> None:
    state = EventState()
    for frame in frames:
        state.take(decoded(frame), 1.0, NOW)
    assert counts(state, "shop.add", "default") == {
        "sent": 8,
        "received": 7,
        "started": 7,
        "succeeded": 7,
        "failed": 0,
        "retried": 0,
        "revoked": 1,
        "rejected": 0,
        "requeued": 0,
    }
    assert counts(state, "shop.retry", "default")["retried"] == 2
    # task-rejected comes after task-failed and must still find its task.
    assert counts(state, "shop.reject", "default")["rejected"] == 1
    assert state.undecodable == 0
    assert all(group.queue in ("default", "mail") for group in state.groups)


def test_wait_leaves_eta_out_and_is_never_negative() -> None:
    state = EventState()
    eta = datetime.fromtimestamp(NOW - 30, UTC).isoformat()
    take(state, sent("a", timestamp=NOW - 9_000, eta=eta), sent("b", timestamp=NOW + 50))
    take(state, event("task-started", "a"), event("task-started", "b"))
    (group,) = list(state.groups)
    wait = group.total().wait
    assert wait is not None
    assert sum(wait.counts) == 2
    assert wait.total == pytest.approx(30)


def test_a_second_delivery_does_not_wait_again() -> None:
    state = EventState()
    take(state, sent(), event("task-started"), event("task-started", timestamp=NOW + 100))
    (group,) = list(state.groups)
    wait = group.total().wait
    assert wait is not None
    assert sum(wait.counts) == 1


def test_the_queue_is_inferred_while_it_is_unambiguous() -> None:
    state = EventState()
    state.groups.learn("shop.add", "default")
    take(state, received("x"))
    assert counts(state, "shop.add", "default")["received"] == 1
    state.groups.learn("shop.add", "mail")
    take(state, received("y"))
    assert counts(state, "shop.add", "unknown")["received"] == 1


def test_a_sender_that_does_not_know_the_queue_does_not_set_it() -> None:
    state = EventState()
    take(state, sent("a", queue=None), received("a"), received("b"))
    state.purge(time.monotonic() + 2)
    assert counts(state, "shop.add", "unknown")["sent"] == 1
    assert counts(state, "shop.add", "unknown")["received"] == 2
    state.groups.learn("shop.add", "mail")
    take(state, sent("c", queue=None))
    assert counts(state, "shop.add", "mail")["sent"] == 1


def test_a_full_table_of_etas_stays_bounded_and_is_freed() -> None:
    state = EventState(limits=Limits(in_flight=1_000))
    later = datetime.fromtimestamp(NOW + 50, UTC).isoformat()
    for n in range(1_000):
        take(state, received(f"u{n}", eta=later), received=1.0)
    table = state.eta.entries
    take(state, received("more", eta=later), received=1.0)
    assert state.eta.entries is table
    assert len(table) == 1_000
    state.take([typed(received("soon", eta=later))], 2.0, NOW + 60)
    state.purge(100.0)
    assert not state.eta.entries


def test_a_worker_with_one_queue_identifies_the_queue() -> None:
    state = EventState()
    take(state, {"type": "worker-online", "hostname": "w@h", "processed": 0, "active": 0, "timestamp": NOW})
    state.roster.workers["w@h"].queues = ("ai_jobs",)
    take(state, received("x", name="ai.caption"))
    assert counts(state, "ai.caption", "ai_jobs")["received"] == 1


def test_client_ids_never_become_series() -> None:
    state = EventState()
    for pid in range(500):
        take(state, sent(f"u{pid}", hostname=f"gen{pid}@web-1"))
    assert list(state.roster.hosts) == ["web-1"]


@pytest.mark.parametrize(("label", "expected"), [("node", "w@h"), ("host", "h"), ("generic", "generic")])
def test_worker_label_switch(label: str, expected: str) -> None:
    state = EventState(labels=Labels(worker=label))
    take(state, received())
    assert f'hostname="{expected}"' in next(iter(state.groups)).tracks[0].labels


def test_a_million_names_end_in_the_overflow_series() -> None:
    state = EventState(limits=Limits(names=50))
    for n in range(5_000):
        take(state, sent(f"u{n}", name=f"task-{n}"))
    groups = list(state.groups)
    assert len(groups) == 51
    assert state.budget.capped > 0
    assert sum(group.total().counts[0] for group in groups) == 5_000


def test_the_series_limit_is_kept_and_nothing_is_uncounted() -> None:
    state = EventState(limits=Limits(series=500))
    for n in range(2_000):
        take(
            state,
            sent(f"u{n}", name=f"t{n % 300}"),
            received(f"u{n}", name=f"t{n % 300}", hostname=f"w{n % 7}@h"),
        )
        take(state, event("task-succeeded", f"u{n}", runtime=0.1, hostname=f"w{n % 7}@h"))
    assert state.budget.used <= 500
    totals = [group.total().counts for group in state.groups]
    assert sum(c[0] for c in totals) == sum(c[1] for c in totals) == sum(c[3] for c in totals) == 2_000


def test_long_names_are_cut() -> None:
    state = EventState()
    take(state, sent(name="x" * 10_000))
    assert max(len(group.name) for group in state.groups) <= 200


def test_join_table_is_bounded() -> None:
    state = EventState(limits=Limits(in_flight=1_000))
    for n in range(10_000):
        take(state, sent(f"u{n}"))
    assert len(state.tasks) <= 1_000
    assert state.tasks.evicted >= 9_000


def test_tasks_that_never_end_are_forgotten_after_two_days() -> None:
    state = EventState()
    take(state, sent())
    for day in range(3):
        state.purge(day * 90_000.0)
    assert len(state.tasks) == 0
    assert state.tasks.evicted == 1


def test_purge_keeps_sums_and_frees_series() -> None:
    state = EventState(liveness=Liveness(timeout=5, purge=60))
    take(
        state,
        {"type": "worker-online", "hostname": "w@h", "processed": 0, "active": 0, "timestamp": NOW},
        received=0.0,
    )
    take(state, received(), received=1.0)
    used = state.budget.used
    assert state.purge(30.0) == []
    assert state.purge(100.0) == ["w@h"]
    assert counts(state, "shop.add", "unknown")["received"] == 1
    assert state.budget.used < used
    assert not state.roster.workers


def test_short_lived_clients_never_crowd_out_workers() -> None:
    state = EventState(limits=Limits(series=5_000))
    for hour in range(200):
        for n in range(20):
            take(
                state,
                sent(f"{hour}-{n}", name=f"task-{n}", hostname=f"gen1@web-{hour}"),
                received=hour * 3600.0,
            )
        state.purge(hour * 3600.0 + 1)
    assert len(state.roster.hosts) <= 2
    assert state.budget.capped == 0
    assert sum(group.total().counts[0] for group in state.groups) == 200 * 20
    for n in range(2_000):
        take(state, sent(f"u{n}", name=f"more-{n}"))
    assert state.budget.capped > 0
    take(state, event("worker-heartbeat", processed=0, active=0))
    assert list(state.roster.workers) == ["w@h"]


def test_a_client_that_sends_rarely_keeps_its_series() -> None:
    state = EventState(liveness=Liveness(purge=60))
    take(state, sent(), received=0.0)
    state.purge(3_000.0)
    assert list(state.roster.hosts) == ["web"]
    state.purge(4_000.0)
    assert not state.roster.hosts


def test_workers_without_heartbeats_are_forgotten_too() -> None:
    state = EventState(liveness=Liveness(purge=60))
    take(state, received(), received=0.0)
    assert state.purge(59.0) == []
    assert state.purge(61.0) == ["w@h"]
    assert not state.roster.hosts


def test_purge_spares_a_twin_under_the_same_label() -> None:
    state = EventState(labels=Labels(worker="host"), liveness=Liveness(purge=60))
    for node, at in (("a@h", 0.0), ("b@h", 90.0)):
        take(
            state,
            {"type": "worker-online", "hostname": node, "processed": 0, "active": 0, "timestamp": NOW},
            received=at,
        )
    take(state, received(hostname="a@h"), received=0.0)
    assert state.purge(100.0) == ["a@h"]
    assert "h" in state.roster.hosts


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"type": 5},
        {"type": ["task-sent"]},
        {"type": "task-sent"},
        sent(uuid=["x"]),
        sent(uuid="x" * 9_999),
        sent(name=7),
        sent(queue=["q"]),
        sent(timestamp="now"),
        sent(eta="soon"),
        sent(name=None),
        received(hostname=3),
        received(uuid=None),
        event("task-succeeded", runtime="long"),
        event("task-started", timestamp="now"),
        event("task-failed", uuid=""),
        {"type": "worker-heartbeat"},
        {"type": "worker-heartbeat", "hostname": "w@h", "processed": -1, "active": 0, "timestamp": NOW},
        {"type": "worker-heartbeat", "hostname": "w@h", "processed": 1 << 80, "active": 0, "timestamp": NOW},
        "text",
        None,
        5,
    ],
)
def test_malformed_events_are_counted_and_harmless(odd: Any) -> None:
    state = EventState()
    take(state, odd, sent("fine"))
    assert state.undecodable == 1
    assert counts(state, "shop.add", "default")["sent"] == 1
    assert sum(sum(group.total().counts) for group in state.groups) == 1


def test_events_of_applications_are_counted_as_other() -> None:
    state = EventState()
    take(state, {"type": "task-progress", "uuid": "u", "percent": 5})
    assert state.types == {"other": 1}
    assert state.undecodable == 0


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.text(max_size=8), VALUES), max_size=8))
def test_no_field_value_breaks_the_tables(changes: Any) -> None:
    events = [dict(event) for frame in SEEDS for event in decode_general(frame)]
    fields = (
        "uuid",
        "hostname",
        "timestamp",
        "name",
        "queue",
        "eta",
        "runtime",
        "processed",
        "active",
        "loadavg",
        "pid",
        "exception",
    )
    for at, key, value in changes:
        events[at % len(events)][fields[len(key) % len(fields)]] = value
    state = EventState()
    for one in events:
        take(state, one)
    # Those that waited for their task-sent are counted as well.
    state.purge(time.monotonic() + 2)
    assert sum(state.types.values()) + state.undecodable == len(events)


SEEDS = captured()


@given(st.permutations(range(30)))
def test_events_in_any_order_are_all_counted(order: Any) -> None:
    events = [one for frame in SEEDS for one in decode_general(frame)][:30]
    state = EventState()
    take(state, *(events[n] for n in order))
    state.purge(time.monotonic() + 2)
    assert sum(state.types.values()) == 30


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ValueError('x')", "ValueError"),
        ("Terminated(15,)", "Terminated"),
        ("<shop.errors.OutOfStock: 5>", "OutOfStock"),
        ("reject requeue=False: no", "Reject"),
        ("no class here", "UnknownException"),
        (None, "UnknownException"),
    ],
)
def test_exception_class(text: str | None, name: str) -> None:
    assert exception_class(text) == name


def heartbeats(ledger: Any, *pairs: Any, pid: int = 1) -> None:
    for processed, at in pairs:
        ledger.heartbeat(pid, processed, at)


def test_ledger_finds_exactly_what_is_missing() -> None:
    ledger = Ledger()
    ledger.heartbeat(1, 100, 10.0)
    for n in range(50):
        ledger.started(10.5 + n / 100)
    # The worker reports 80 starts; events announced 50 of them.
    heartbeats(ledger, (180, 12.0), (180, 14.0), (180, 16.0))
    assert ledger.lost == 30


def test_ledger_tolerates_starts_reported_after_the_heartbeat() -> None:
    ledger = Ledger()
    ledger.heartbeat(1, 0, 10.0)
    for beat in range(1, 50):
        ledger.heartbeat(1, beat * 20, 10.0 + beat * 2)
        for n in range(20):
            ledger.started(10.05 + (beat - 1) * 2 + n * 0.1)
    assert ledger.lost == 0


def test_ledger_survives_a_restart_of_the_worker() -> None:
    ledger = Ledger()
    heartbeats(ledger, (500, 10.0), (500, 12.0))
    heartbeats(ledger, (0, 20.0), (0, 22.0), pid=2)
    for n in range(5):
        ledger.started(22.1 + n / 10)
    heartbeats(ledger, (5, 24.0), (5, 26.0), pid=2)
    assert ledger.lost == 0


def announce(ledger: Any, count: Any, after: Any, pid: int = 1) -> None:
    """Starts between a heartbeat at this time and the next one."""
    for n in range(count):
        ledger.started(after + 0.05 + 1.9 * n / count, pid)


def test_ledger_distinguishes_a_restarted_workers_starts_from_earlier_ones() -> None:
    ledger = Ledger()
    heartbeats(ledger, (0, 10.0))
    announce(ledger, 100, 10.0)
    announce(ledger, 7, 19.0, pid=2)
    # Events announce only 7 of the new process's 60 starts; the old one's events do not offset any.
    heartbeats(ledger, (60, 20.0), (60, 22.0), (60, 24.0), (60, 26.0), pid=2)
    assert ledger.lost == 53


def test_ledger_settles_the_earlier_count_at_a_restart() -> None:
    ledger = Ledger()
    heartbeats(ledger, (0, 10.0), (30, 12.0), (30, 14.0))
    heartbeats(ledger, (0, 20.0), (0, 22.0), (0, 24.0), pid=2)
    assert ledger.lost == 30


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from([0, 0, 0, 3600, -3600, -5])), max_size=30))
def test_no_step_of_a_workers_clock_looks_like_a_loss(intervals: Any) -> None:
    ledger, clock, processed = Ledger(), NOW, 0
    ledger.heartbeat(1, 0, clock)
    for count, step in intervals:
        clock += step
        announce(ledger, count, clock)
        clock, processed = clock + 2, processed + count
        ledger.heartbeat(1, processed, clock)
    assert ledger.lost == 0


def test_a_loss_after_a_step_of_the_clock_is_found() -> None:
    ledger = Ledger()
    heartbeats(ledger, (0, NOW + 3600), (0, NOW))
    announce(ledger, 15, NOW)
    heartbeats(ledger, (20, NOW + 2), (20, NOW + 4), (20, NOW + 6))
    assert ledger.lost == 5


def test_a_heartbeat_from_the_future_does_not_upset_liveness() -> None:
    state = EventState()
    beat = {
        "type": "worker-heartbeat",
        "hostname": "w@h",
        "processed": 1,
        "active": 0,
        "timestamp": NOW + 1e6,
    }
    take(state, beat, received=50.0)
    worker = state.roster.workers["w@h"]
    assert worker.up(60.0, Liveness(15.0))
    assert not worker.up(70.0, Liveness(15.0))
    assert worker.skew == pytest.approx(1e6)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "task-x", "pid": "no number"}, "task-x"),
        ({"type": 7}, ""),
        ({"pid": 7}, ""),
        (["task-x"], ""),
    ],
)
def test_an_event_with_an_unusual_field_is_counted_by_its_type(event: Any, kind: str) -> None:
    assert typed(event).type == kind
