"""The exporter against a real broker and real workers."""

import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
import requests
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from bench.exporter.frames import frame
from exporters.exposition import page as exposition
from exporters.exposition.families import gauge
from tests.exporters.exporterkit import Running, Worker, captured, send, until
from tests.sidecar.markup import Page


def test_tasks_workers_and_queues_of_a_real_worker(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker, inspect_interval=1)
    running.until(lambda s: s.get("celery_exporter_broker_up") == 1)  # it receives what is sent from now on
    # Before there is a worker: if a task starts before its task-sent event, its wait is unknown.
    send(broker, "shop.add", "shop.add", "shop.mail", "shop.fail", "shop.retry", "shop.reject")
    worker(broker)
    running.until(lambda s: s.get("celery_worker_up", hostname="worker-a@host-1") == 1)
    done = running.until(
        lambda s: (
            s.get("celery_tasks_total", state="failed") == 3
            and s.get("celery_tasks_total", state="succeeded") == 3
        )
    )
    assert done.get("celery_tasks_total", task="shop.add", queue="default", state="succeeded") == 2
    assert (
        done.get(
            "celery_task_succeeded_total", name="shop.mail", queue_name="mail", hostname="worker-a@host-1"
        )
        == 1
    )
    assert done.get("celery_task_failed_total", name="shop.fail", exception="ValueError") == 1
    assert done.get("celery_tasks_total", task="shop.retry", state="retried") == 1
    assert done.get("celery_tasks_total", task="shop.reject", state="rejected") == 1
    assert done.get("celery_task_runtime_count", name="shop.mail") == 1
    assert done.get("celery_task_runtime_seconds_bucket", task="shop.mail", le="0.025") == 0
    assert done.get("celery_task_queue_wait_seconds_count", task="shop.add") == 2
    assert done.get("celery_exporter_broker_up") == 1
    assert done.get("celery_exporter_events_complete") == 1
    asked = running.until(lambda s: s.get("celery_active_consumer_count", queue_name="mail") == 1)
    assert asked.get("celery_worker_pool_size", hostname="worker-a@host-1") == 2
    assert asked.get("celery_active_process_count", queue_name="default") == 2
    counted = running.until(lambda s: s.get("celery_worker_processed_total") == 7)
    assert counted.get("celery_exporter_events_lost_total") == 0


def test_queue_lengths_over_all_priority_lists(broker: str, start: Callable[..., Running]) -> None:
    running = start(broker)
    for priority in (0, 3, 6, 9):
        send(broker, "shop.add", priority=priority)
    send(broker, "shop.mail")
    scraped = running.until(lambda s: s.get("celery_queue_length") == 5)
    assert scraped.get("celery_queue_length", queue_name="default") == 4
    assert scraped.get("celery_queue_length", queue_name="mail") == 1
    assert (scraped.get("celery_queue_oldest_message_age_seconds", queue_name="default") or 0) > 0
    assert scraped.get("celery_queue_unacked", queue_name="default") == 0


def test_a_killed_worker_goes_down_while_its_twin_lives(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker, worker_timeout=4)
    first = worker(broker, "a@host-1")
    worker(broker, "b@host-1")
    running.until(lambda s: s.get("celery_worker_up") == 2)
    first.kill()
    gone = running.until(lambda s: s.get("celery_worker_up", hostname="a@host-1") == 0, seconds=120)
    assert gone.get("celery_worker_up", hostname="b@host-1") == 1
    page = Page(requests.get(running.url, timeout=30).content).text
    assert "Down: a@host-1" in page
    assert "workers up 1 of 2" in page
    assert "b@host-1 up" in page


def test_tasks_in_flight_at_a_restart_keep_their_names(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    worker(broker)
    send(broker, *["shop.nap"] * 6)
    send(broker, "shop.add", countdown=60)
    with redis.Redis.from_url(broker) as client:
        # The worker has all tasks: two run, the others wait.
        until(lambda: not client.llen("default"), seconds=120)
    running = start(broker, inspect_interval=5)
    done = running.until(lambda s: s.get("celery_tasks_total", state="succeeded") == 6)
    assert done.get("celery_tasks_total", task="shop.nap", queue="default", state="succeeded") == 6
    assert done.get("celery_tasks_total", task="unknown") is None
    assert done.get("celery_task_duplicate_starts_total") == 0
    assert done.get("celery_queue_eta_scheduled", queue_name="default") == 1


def test_formats_of_metrics_and_health(broker: str, start: Callable[..., Running]) -> None:
    running = start(broker)
    until(running.ready, seconds=120)  # it receives what is sent from now on
    send(broker, "shop.add")
    running.until(lambda s: s.get("celery_task_sent_total") and s.get("celery_queue_length"))
    answer = requests.get(
        f"{running.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=5
    )
    assert answer.headers["Content-Encoding"] == "gzip"
    names = {family.name for family in openmetrics(answer.text)}
    assert {"celery_tasks", "celery_queue_length"} <= names
    for path in ("/healthz", "/readyz", "/"):
        assert requests.get(f"{running.url}{path}", timeout=5).status_code == 200
    page = requests.get(running.url, timeout=5)
    assert "default" in Page(page.content).text
    assert "script" not in page.headers["Content-Security-Policy"]


def test_a_log_line_advises_when_workers_send_no_events(
    broker: str,
    start: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("exporters.service.GUIDE_SECONDS", 0.1)
    running = start(broker)
    until(running.ready, seconds=120)
    with redis.Redis.from_url(broker) as client:
        for processed in (7, 8, 9):
            beat = {
                "type": "worker-heartbeat",
                "hostname": "worker-a@host-1",
                "processed": processed,
                "active": 0,
                "timestamp": time.time() + 2 * processed,
            }
            body = frame(json.dumps(beat), "worker-a@host-1", "worker.heartbeat")
            client.publish("/0.celeryev/worker.heartbeat", body)
    until(lambda: "start them with -E" in requests.get(running.url, timeout=5).text, seconds=120)
    until(lambda: sum("start them with -E" in record.getMessage() for record in caplog.records), seconds=120)
    with redis.Redis.from_url(broker) as client:
        for one in captured():
            client.publish("/0.celeryev/task.multi", one)
    until(lambda: "start them with -E" not in requests.get(running.url, timeout=5).text, seconds=120)
    assert sum("start them with -E" in record.getMessage() for record in caplog.records) == 1


class Clocked:
    """A page with its own clock; each rendering shows its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, oldest: float = 1.0) -> None:
        self.now = 100.0
        self.rounds = 0
        monkeypatch.setattr(exposition, "monotonic", lambda: self.now)
        self.page = exposition.Page(self.collect, oldest=oldest)

    def collect(self) -> Any:
        self.rounds += 1
        return [gauge("round", "help", [("", self.rounds)])]

    def scrape(self, **form: Any) -> int:
        body = self.page.body(**form)
        return int((gzip.decompress(body) if form.get("packed") else body).split()[-1])

    def pass_time(self, seconds: float, tick: float = 0.25) -> None:
        for _ in range(int(seconds / tick)):
            self.now += tick
            self.page.renew()


def test_a_page_is_rendered_once_just_before_each_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    for _ in range(2):
        clocked.scrape()
        clocked.pass_time(15)
    rounds = clocked.rounds
    for number in range(10):
        assert clocked.scrape() == rounds + number
        clocked.pass_time(15)
    assert clocked.rounds == rounds + 10


def test_two_servers_that_scrape_in_turn_are_both_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    for _ in range(3):
        for gap in (4, 11):
            clocked.scrape()
            clocked.pass_time(gap)
    rounds = clocked.rounds
    for gap in (4, 11, 4, 11):
        clocked.scrape()
        # None was rendered by the scrape itself.
        assert clocked.rounds == rounds
        clocked.pass_time(gap)
        rounds = clocked.rounds


def test_every_form_of_the_page_is_rendered_from_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    for _ in range(3):
        clocked.scrape()
        clocked.scrape(packed=True)
        clocked.pass_time(15)
    assert clocked.scrape() == clocked.scrape(packed=True)


def test_a_page_that_is_not_renewed_is_not_served_as_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    assert clocked.scrape() == 1
    clocked.now += 2
    assert clocked.scrape() == 1
    clocked.now += 2
    assert clocked.scrape() == 2


def test_nothing_is_rendered_without_scrapes(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked = Clocked(monkeypatch)
    clocked.scrape()
    clocked.pass_time(15)
    clocked.scrape()
    rounds = clocked.rounds
    clocked.pass_time(3_600, tick=1.0)
    assert clocked.rounds <= rounds + 1


def test_the_page_is_rendered_in_the_background(broker: str, start: Callable[..., Running]) -> None:
    running = start(broker, render_interval=0.1)
    until(running.ready, seconds=120)
    send(broker, "shop.add")
    # At a steady interval, which the exporter learns.
    assert running.until(lambda s: s.get("celery_task_sent_total") == 1, pause=0.5)
    assert running.until(
        lambda s: s.get("celery_exporter_collect_duration_seconds", collector="render"), pause=0.5
    )
