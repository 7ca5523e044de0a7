"""Every way in which a task ends, on real workers: the events, and what is counted.

The table of docs/exporter-ends.md is compared with what the workers of the installed Celery send.
"""

import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import celery
import pytest
import redis
from celery import Celery

from tests.exporters.exporterkit import HERE, Running, Scraped, Worker, send, until

PAGE = HERE.parents[1] / "docs" / "exporter-ends.md"
SENT_EVENTS = {"task_send_sent_event": True, "task_default_queue": "default"}
# The order of events that different processes send is not fixed.
FIRST = ("sent", "received", "started")


def documented(pool: str) -> Any:
    """The rows of a pool's table: how the task ends → (the events, what is counted)."""
    text = PAGE.read_text().partition(f"## {pool}\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "shop." in line
    ]
    newer = not celery.__version__.startswith("5.6.")
    return {row[0].strip("`"): (row[2 + newer].split(), row[4 + newer].split()) for row in rows}


def ordered(kinds: Iterable[str]) -> list[str]:
    """The events with those of one kind together: their order across processes is random."""
    return sorted(kinds, key=lambda kind: (kind not in FIRST, FIRST.index(kind) if kind in FIRST else 0))


def counted(page: Scraped, task: str) -> list[str]:
    """The states of a task that are not 0, and its exception classes."""
    states = {
        s.labels["state"]: int(s.value)
        for s in page.samples
        if s.name == "celery_tasks_total" and s.labels["task"] == task
    }
    classes = [
        f"{s.labels['exception']}={int(s.value)}"
        for s in page.samples
        if s.name == "celery_task_failures_total" and s.labels["task"] == task
    ]
    return [f"{state}={count}" for state, count in states.items() if count] + classes


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_the_documented_ends_of_tasks(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker], pool: str
) -> None:
    rows = documented(pool)
    assert rows, f"{PAGE} has no table for {pool}"
    running = start(broker)
    seen: list[dict[str, Any]] = []
    running.exporter.pipelines[0].receiver.watch = seen.extend
    until(running.ready, seconds=30)
    worker(broker, pool=pool)
    with Celery("client", broker=broker, set_as_current=False) as client:
        client.conf.update(SENT_EVENTS)
        ids = {name: client.send_task(name).id for name in rows}

    def events(name: str) -> list[str]:
        return [event["type"].removeprefix("task-") for event in seen if event.get("uuid") == ids[name]]

    def all_there() -> bool:
        return all(len(events(name)) >= len(expected) for name, (expected, _) in rows.items())

    try:
        until(all_there, seconds=60)
    finally:
        print({name: events(name) for name in rows})
    # None comes after the last one.
    time.sleep(1)
    found = {name: ordered(events(name)) for name in rows}
    assert found == {name: ordered(expected) for name, (expected, _) in rows.items()}
    page = running.scrape()
    assert {name: sorted(counted(page, name)) for name in rows} == {
        name: sorted(states) for name, (_, states) in rows.items()
    }, page.text
    assert page.get("celery_exporter_events_undecodable_total") == 0


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
