"""A video survives the death of its workers: one operation, one result. Real workers, a stand-in for the provider.

VIDEO_KILLS=4 kills less often.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from ai.providers.sample_video import mp4
from stack.servers import Postgres, Redis
from stack.servers.service import Service
from stack.standins import GeminiStandIn
from stack.standins.gemini import KEY
from stack.wait import wait_for

# Downloads take about two seconds, so that some kills come while one is in progress.
VIDEO = mp4(seconds=4, width=1280, height=720, payload=20 * 16 * 1024)
KILLS = int(os.environ.get("VIDEO_KILLS", "10"))
REQUEST = """
import json
from accounts.models import User
from ai import services
owner, _ = User.objects.get_or_create(username="ann")
print(json.dumps(str(services.request_video(owner, "A greenhouse", seconds=4).pk)))
"""


class Workers:
    """An AI worker, and one that runs beat and housekeeping, with their own database and broker."""

    def __init__(self, folder: Path, app: Path, database: str, broker: str, google: GeminiStandIn) -> None:
        self.app, self.database, self.media = app, database, folder / "media"
        self.env = {
            "PATH": os.environ["PATH"],
            "TMPDIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "config.settings.development",
            "DEBUG": "false",
            "DATABASE_URL": database,
            "REDIS_URL": broker,
            "CELERY_BROKER_URL": broker,
            "HOUSEKEEPING_INTERVAL": "1",
            "GEMINI_API_URL": google.url,
            "VEO_API_KEY": KEY,
            "MEDIA_STORE_URL": f"file://{self.media}",
            "AI_VIDEO_POLL": "0.2",
            "AI_TIMEOUT": "20",
            "AI_STUCK_AFTER": "3",
            "AI_DAILY_VIDEO_SECONDS_FREE": "1000",
        }
        celery = (sys.executable, "-m", "celery", "-A", "config", "worker", "-l", "INFO", "--concurrency=1")
        beat = ("-B", "-s", str(folder / "schedule"), "-Q", "default,scheduled,quick", "-n", "beat@%h")

        def part(name: str, *arguments: str) -> Service:
            command = (*celery, *arguments)
            return Service(name, command, folder=folder, cwd=app, env=self.env, ready_text="ready.")

        scheduler = ("--scheduler", "django_celery_beat.schedulers:DatabaseScheduler")
        self.ai = part("ai", "-Q", "ai_jobs,ai_priority", "-n", "ai@%h")
        self.beat = part("beat", *beat, *scheduler)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=self.app, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def request(self) -> str:
        wanted: str = json.loads(self.manage("shell", "--verbosity", "0", "--command", REQUEST))
        return wanted

    def ask(self, query: str, *values: Any) -> Any:
        with psycopg.connect(self.database) as connection:
            return connection.execute(query, values).fetchone()

    def status(self, job: str) -> str:
        return str(self.ask("SELECT status FROM ai_aijob WHERE id = %s", job)[0])

    def kill_process(self) -> None:
        """SIGKILL for the process that runs the task; the worker replaces it."""
        for child in psutil.Process(self.ai.pid).children(recursive=True):
            child.kill()

    def kill_worker(self) -> None:
        """SIGKILL for the whole worker, with the messages that it holds, and a new one."""
        self.ai.kill()
        self.ai.start()


def until(condition: Any, what: str) -> None:
    """Await a condition for longer than three of the pauses after a request that the busy stand-in did not answer in time."""
    wait_for(condition, timeout=240, what=what, hint="read the logs of the workers")


@pytest.fixture(scope="module")
def google() -> Iterator[GeminiStandIn]:
    with GeminiStandIn(video=VIDEO).running() as standin:
        yield standin


@pytest.fixture(scope="module")
def workers(
    postgres: Postgres,
    redis_server: Redis,
    app_folder: Path,
    google: GeminiStandIn,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Workers]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS app_video WITH (FORCE)")
        connection.execute("CREATE DATABASE app_video")
    broker = redis_server.url.rsplit("/", 1)[0] + "/3"
    folder = tmp_path_factory.mktemp("video")
    parts = Workers(folder, app_folder, postgres.url_for("app_video"), broker, google)
    parts.manage("migrate", "-v0")
    try:
        parts.ai.start()
        parts.beat.start()
        yield parts
    finally:
        parts.ai.kill()
        parts.beat.kill()


@pytest.mark.timeout(600)
def test_kills_at_random_moments_leave_one_operation_and_one_result(
    workers: Workers, google: GeminiStandIn
) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    google.operations.clear()
    google.operation_seconds, google.piece_seconds = 1000, 0.1
    # The first kill comes in the worst moment: the provider has accepted, and its answer does not reach the worker.
    google.answering.clear()
    job = workers.request()
    until(lambda: len(google.operations) == 1, "the operation accepted")
    workers.kill_process()
    google.answering.set()
    for number in range(1, KILLS):
        if number == KILLS // 2:
            # From here on the kills hit looks at a finished operation, downloads and uploads.
            google.operations[0].end = 0
        time.sleep(dice.uniform(0, 1.2))
        workers.kill_worker() if number % 4 == 3 else workers.kill_process()
    google.piece_seconds = 0
    until(
        lambda: workers.status(job) not in ("queued", "running", "waiting"),
        f"the end of the job (seed {seed})",
    )
    error = workers.ask("SELECT error FROM ai_aijob WHERE id = %s", job)[0]
    assert workers.status(job) == "succeeded", (seed, error)
    assert len(google.operations) == 1, seed
    assets = "SELECT count(*), max(size) FROM media_asset WHERE id = %s"
    assert workers.ask(assets, job) == (1, len(VIDEO)), seed
    # Drafts that a killed worker left begin with a dot; only the complete file counts.
    (file,) = (path for path in workers.media.rglob("original"))
    assert file.read_bytes() == VIDEO


@pytest.mark.timeout(300)
def test_without_a_list_such_a_kill_ends_in_doubt_and_never_in_a_second_operation(
    workers: Workers, google: GeminiStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(google, "lists", False)
    google.operations.clear()
    google.operation_seconds = 0
    google.answering.clear()
    job = workers.request()
    until(lambda: len(google.operations) == 1, "the operation accepted")
    workers.kill_process()
    until(lambda: workers.status(job) == "unknown", "the job in doubt")
    google.answering.set()
    error = workers.ask("SELECT error FROM ai_aijob WHERE id = %s", job)[0]
    assert error == "a worker died while it started the video"
    # Housekeeping has run since, and leaves it alone.
    runs = workers.beat.log.read_text(encoding="utf-8").count("housekeeping done")
    until(
        lambda: workers.beat.log.read_text(encoding="utf-8").count("housekeeping done") > runs + 1,
        "housekeeping",
    )
    assert (workers.status(job), len(google.operations)) == ("unknown", 1)
    workers.manage("resume_video", job, google.operations[0].name)
    until(lambda: workers.status(job) == "succeeded", "the continued job")
    assert len(google.operations) == 1
