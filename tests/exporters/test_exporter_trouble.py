"""When things break: the broker dies, the exporter is stopped, foreign frames arrive, queues are odd."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import celery.signals
import pytest
import redis
import requests

from bench.exporter.frames import frame
from bench.exporter.measure import generator, published
from exporters.broker import ANSWER_SECONDS, parse_broker, redis_settings
from exporters.decode import Event
from exporters.instrument import stamp_messages
from exporters.queues.redis import RedisPoller
from exporters.tables.state import EventState
from stack.ports import choose
from stack.servers import Redis
from tests.exporters.exporterkit import HERE, Running, Worker, captured, send, until

ROOT = HERE.parents[1]


def test_broker_killed_and_restarted(tmp_path: Path, start: Callable[..., Running]) -> None:
    with Redis(tmp_path / "redis") as server:
        running = start(server.url)
        send(server.url, "shop.add", "shop.add")
        running.until(
            lambda s: s.get("celery_tasks_total", state="sent") == 2 and s.get("celery_queue_length")
        )
        server.kill()
        away = running.until(lambda s: s.get("celery_exporter_broker_up") == 0)
        assert away.get("celery_tasks_total", state="sent") == 2
        assert away.get("celery_exporter_events_complete") == 0
        assert away.get("celery_queue_length") is not None
        assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 503
        server.start()
        back = time.monotonic()
        running.until(lambda s: s.get("celery_exporter_broker_up") == 1, seconds=120)
        assert time.monotonic() - back < 2
        send(server.url, "shop.add")
        again = running.until(lambda s: s.get("celery_tasks_total", state="sent") == 3)
        assert again.get("celery_exporter_disconnects_total") == 1


def test_a_request_for_the_page_asks_the_broker_nothing(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    pages = 20
    with Redis(tmp_path / "redis") as server:
        running = start(server.url)
        send(server.url, "shop.add")
        running.until(lambda s: s.get("celery_tasks_total", state="sent") == 1)
        os.killpg(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            shown = [requests.get(running.url, timeout=60) for _ in range(pages)]
            took = time.monotonic() - began
        finally:
            os.killpg(server.pid, signal.SIGCONT)
    assert all(page.status_code == 200 and "shop.add" in page.text for page in shown)
    # A question to this server would take until its time-out.
    assert took < pages * ANSWER_SECONDS / 2


def test_a_long_outage_ends_like_a_short_one(
    tmp_path: Path, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = itertools.count()
    monkeypatch.setattr("exporters.events.receiver.delays", lambda: (0.001 for _ in attempts))
    with Redis(tmp_path / "redis") as server:
        running = start(server.url)
        running.until(lambda s: s.get("celery_exporter_broker_up") == 1)
        server.kill()
        # The number of attempts in two minutes.
        until(lambda: next(attempts) > 150, seconds=120)
        server.start()
        running.until(lambda s: s.get("celery_exporter_broker_up") == 1)
        until(running.ready, seconds=120)


def test_workers_are_not_declared_dead_while_disconnected(
    tmp_path: Path, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    with Redis(tmp_path / "redis") as server:
        running = start(server.url, worker_timeout=4)
        worker(server.url)
        running.until(lambda s: s.get("celery_worker_up") == 1)
        server.kill()
        running.until(lambda s: s.get("celery_exporter_broker_up") == 0)
        time.sleep(5)
        assert running.scrape().get("celery_worker_up") == 1


def test_malformed_frames_are_counted_and_harmless(broker: str, start: Callable[..., Running]) -> None:
    running = start(broker)
    until(lambda: requests.get(f"{running.url}/readyz", timeout=5).status_code == 200, seconds=120)
    frames = captured()
    with redis.Redis.from_url(broker) as client:
        for junk in (
            b"",
            b"\xff" * 100,
            b"{}",
            b"[1]",
            b'{"body": "%%%"}',
            frames[0][:100],
            b"[" * 1_000_000,
        ):
            client.publish("/0.celeryev/task.multi", junk)
        for frame in frames:
            client.publish("/0.celeryev/task.multi", frame)
    done = running.until(lambda s: s.get("celery_tasks_total", task="shop.add", state="succeeded") == 7)
    assert done.get("celery_exporter_events_undecodable_total") == 7
    assert done.get("celery_exporter_broker_up") == 1


def enveloped(body: Any) -> bytes:
    """A frame of the usual shape around any JSON."""
    return frame(json.dumps(body), "w@h", "task.multi")


def test_foreign_json_in_the_usual_envelope_interrupts_nothing(
    broker: str, start: Callable[..., Running]
) -> None:
    running = start(broker)
    until(running.ready, seconds=120)
    frames = captured()
    with redis.Redis.from_url(broker) as client:
        bodies: tuple[Any, ...] = ([1], [None], [[]], [], 5, "text", [{"type": "task-sent"}, "x"])
        for body in bodies:
            for one in frames:
                client.publish("/0.celeryev/task.multi", one)
            client.publish("/0.celeryev/task.multi", enveloped(body))
    done = running.until(lambda s: s.get("celery_tasks_total", task="shop.add", state="succeeded") == 7 * 7)
    until(
        lambda: running.scrape().get("celery_exporter_events_undecodable_total") == 7,
        seconds=120,
    )
    assert done.get("celery_exporter_disconnects_total") == 0
    assert done.get("celery_exporter_collect_errors_total", collector="events") == 0


def test_an_error_in_counting_is_reported_and_survived(
    broker: str, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(broker)
    until(running.ready, seconds=120)
    state = running.exporter.pipelines[0].state
    take, faults = state.take, iter([RuntimeError("a fault")])

    def faulty(*words: Any) -> None:
        for fault in faults:
            raise fault
        take(*words)

    monkeypatch.setattr(state, "take", faulty)
    send(broker, "shop.add")
    running.until(lambda s: s.get("celery_exporter_disconnects_total") == 1)
    until(running.ready, seconds=120)
    send(broker, "shop.add")
    after = running.until(lambda s: s.get("celery_tasks_total", state="sent") == 1)
    assert after.get("celery_exporter_events_complete") == 0
    assert after.get("celery_exporter_collect_errors_total", collector="events") == 1


def test_forced_loss_is_reported(tmp_path: Path) -> None:
    # A small buffer in Redis simulates a long pause.
    options = {"client-output-buffer-limit": "pubsub 1mb 1mb 1"}
    port = choose()
    with Redis(tmp_path / "redis", options=options) as server:
        exporter = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exporters",
                "serve",
                "--broker-url",
                server.url,
                "--port",
                str(port),
                "--host",
                "127.0.0.1",
            ],
            cwd=ROOT,
            env={**os.environ, "CELERY_EXPORTER_RENDER_INTERVAL": "0"},
            stderr=subprocess.DEVNULL,
        )
        try:
            running = Running.at(f"http://127.0.0.1:{port}")
            until(running.ready, seconds=120)
            load = generator(server, rate=4_000, seconds=5, tail=8)
            running.until(lambda s: (s.get("celery_task_started_total") or 0) > 100)
            exporter.send_signal(signal.SIGSTOP)
            with redis.Redis(port=server.port) as client:
                until(lambda: not client.pubsub_numpat(), seconds=120)
            exporter.send_signal(signal.SIGCONT)
            made = published(load)
            scraped = running.until(lambda s: s.get("celery_exporter_disconnects_total") == 1)
            lost = made["starts"] - scraped.get("celery_task_started_total")
            assert lost > 0
            running.until(lambda s: abs(s.get("celery_exporter_events_lost_total") - lost) <= 0.02 * lost)
            assert running.scrape().get("celery_exporter_events_complete") == 0
        finally:
            exporter.send_signal(signal.SIGCONT)
            exporter.kill()
            exporter.wait()


def poller(
    broker: str,
    state: EventState | None = None,
    clock: Callable[[], float] = time.time,
    configured: Sequence[str] = (),
    event_exchange: str = "celeryev",
    **options: Any,
) -> RedisPoller:
    settings = redis_settings(parse_broker(broker, options))
    return RedisPoller(
        settings, state or EventState(), clock=clock, configured=configured, event_exchange=event_exchange
    )


def message(task_id: str = "a", **headers: Any) -> str:
    return json.dumps({"body": "e30=", "headers": {"id": task_id, "task": "shop.add", **headers}})


def test_ages_from_header_event_and_first_poll(broker: str) -> None:
    state, base = EventState(), time.time()
    sent = Event(type="task-sent", uuid="sent", hostname="gen1@w", name="n", queue="q2", timestamp=base - 100)
    state.take([sent], 0.0, base)
    now = [base]
    with redis.Redis.from_url(broker) as client:
        client.lpush("q1", message(enqueued_at=base - 60))
        client.lpush("q2", message("sent"))
        client.lpush("q3", message("never heard of"))
        for n in (1, 2, 3):
            client.sadd(f"_kombu.binding.q{n}", f"q{n}\x06\x16\x06\x16q{n}")
        looking = poller(broker, state, clock=lambda: now[0])
        looking.poll()
        now[0] = base + 30
        ages = {name: queue.oldest_age for name, queue in looking.poll().queues.items()}
    assert ages == pytest.approx({"q1": 90, "q2": 130, "q3": 30}, abs=0.001)


def test_messages_without_an_id_are_not_taken_for_one_message(broker: str) -> None:
    """Celery's protocol 1 has no headers: a queue that moves must not look as if its oldest message stayed."""
    now = [time.time()]
    with redis.Redis.from_url(broker) as client:
        bind(client, "jobs", "jobs")
        looking = poller(broker, clock=lambda: now[0])
        ages = []
        for task_id, count in (("a", 1), ("b", 1), ("b", 0)):
            protocol_1 = {"body": "e30=", "headers": {}, "properties": {"correlation_id": task_id}}
            if count:
                client.delete("jobs")
                client.lpush("jobs", json.dumps(protocol_1))
            ages.append(looking.poll().queues["jobs"].oldest_age)
            now[0] += 30
    assert ages == [0, 0, 30]


def test_the_applications_header_gives_the_age_of_its_messages(broker: str) -> None:
    signal, before = celery.signals.before_task_publish, time.time()
    try:
        stamp_messages()
        stamp_messages()
        send(broker, "shop.add", countdown=0)
    finally:
        signal.disconnect(dispatch_uid="exporters.instrument")
    later = before + 3_600
    found = poller(broker, clock=lambda: later).poll().queues["default"]
    assert found.age_is_known
    assert found.oldest_age is not None
    assert 3_590 < found.oldest_age <= 3_600


def test_a_message_that_beat_signed_names_its_task(broker: str) -> None:
    state = EventState()
    with redis.Redis.from_url(broker) as client:
        bind(client, "jobs", "jobs")
        client.lpush("jobs", message(periodic_task_name="every minute"))
        poller(broker, state).poll()
    assert state.beat.names == {"shop.add"}


def test_unacked_per_queue_and_queues_without_consumers(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        client.sadd("_kombu.binding.shop", "mail.#\x06\x16\x06\x16mail")
        for n in range(3):
            client.hset("unacked", f"t{n}", json.dumps([json.loads(message()), "shop", "mail.#"]))
            client.zadd("unacked_index", {f"t{n}": n})
        client.hset("unacked", "odd", "no json")
        client.zadd("unacked_index", {"odd": 9})
        looking = poller(broker)
        queues = looking.poll().queues
        assert queues["mail"].unacked == 3
        assert queues["unknown"].unacked == 1
        client.delete("unacked", "unacked_index")
        assert looking.poll().queues["mail"].unacked == 0


def bind(client: redis.Redis, exchange: Any, *queues: Any) -> None:
    client.sadd(f"_kombu.binding.{exchange}", *(f"key\x06\x16\x06\x16{queue}" for queue in queues))


def test_event_and_broadcast_queues_are_not_shown_and_deleted_ones_disappear(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        bind(client, "shop-events", "any-name")
        bind(client, "celeryev", "celeryev.7d0c")
        bind(client, "news", "bcast.7d0c", "mail")
        bind(client, "jobs", "jobs")
        looking = poller(broker, configured=["wanted"], event_exchange="shop-events")
        assert set(looking.poll().queues) == {"jobs", "mail", "wanted"}
        client.delete("_kombu.binding.jobs")
        assert set(looking.poll().queues) == {"mail", "wanted"}


def test_queues_beyond_the_limit_are_counted(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.queues.redis.MAX_QUEUES", 3)
    found = poller(broker, configured=[f"q{n}" for n in range(5)]).poll()
    assert (len(found.queues), found.left_out) == (3, 2)


def test_separator_steps_and_prefix_are_settings(broker: str) -> None:
    options: dict[str, Any] = {"sep": ":", "priority_steps": [0, 5], "global_keyprefix": "shop/"}
    with redis.Redis.from_url(broker) as client:
        client.sadd("shop/_kombu.binding.mail", "mail:" + ":mail")
        client.lpush("shop/mail", message())
        client.lpush("shop/mail:5", message(), message())
        client.lpush("mail", message())
        assert poller(broker, **options).poll().queues["mail"].length == 3


def test_keys_that_are_not_lists_and_messages_that_are_not_json(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        client.sadd("_kombu.binding.x", "x\x06\x16\x06\x16x", "y\x06\x16\x06\x16y", "nonsense")
        client.set("x", "a string")
        client.lpush("y", b"\xff\xfe")
        found = poller(broker).poll()
    assert found.queues["y"].length == 1
    assert "x" not in found.queues
    (refused,) = found.refused
    assert refused.startswith("queue x: WRONGTYPE")


def test_what_the_user_may_not_read_is_an_error_and_not_empty(broker: str) -> None:
    """A user with rights on some queues only."""
    with redis.Redis.from_url(broker) as client:
        bind(client, "jobs", "ours", "theirs")
        client.lpush("ours", message())
        client.lpush("theirs", message())
        user, rules = "reads-ours", ["on", ">word", "+@all", "~_kombu.binding.*", "~ours*"]
        client.execute_command("ACL", "SETUSER", user, *rules)
        try:
            found = poller(broker.replace("//", f"//{user}:word@")).poll()
        finally:
            client.acl_deluser(user)
    assert {name: queue.length for name, queue in found.queues.items()} == {"ours": 1}
    assert found.queues["ours"].unacked is None
    assert [reason.split(":")[0] for reason in found.refused] == ["queue theirs", "key unacked_index"]


def test_remote_control_leaves_nothing_behind(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker, inspect_interval=1)
    worker(broker)
    running.until(lambda s: s.get("celery_worker_pool_size") == 2)
    running.exporter.stop()
    with redis.Redis.from_url(broker) as client:
        assert not [key for key in client.keys("*reply.celery.pidbox*") if client.type(key) == b"list"]
        assert not client.smembers("_kombu.binding.reply.celery.pidbox")
