"""The app as in production: gunicorn, workers and beat in separate processes, over HTTP and the broker."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import psycopg
import pytest
import requests

from stack.ports import choose
from stack.servers import Postgres, Redis
from stack.servers.service import Service
from stack.wait import wait_for


@pytest.fixture(scope="module")
def live(
    postgres: Postgres, redis_server: Redis, app_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The whole app with its own database and Redis database."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS app_live WITH (FORCE)")
        connection.execute("CREATE DATABASE app_live")
    stack = Live(
        folder=tmp_path_factory.mktemp("live"),
        app=app_folder,
        database=postgres.url_for("app_live"),
        broker=redis_server.url.rsplit("/", 1)[0] + "/2",
    )
    try:
        stack.start()
        yield stack
    finally:
        stack.kill()


class Live:
    def __init__(self, *, folder: Path, app: Any, database: Any, broker: Any) -> None:
        self.app = app
        self.env = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "config.settings.development",
            "DEBUG": "false",
            "DATABASE_URL": database,
            "REDIS_URL": broker,
            "CELERY_BROKER_URL": broker,
            "PUBLISH_DUE_INTERVAL": "1",
            "HOUSEKEEPING_INTERVAL": "1",
            "PUBLISH_STUCK_AFTER": "2",
            "API_THROTTLE_USER": "off",
        }
        api_port, self.metrics_port = choose(), choose()
        celery = (sys.executable, "-m", "celery", "-A", "config")

        def part(name: str, *arguments: Any, more: Any = None, **how: Any) -> Any:
            return Service(name, arguments, folder=folder, cwd=app, env=self.env | (more or {}), **how)

        self.api = part(
            "api",
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{api_port}"),
            *("--workers", "2", "config.wsgi:application"),
            port=api_port,
            ready="/health/",
        )
        self.general = part(
            "general",
            *(*celery, "worker", "-l", "INFO", "-n", "general@%h"),
            *("-Q", "default,quick,scheduled", "--concurrency=2"),
            ready_text="ready.",
        )
        self.ai = part(
            "ai",
            *(*celery, "worker", "-l", "INFO", "-n", "ai@%h", "-Q", "ai_jobs,ai_priority", "--concurrency=1"),
            ready_text="ready.",
            more={"WORKER_METRICS_PORT": str(self.metrics_port)},
        )
        self.beat = part(
            "beat",
            *(*celery, "beat", "-l", "INFO"),
            *("--scheduler", "django_celery_beat.schedulers:DatabaseScheduler"),
            ready_text="beat: Starting",
        )
        self.parts = (self.api, self.general, self.ai, self.beat)

    def manage(self, *arguments: Any) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.app, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        self.manage("migrate", "-v0")
        accounts = json.loads(self.manage("seed_demo", "--users", "2", "--json"))["users"]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Service.start, self.parts))
        self.paying, self.free = (Customer(self.api.url, account) for account in accounts)

    def kill(self) -> None:
        for part in self.parts:
            part.kill()


def until(condition: Any, what: Any, timeout: int = 30) -> None:
    wait_for(condition, timeout=timeout, what=what, hint="read the logs of the parts")


class Customer:
    def __init__(self, base: Any, account: Any) -> None:
        self.base, self.channel = base, account["channel"]
        self.headers = {"Authorization": f"Token {account['token']}"}

    def post(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.base}/api/v1/{path}", json=body, headers=self.headers, timeout=10)
        assert answer.ok, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        return requests.get(f"{self.base}/api/v1/{path}", headers=self.headers, timeout=10).json()

    def new_post(self, channel: Any = None) -> str:
        return self.post("posts/", channel=channel or self.channel, text="Hello")["id"]

    def status(self, path: str) -> str:
        return self.get(path)["status"]


def sample(base: Any, start: Any) -> float:
    lines = requests.get(f"{base}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(start))


def test_requests_become_tasks_on_all_five_queues(live: Any) -> None:
    now, soon = live.free.new_post(), live.free.new_post()
    live.free.post(f"posts/{now}/publish/")
    live.free.post(
        f"posts/{soon}/schedule/", scheduled_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    )
    for customer in (live.paying, live.free):
        job = customer.post("ai/captions/", prompt="Coffee")["id"]
        until(lambda c=customer, j=job: c.status(f"ai/jobs/{j}/") == "succeeded", "a caption")
    for post in (now, soon):
        until(lambda p=post: live.free.status(f"posts/{p}/") == "published", "published posts")
    until(
        lambda: live.free.get(f"channels/{live.free.channel}/")["published_count"] == 2, "the channel's total"
    )
    until(lambda: live.general.has_logged("Task monitoring.tasks.housekeeping["), "housekeeping")

    for task in ("publish_now", "publish_due", "publish_scheduled", "refresh_channel"):
        assert live.general.has_logged(f"Task posts.tasks.{task}["), task
    for task in ("run_job", "run_priority_job"):
        assert live.ai.has_logged(f"Task ai.tasks.{task}["), task
    assert not live.general.has_logged('"ERROR"')
    assert not live.ai.has_logged('"ERROR"')

    # The worker's own metrics include what happened in the processes of its pool.
    provider = 'posthub_ai_requests_total{outcome="success",provider="sandbox"}'
    assert sample(f"http://127.0.0.1:{live.metrics_port}", provider) >= 2
    health = requests.get(f"http://127.0.0.1:{live.metrics_port}/healthz", timeout=10)
    assert (health.status_code, health.text) == (200, "ok\n")


def test_metrics_add_up_over_processes_that_come_and_go(live: Any) -> None:
    url = live.api.url
    counter = (
        'django_http_responses_total_by_status_view_method_total{method="GET",status="200",view="api:me"}'
    )
    for _ in range(20):
        live.free.get("me/")
    assert {sample(url, counter) for _ in range(8)} == {20}
    assert sample(url, "django_migrations_unapplied_total") == 0

    psutil.Process(live.api.pid).children()[0].kill()
    until(lambda: len(psutil.Process(live.api.pid).children()) == 2, "a new gunicorn worker")
    assert sample(url, counter) == 20

    live.api.kill()
    live.api.start()
    assert sample(url, counter) == 0


def test_a_post_survives_the_death_of_its_process_and_of_its_worker(live: Any, outside: Any) -> None:
    """The customer's webhook stays open while the process that calls it is killed."""
    outside.will_answer(200, {"id": "theirs"})
    customer = live.free
    hook = customer.post("channels/", name="Hook", webhook_url=outside.url)["id"]

    def publish_and(kill: Any) -> Any:
        outside.hold, called = Event(), len(outside.requests)
        post = customer.new_post(channel=hook)
        customer.post(f"posts/{post}/publish/")
        until(lambda: len(outside.requests) > called, "the webhook called")
        kill()
        outside.hold.set()
        outside.hold = None
        return post

    def kill_the_pool() -> None:
        for child in psutil.Process(live.general.pid).children(recursive=True):
            child.kill()

    def kill_the_worker() -> None:
        live.general.kill()
        live.general.start()

    for kill in (kill_the_pool, kill_the_worker):
        post = publish_and(kill)
        until(lambda p=post: customer.status(f"posts/{p}/") == "published", "the post published")
        assert customer.get(f"posts/{post}/")["attempts"] == 2
        deliveries = [request for request in outside.requests if request.json["id"] == post]
        assert [request.headers["Idempotency-Key"] for request in deliveries] == [post, post]
