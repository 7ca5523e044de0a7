"""Every way in which a task ends, on real workers: the events that come, and what is counted.

The tables of docs/exporter-ends.md are compared with what the workers of the installed Celery send. With
UPDATE_EXPORTER_ENDS=1 in the environment, they are written instead: for a new Celery version.
"""

import contextlib
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from celery import Celery

from tests.exporters.endspage import Row, documented, is_same, update
from tests.exporters.exporterkit import Running, Scraped, Worker, send, until

SENT_EVENTS = {"task_send_sent_event": True, "task_default_queue": "default"}
# Not as a separate task: under the ID of the task that it replaces.
REPLACED = {"shop.replacement": "shop.replaced"}
# Sent to a separate worker, which does not survive them.
APART = {"shop.lost": "lost", "shop.cold": "cold"}
# Tasks that are acted on while they wait or run.
STAGED = {"shop.revoked", "shop.recalled", "shop.expired", "shop.terminated", "shop.redelivered", "shop.warm"}
MAIN, COLD, LOST = "main@host-1", "cold@host-1", "lost@host-1"
SHUT_DOWN = {"shop.warm": MAIN, "shop.cold": COLD}
ANY_END = {"succeeded", "failed", "revoked", "rejected"}
# An ignored task sends no end; a crashed one is run again.
ENDS = {"shop.ignore": {"started"}, "shop.crashed": {"succeeded"}}
LAST = "test-end"


def counted(page: Scraped, task: str) -> list[str]:
    """What is not 0 of a task: its states, exception classes, reasons of revocations, and starts of a second run."""
    states = [
        f"{s.labels['state']}={int(s.value)}"
        for s in page.samples
        if s.name == "celery_tasks_total" and s.labels["task"] == task and s.value
    ]
    details = [
        f"{s.labels[label]}={int(s.value)}"
        for name, label in (("failures", "exception"), ("revocations", "reason"))
        for s in page.samples
        if s.name == f"celery_task_{name}_total" and s.labels["task"] == task and s.value
    ]
    twice = page.get("celery_task_duplicate_starts_total", task=task)
    return states + details + ([f"duplicate={int(twice)}"] if twice else [])


class Stage:
    """The workers of one pool, a client, and the events that the exporter saw."""

    def __init__(self, url: str, running: Running, client: Any, pool: str) -> None:
        self.url = url
        self.running = running
        self.client = client
        self.pool = pool
        # Any: its answers are texts, which its types do not express.
        self.store: Any = redis.Redis.from_url(url, decode_responses=True)
        self.seen: list[dict[str, Any]] = []
        running.exporter.pipelines[0].receiver.watch = self.seen.extend
        self.ids: dict[str, str] = {}

    def send(self, name: str, **options: Any) -> None:
        self.ids[name] = self.client.send_task(name, queue=APART.get(name, "default"), **options).id

    def events(self, name: str) -> list[str]:
        """The events of a task, and the shutdown event of the worker that is shut down while it runs."""
        key, node = self.ids[name], SHUT_DOWN.get(name)
        return [
            event["type"].removeprefix("task-").removeprefix("worker-")
            for event in self.seen
            if event.get("uuid") == key or (event["type"] == "worker-offline" and event["hostname"] == node)
        ]

    def has_ended(self, name: str) -> bool:
        kinds = self.events(name)
        if name == "shop.redelivered":
            return kinds.count("succeeded") == 2
        return bool(ENDS.get(name, ANY_END) & set(kinds))

    def await_ends(self) -> None:
        """Wait until every task that should end has ended."""
        names = set(self.ids) - set(APART)
        try:
            until(lambda: all(map(self.has_ended, names)), seconds=120)
        finally:
            print({name: self.events(name) for name in names if not self.has_ended(name)})

    def await_event(self, name: str, *kinds: str) -> None:
        until(lambda: set(kinds) & set(self.events(name)), seconds=120)

    def await_run(self, name: str) -> None:
        """Wait until a task runs and its worker has reported that; a solo worker reports nothing before the end."""
        until(lambda: self.store.exists(f"runs:{self.ids[name]}"), seconds=120)
        if self.pool != "solo":
            self.await_event(name, "started")

    # Actions on tasks

    def revoke_before(self) -> None:
        key = self.ids["shop.revoked"] = str(uuid.uuid4())
        self._revoke("shop.revoked")
        self.send("shop.revoked", task_id=key)

    def recall(self) -> None:
        """Revoke a task that waits in the worker for its eta."""
        self.send("shop.recalled", countdown=5)
        self.await_event("shop.recalled", "received")
        self._revoke("shop.recalled")

    def terminate(self) -> None:
        self.await_run("shop.terminated")
        self.client.control.revoke(self.ids["shop.terminated"], terminate=True)

    def redeliver(self) -> None:
        """Put a message back on its queue while it runs, as kombu does after the visibility timeout."""
        self.await_run("shop.redelivered")
        key, messages = self.ids["shop.redelivered"], self.store.hgetall("unacked")
        (tag,) = [tag for tag, message in messages.items() if json.loads(message)[0]["headers"]["id"] == key]
        with self.client.connection_for_write() as link, link.channel() as channel:
            channel.qos.restore_by_tag(tag)

    def shut_down(self, name: str, worker: Worker, signum: signal.Signals) -> None:
        """Send a signal to a worker while it runs a task, and wait for its end."""
        self.send(name)
        self.await_run(name)
        if signum != signal.SIGKILL:
            worker.process.send_signal(signum)
            # A solo worker of Celery 5.6 does not end by SIGQUIT.
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(30)
        worker.kill()

    def flush(self) -> None:
        """Wait until every event of the workers that have ended was counted."""
        with self.client.connection_for_write() as link, self.client.events.Dispatcher(link) as dispatcher:
            dispatcher.send(LAST)
        until(lambda: any(event["type"] == LAST for event in self.seen), seconds=120)

    def _revoke(self, name: str) -> None:
        """Revoke it until every worker has replied: one that is ready may not listen to requests yet."""

        def replies() -> Any:
            return self.client.control.revoke(self.ids[name], reply=True, timeout=2, limit=3) or []

        until(lambda: len(replies()) == 3, seconds=120)


def ends_of(stage: Stage, crew: Callable[[], list[Worker]], names: Iterable[str]) -> dict[str, Row]:
    """The events of each task, and the counts, once all of them have ended."""
    plain = [name for name in names if name not in {*STAGED, *REPLACED, *APART}]
    stage.send("shop.expired", expires=datetime.now(UTC) + timedelta(seconds=0.1))
    main, cold, lost = crew()
    stage.revoke_before()
    stage.recall()
    for name in [*plain, "shop.redelivered", "shop.terminated"]:
        stage.send(name)
    for name, other in REPLACED.items():
        stage.ids[name] = stage.ids[other]
    stage.redeliver()
    stage.terminate()
    stage.shut_down("shop.lost", lost, signal.SIGKILL)
    stage.shut_down("shop.cold", cold, signal.SIGQUIT)
    stage.await_ends()
    stage.shut_down("shop.warm", main, signal.SIGTERM)
    stage.flush()
    page = stage.running.scrape()
    assert page.get("celery_exporter_events_undecodable_total") == 0
    return {name: (stage.events(name), counted(page, name)) for name in names}


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_the_documented_ends_of_tasks(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker], pool: str
) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent", reason="no gevent: install locks/dev.txt")
    rows = documented(pool)
    assert rows, f"no table for {pool}"
    running = start(broker)
    until(running.ready, seconds=120)

    def crew() -> list[Worker]:
        kinds = {MAIN: ("default", 8), COLD: ("cold", 1), LOST: ("lost", 1)}
        workers = [
            worker(broker, node, wait=False, pool=pool, queues=queue, concurrency=size)
            for node, (queue, size) in kinds.items()
        ]
        for one in workers:
            one.must_be_ready()
        return workers

    with Celery("client", broker=broker, set_as_current=False) as client:
        client.conf.update(SENT_EVENTS)
        stage = Stage(broker, running, client, pool)
        found = ends_of(stage, crew, rows)
    if "UPDATE_EXPORTER_ENDS" in os.environ:
        update(pool, found)
        return
    wrong = {name: (row, rows[name]) for name, row in found.items() if not is_same(row, rows[name])}
    assert wrong == {}


def test_a_clean_shutdown_loses_no_worker(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker, worker_timeout=4)
    busy = worker(broker)
    with Celery("client", broker=broker, set_as_current=False) as client:
        client.conf.update(SENT_EVENTS)
        client.send_task("shop.nap")
    running.until(
        lambda s: (
            s.get("celery_worker_tasks_active") == 1 or s.get("celery_tasks_total", state="started") == 1
        )
    )
    busy.process.terminate()
    stopping = running.until(lambda s: s.get("celery_worker_stopping") == 1)
    assert stopping.get("celery_worker_up") == 1
    assert stopping.get("celery_worker_tasks_active") == 1
    gone = running.until(lambda s: s.get("celery_worker_up") is None)
    assert gone.get("celery_tasks_total", task="shop.nap", state="succeeded") == 1
    with redis.Redis.from_url(broker) as client:
        assert client.llen("default") == 0


def test_a_cold_shutdown_returns_its_tasks_under_their_names(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker)
    until(running.ready, seconds=120)
    busy = worker(broker)
    send(broker, "shop.late")
    running.until(lambda s: s.get("celery_tasks_total", task="shop.late", state="started") == 1)
    busy.process.send_signal(signal.SIGQUIT)
    running.until(lambda s: s.get("celery_exporter_events_total", type="task-cancelled") == 1)
    worker(broker, "worker-b@host-1")
    done = running.until(lambda s: s.get("celery_tasks_total", state="succeeded") == 1)
    states = {
        state: done.get("celery_tasks_total", task="shop.late", state=state)
        for state in ("started", "succeeded")
    }
    assert states == {"started": 2, "succeeded": 1}
    assert done.get("celery_tasks_total", task="unknown") is None
    assert done.get("celery_task_duplicate_starts_total") == 0
