"""What a round of the pollers makes of the broker's answers, without a broker."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from exporters.broker import RedisSettings, parse_broker, redis_settings
from exporters.queues import bindings, unacked
from exporters.queues import redis as queues_redis
from exporters.queues.amqp import AmqpPoller
from exporters.queues.bindings import Bindings
from exporters.queues.collector import QueueCollector
from exporters.queues.model import Queue, Snapshot
from exporters.queues.rabbitmq_api import PAGE, UNAVAILABLE, RabbitMqApi, vhost_of
from exporters.queues.redis import RedisPoller
from exporters.queues.unacked import Unacked
from exporters.tables.state import EventState
from tests.exporters.test_exporter_tables import NOW, event, received, sent, take

SEPARATOR = "\x06\x16"
Values = dict[str, float]


def collected(collector: QueueCollector) -> dict[str, Values]:
    """The values of each family, by the queue."""

    def queue_of(line: str) -> str:
        return line.partition('queue_name="')[2].partition('"')[0]

    return {
        family.name: {queue_of(line): float(line.rpartition(" ")[2]) for line in family.lines}
        for family in collector.collect()
    }


def worker(state: EventState, node: str, queues: Iterable[str] | None, size: int | None = None) -> None:
    """A live worker, with what it replied about its queues and its pool."""
    take(state, event("worker-heartbeat", hostname=node, processed=0, active=0))
    known = state.roster.workers[node]
    known.pool_size = size
    if queues is not None:
        known.queues, known.queues_known, state.roster.replied = tuple(queues), True, True


def test_consumers_of_a_queue_are_counted_over_all_live_workers() -> None:
    state = EventState()
    worker(state, "a@h", ["mail", "video"], 4)
    worker(state, "b@h", ["mail"], 4)
    worker(state, "c@h", ["video"], None)
    worker(state, "leaving@h", ["mail"], 8)
    take(state, event("worker-offline", hostname="leaving@h", active=1))
    collector = QueueCollector(state)
    collector.update(Snapshot({"mail": Queue(1), "video": Queue(0), "empty": Queue(0)}))
    found = collected(collector)
    assert found["celery_active_worker_count"] == {"mail": 2, "video": 2, "empty": 0}
    # The size of one pool of video is not known.
    assert found["celery_active_process_count"] == {"mail": 8, "empty": 0}


def test_without_the_reply_of_a_live_worker_it_is_not_known_that_a_queue_has_no_consumer() -> None:
    state = EventState()
    worker(state, "a@h", ["mail"], 4)
    worker(state, "silent@h", None)
    collector = QueueCollector(state)
    collector.update(Snapshot({"mail": Queue(1), "other": Queue(1)}))
    assert collected(collector)["celery_active_consumer_count"] == {"mail": 1}


def test_the_brokers_own_number_of_consumers_wins() -> None:
    state = EventState()
    worker(state, "a@h", ["mail", "celeryev.abc", "bcast.def"], 2)
    collector = QueueCollector(state)
    collector.update(Snapshot({"mail": Queue(1, consumers=7)}))
    found = collected(collector)
    assert found["celery_queue_consumers"] == {"mail": 7}
    assert found["celery_active_worker_count"] == {"mail": 1}


def test_tasks_wait_for_their_eta_until_it_comes() -> None:
    state, now = EventState(), [NOW]
    for uuid, eta in (("a", "2099-01-01T00:00:00+00:00"), ("b", "2098-01-01T00:00:00+00:00")):
        take(state, sent(uuid, eta=eta), received(uuid, eta=eta))
    collector = QueueCollector(state, clock=lambda: now[0])
    collector.update(Snapshot({"default": Queue(0)}))
    assert collected(collector)["celery_queue_eta_scheduled"] == {"default": 2}
    now[0] = 4_070_908_800.0 - 1
    assert collected(collector)["celery_queue_eta_scheduled"] == {"default": 1}


def test_queues_that_were_found_once_stay_found() -> None:
    collector = QueueCollector(EventState())
    seen = []
    for is_whole in (False, True, False):
        collector.update(Snapshot(is_whole=is_whole))
        seen.append(collector.is_whole)
    assert seen == [False, True, True]


Answer = Callable[[tuple[Any, ...]], Any]


def answering(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Redis's answers to single commands."""

    def pipelined(_: Any, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
        return [answer(one) for one in commands]

    for module in (queues_redis, unacked, bindings):
        monkeypatch.setattr(module, "pipelined", pipelined)


class Keys:
    """A Redis whose scan returns some keys."""

    def __init__(self, *keys: str) -> None:
        self.keys = [key.encode() for key in keys]

    def scan(self, *_: Any, **__: Any) -> tuple[int, list[bytes]]:
        return 0, self.keys

    def close(self) -> None: ...


def poller(monkeypatch: pytest.MonkeyPatch, answer: Answer, *queues: str, **more: Any) -> RedisPoller:
    answering(monkeypatch, answer)
    monkeypatch.setattr(queues_redis, "redis_pool", lambda *_, **__: None)
    monkeypatch.setattr("redis.Redis", lambda **_: Keys())
    settings = redis_settings(parse_broker("redis://127.0.0.1"))
    return RedisPoller(settings, more.pop("state", EventState()), configured=queues, **more)


def stamped(at: float | None, task_id: str) -> bytes:
    stamp = {} if at is None else {"enqueued_at": at}
    return json.dumps({"headers": {"id": task_id, "task": "shop.add", **stamp}}).encode()


def test_the_age_of_a_queue_is_that_of_its_oldest_message_over_all_its_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tails = {"mail": stamped(NOW - 5, "a"), f"mail{SEPARATOR}3": stamped(NOW - 50, "b")}
    tails[f"mail{SEPARATOR}9"] = stamped(NOW + 50, "c")

    def answer(command: tuple[Any, ...]) -> Any:
        if command[0] == "LLEN":
            return 2 if command[1] in tails else 0
        if command[0] == "LINDEX":
            # Workers take the last one first.
            return tails[command[1]] if command[2] == -1 else stamped(NOW, "young")
        return 0 if command[0] == "ZCARD" else []

    found = poller(monkeypatch, answer, "mail", clock=lambda: NOW).poll().queues["mail"]
    assert (found.length, found.oldest_age, found.age_is_known) == (6, 50, True)


def test_an_undated_message_is_as_old_as_it_has_been_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now, tail = [NOW], [stamped(None, "a")]
    answers = {"LLEN": 1, "ZCARD": 0}

    def answer(command: tuple[Any, ...]) -> Any:
        if command[0] == "LLEN" and SEPARATOR in command[1]:
            return 0
        return tail[0] if command[0] == "LINDEX" else answers.get(command[0], [])

    asked = poller(monkeypatch, answer, "mail", clock=lambda: now[0])
    seen = []
    for at, task_id in ((0, "a"), (10, "a"), (30, "a"), (40, "b"), (45, "b")):
        now[0], tail[0] = NOW + at, stamped(None, task_id)
        queue = asked.poll().queues["mail"]
        seen.append((queue.oldest_age, queue.age_is_known))
    assert seen == [(0, False), (10, True), (30, True), (0, False), (5, True)]


def test_a_queue_that_redis_refuses_is_not_called_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"LLEN": ValueError("NOPERM"), "ZCARD": 0}
    found = poller(monkeypatch, lambda command: refused.get(command[0], []), "mail").poll()
    assert found.queues == {}
    assert found.refused == ["queue mail: NOPERM"]


def test_queues_beyond_the_limit_and_the_output_buffer_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues_redis, "MAX_QUEUES", 2)
    answers = {"LLEN": 0, "ZCARD": 0, "CLIENT": b"id=7 addr=x omem=20504 tot-mem=1 events=r"}
    asked = poller(
        monkeypatch, lambda command: answers.get(command[0], []), "a", "b", "c", own_client=lambda: 7
    )
    found = asked.poll()
    assert (sorted(found.queues), found.left_out, found.output_buffer) == (["a", "b"], 1, 20504)


def test_messages_that_workers_hold_show_queues_that_nothing_else_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = json.dumps([{"headers": {"task": "shop.add"}}, "", "mail"]).encode()
    answers = {"LLEN": 0, "ZCARD": 1, "ZRANGE": [b"tag"], "HMGET": [held]}
    found = poller(monkeypatch, lambda command: answers.get(command[0], []), "quick").poll().queues
    assert (found["mail"].length, found["mail"].unacked, found["quick"].unacked) == (None, 1, 0)


@pytest.mark.parametrize(("headers", "signed"), [({"periodic_task_name": "nightly"}, True), ({}, False)])
def test_only_what_beat_has_signed_names_a_task_of_beat(
    monkeypatch: pytest.MonkeyPatch, headers: Mapping[str, str], signed: bool
) -> None:
    message = json.dumps({"headers": {"id": "a", "task": "shop.add", **headers}}).encode()
    answers = {"LLEN": 1, "LINDEX": message, "ZCARD": 0}
    state = EventState()
    poller(monkeypatch, lambda command: answers.get(command[0], []), "mail", state=state).poll()
    assert ("shop.add" in state.beat.names) == signed


def bound(monkeypatch: pytest.MonkeyPatch, members: dict[str, list[str]], **more: Any) -> Bindings:
    """The bindings of some exchanges."""
    answering(
        monkeypatch,
        lambda command: {one.encode() for one in members[command[1].removeprefix("_kombu.binding.")]},
    )
    client: Any = Keys(*(f"_kombu.binding.{name}" for name in members))
    return Bindings(client, RedisSettings({}, 0), more.pop("event_exchange", "celeryev"), pytest.fail)


def test_the_queues_of_an_exchange_and_neither_events_nor_remote_control(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def member(key: str, queue: str) -> str:
        return SEPARATOR.join((key, "", queue))

    members = {
        "media": [member("v", "video"), member("v", "video2"), member("i", "image")],
        "celery.pidbox": [member("", "w@h.celery.pidbox")],
        "own.events": [member("#", "watcher")],
        "shared": [member("", "celeryev.123"), member("", "bcast.1"), member("a", "w@h.celery.pidbox")],
    }
    found = bound(monkeypatch, members, event_exchange="own.events")
    seen = [found.scanned]
    found.refresh()
    assert [*seen, found.scanned] == [False, True]
    assert found.routes == {("media", "v"): {"video", "video2"}, ("media", "i"): {"image"}}
    # The queue was deleted.
    members["media"].pop(0)
    found.refresh()
    assert found.routes[("media", "v")] == {"video2"}


def test_a_message_of_a_binding_with_several_queues_is_of_an_unknown_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    routes = {("media", "v"): {"video", "video2"}, ("media", "i"): {"image"}}
    held = [json.dumps([{"headers": {}}, "media", key]).encode() for key in ("v", "i", "x")]
    answers = {"ZCARD": 3, "ZRANGE": [b"1", b"2", b"3"], "HMGET": held}
    answering(monkeypatch, lambda command: answers[command[0]])
    known: Any = SimpleNamespace(routes=routes)
    client: Any = None
    looking = Unacked(client, RedisSettings({}, 0), known, lambda *_: None, pytest.fail)
    assert looking.counts() == {"unknown": 2, "image": 1}


def api(monkeypatch: pytest.MonkeyPatch, *pages: list[dict[str, Any]], total: int = 0) -> RabbitMqApi:
    """An API with these pages of queues."""
    found = RabbitMqApi("http://m:w@h:15672", "/shop", most=1_000, clock=lambda: NOW)
    monkeypatch.setattr(found, "_alarms", lambda: "")
    monkeypatch.setattr(
        found,
        "_page",
        lambda number: {
            "items": pages[number - 1],
            "page_count": len(pages),
            "filtered_count": total or sum(map(len, pages)),
        },
    )
    return found


def test_every_page_of_the_api_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [[{"name": f"q{page}{at}", "messages_ready": 1} for at in range(2)] for page in range(3)]
    found = api(monkeypatch, *pages, total=8).queues()
    assert (len(found.queues), found.unread) == (6, 2)


def test_the_figures_of_a_queue_and_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = {"messages_unacknowledged": 3, "consumers": 2, "head_message_timestamp": NOW - 60}
    items: list[dict[str, Any]] = [
        {"name": "full", "messages_ready": 5, **ready},
        {"name": "empty", "messages_ready": 0, **ready},
        {"name": "undated", "messages_ready": 5},
        {"name": "new"},
        {"name": "log", "messages_ready": 5, "type": "stream"},
    ]
    found = api(monkeypatch, items).queues()
    assert found.queues == {
        "full": Queue(5, 3, 60.0, consumers=2),
        "empty": Queue(0, 3, 0.0, consumers=2),
        "undated": Queue(5, None, None),
    }
    assert found.uncounted == {"new"}


@pytest.mark.parametrize("state", ["down", "minority", "stopped", "crashed", "terminated"])
def test_a_queue_that_is_not_available_has_no_figures(monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    assert state in UNAVAILABLE
    found = api(monkeypatch, [{"name": "far", "messages_ready": 0, "state": state}]).queues()
    assert (found.queues, found.refused) == ({}, [f"queue far: its state is {state}"])


def test_what_the_api_left_out_and_refused_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"name": "jobs", "messages_ready": 1}, {"name": "far", "messages_ready": 0, "state": "down"}]
    known = api(monkeypatch, items, total=PAGE)
    asked = AmqpPoller(parse_broker("amqp://127.0.0.1:1//"), EventState(), api=known).poll()
    assert (asked.left_out, asked.refused) == (PAGE - 2, ["queue far: its state is down"])


@pytest.mark.parametrize(
    ("url", "vhost", "path"),
    [
        ("amqp://h//", "/", "%2F"),
        ("amqp://h", "/", "%2F"),
        ("amqp://h/a%2Fb", "a/b", "a%2Fb"),
        ("amqp://h/shop;amqp://other/else", "shop", "shop"),
    ],
)
def test_the_virtual_host_is_the_urls(url: str, vhost: str, path: str) -> None:
    assert vhost_of(parse_broker(url)) == vhost
    assert RabbitMqApi("http://h:1", vhost, most=1)._queues == f"http://h:1/api/queues/{path}"
