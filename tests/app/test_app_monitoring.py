"""Health, metrics, logs, schedule, error reports."""

import gzip
import json
import logging
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django_celery_beat.models import PeriodicTask
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from monitoring import logs, schedule, scrape
from stack.servers import Postgres

pytestmark = pytest.mark.django_db


@contextmanager
def stopped(pid: Any) -> Iterator[None]:
    """A server that accepts connections and never answers: all its processes are stopped."""
    server = psutil.Process(pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.suspend()

    # A probe that waits without a limit is released after a while, and its answer fails the test.
    def resume() -> None:
        for process in processes:
            process.resume()

    release = threading.Timer(30, resume)
    release.start()
    try:
        yield
    finally:
        release.cancel()
        for process in reversed(processes):
            process.resume()


class TestHealth:
    @pytest.mark.parametrize("path", ["/health/", "/api/v1/health/"])
    def test_healthy(self, client: Client, messages: Callable[[str], list[Any]], path: str) -> None:
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        assert set(answer.json()["checks"]) == {"database", "redis", "migrations"}
        assert "no-store" in answer.headers["Cache-Control"]

    @pytest.mark.parametrize("down", ["REDIS_URL", "CELERY_BROKER_URL"])
    def test_redis_down(self, client: Client, settings: Any, down: str) -> None:
        """The cache and the broker may be two servers."""
        settings.REDIS_URL = settings.CELERY_BROKER_URL = "memory://"
        setattr(settings, down, "redis://:pa55word@127.0.0.1:1/0")
        answer = client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "Redis does not answer (ConnectionError)"
        assert "pa55word" not in answer.content.decode()

    def test_database_down(
        self, client: Client, messages: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from django.db import OperationalError

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise OperationalError('connection to server at "10.0.0.5", user "posthub" failed')

        monkeypatch.setattr(connection, "cursor", refuse)
        answer = client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["checks"]["database"]["reason"] == "database does not answer (OperationalError)"
        assert "10.0.0.5" not in answer.content.decode()

    def test_migrations_missing(
        self, client: Client, messages: Callable[[str], list[Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        MigrationRecorder.Migration.objects.filter(app="posts", name="0001_initial").delete()
        answer = client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["reason"] == "1 migrations not applied"
        (record,) = [record for record in caplog.records if "migrations not applied" in record.message]
        assert vars(record)["migrations"] == ["posts.0001_initial"]
        assert b"0001_initial" not in answer.content

    @pytest.mark.django_db(transaction=True)
    def test_a_hanging_database_does_not_block_a_probe(
        self, client: Client, messages: Callable[[str], list[Any]], postgres: Postgres
    ) -> None:
        connection.ensure_connection()
        # The start of a request does this to a connection that was kept from the previous one.
        connection.close_if_unusable_or_obsolete()
        with stopped(postgres.pid):
            answer = client.get("/health/")
        assert answer.status_code == 503
        assert answer.json()["reason"].startswith("database does not answer (")
        assert client.get("/health/").status_code == 200

    @pytest.mark.parametrize("path", ["/health/", "/api/v1/health/", "/metrics"])
    def test_only_probes_may_use_the_service_name(
        self, client: Client, messages: Callable[[str], list[Any]], settings: Any, path: str
    ) -> None:
        settings.ALLOWED_HOSTS = ["api.posthub.work"]
        assert client.get(path, headers={"host": "posthub_api_prod:8000"}).status_code == 200
        assert client.get("/api/v1/me/", headers={"host": "posthub_api_prod:8000"}).status_code == 400


class TestMetrics:
    def families(self, client: Client) -> Any:
        text = client.get("/metrics").content.decode()
        found = list(text_string_to_metric_families(text))
        assert len(found) == len({family.name for family in found})
        return {family.name: family for family in found}

    def test_requests_queries_models_and_migrations_are_exported(
        self, client: Client, api: APIClient, make_post: Callable[..., Any]
    ) -> None:
        make_post()
        api.get("/api/v1/me/")  # counted against the customer's throttle, in the cache
        found = self.families(client)
        for name in (
            "django_http_requests_latency_seconds_by_view_method",
            "django_http_responses_total_by_status_view_method",
            "django_db_execute",
            "django_model_inserts",
            "django_cache_get",
            "posthub_ai_requests",
            "posthub_publish_attempts",
        ):
            assert found[name].samples, name

    def test_every_task_that_may_be_sent_is_counted_from_the_start(self, counter: Callable[..., Any]) -> None:
        from config import celery_app

        celery_app.loader.import_default_modules()
        own = {name for name in celery_app.tasks if not name.startswith("celery.")}
        assert "posts.tasks.publish_scheduled" in own
        for task in own:
            assert counter("posthub_enqueue_failures_total", task=task) is not None, task

    def test_unapplied_migrations_are_counted_at_intervals(
        self, django_assert_num_queries: Callable[[int], Any]
    ) -> None:
        collector = scrape.MigrationsCollector(every=3600)
        value = lambda: next(iter(collector.collect())).samples[0].value  # noqa: E731 - short
        assert value() == 0
        MigrationRecorder.Migration.objects.filter(app="posts", name="0001_initial").delete()
        with django_assert_num_queries(0):
            assert value() == 0
        collector._count.forget()
        assert value() == 1

    def test_without_a_database_the_gauge_is_absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.db import OperationalError

        def refuse() -> None:
            raise OperationalError

        monkeypatch.setattr(scrape, "unapplied", refuse)
        collector = scrape.MigrationsCollector(every=3600, retry=0)
        assert next(iter(collector.collect())).samples == []
        monkeypatch.undo()
        assert next(iter(collector.collect())).samples[0].value == 0

    def test_videos_in_flight_are_counted_with_their_age(
        self, user: Any, django_assert_num_queries: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from django.db import OperationalError
        from django.utils import timezone

        from ai.models import AIJob, Operation
        from monitoring import operations

        collector = operations.OperationsCollector(every=3600, retry=0)
        shown = lambda: {family.name: [s.value for s in family.samples] for family in collector.collect()}  # noqa: E731 - short
        count, age = "posthub_video_operations", "posthub_video_operation_oldest_age_seconds"
        assert (shown()[count], round(shown()[age][0])) == ([0], 0)
        for minutes, status in ((5, "waiting"), (9, "running"), (60, "succeeded"), (60, "unknown")):
            job = AIJob.objects.create(owner=user, kind="video", provider="gemini", prompt="x", status=status)
            Operation.objects.create(job=job, intended_at=timezone.now() - timedelta(minutes=minutes))
        with django_assert_num_queries(0):
            assert shown()[count] == [0]
        collector._current.forget()
        assert shown()[count] == [2]
        assert 540 <= shown()[age][0] < 600

        def refuse() -> None:
            raise OperationalError

        collector._current.forget()
        monkeypatch.setattr(collector._current, "_read", refuse)
        assert shown() == {count: [], age: []}

    def test_a_scrape_is_cheap(self, client: Client, django_assert_num_queries: Callable[[int], Any]) -> None:
        client.get("/metrics")
        with django_assert_num_queries(0):
            client.get("/metrics")

    def test_unknown_paths_create_no_series(self, client: Client) -> None:
        for number in range(3):
            client.get(f"/nothing/{number}")
        assert "/nothing/" not in client.get("/metrics").content.decode()


class TestGunicornConfiguration:
    @pytest.fixture(autouse=True)
    def migrated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("config.startup.await_migrations", list)

    def test_the_app_is_loaded_before_the_workers_are_forked(self, app_folder: Path) -> None:
        """Loading it in each of four workers would take most of the start's CPU time. Clients of stores are loaded later."""
        program = """
import runpy, sys
import config.startup
config.startup.await_migrations = list
runpy.run_path("gunicorn.conf.py")["on_starting"](None)
print("posts.api" in sys.modules, "boto3" in sys.modules)
"""
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=app_folder,
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings.development"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.split() == ["True", "False"], done.stderr

    def test_old_files_are_deleted_at_start_but_not_at_a_re_execution(
        self, app_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
        config = runpy.run_path(str(app_folder / "gunicorn.conf.py"))
        stale = tmp_path / "counter_17.db"
        stale.touch()
        monkeypatch.setenv("GUNICORN_PID", "1")
        config["on_starting"](None)
        assert stale.exists()
        monkeypatch.delenv("GUNICORN_PID")
        config["on_starting"](None)
        assert not stale.exists()
        assert tmp_path.exists()

    def test_the_live_gauges_of_a_dead_worker_are_removed(
        self, app_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        config = runpy.run_path(str(app_folder / "gunicorn.conf.py"))
        gone, kept = tmp_path / "gauge_liveall_17.db", tmp_path / "counter_17.db"
        gone.touch()
        kept.touch()
        config["child_exit"](None, SimpleNamespace(pid=17))
        assert (gone.exists(), kept.exists()) == (False, True)
        config["on_exit"](SimpleNamespace(reexec_pid=0))
        assert kept.exists()

    def test_a_temporary_folder_is_removed_at_exit_unless_a_successor_uses_it(
        self, app_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
        monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        config = runpy.run_path(str(app_folder / "gunicorn.conf.py"))
        config["on_starting"](None)
        (folder,) = tmp_path.iterdir()
        config["on_exit"](SimpleNamespace(reexec_pid=4711))
        assert folder.exists()
        config["on_exit"](SimpleNamespace(reexec_pid=0))
        assert not folder.exists()


class TestSchedule:
    def entry(self, name: str) -> Any:
        return PeriodicTask.objects.select_related("interval").get(name=name)

    def test_the_schedules_exist_after_migrate(self) -> None:
        assert self.entry("publish-due").interval.every == 60
        assert self.entry("publish-due").task == "posts.tasks.publish_due"
        assert self.entry("housekeeping").enabled
        nightly = PeriodicTask.objects.get(name="billing-reconcile")
        assert (nightly.crontab.hour, nightly.crontab.minute) == ("3", "20")

    def test_an_operators_changes_are_kept(self) -> None:
        PeriodicTask.objects.filter(name="housekeeping").update(enabled=False)
        schedule.install()
        assert not self.entry("housekeeping").enabled
        assert PeriodicTask.objects.count() == 4

    def test_the_environment_has_priority(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.PUBLISH_DUE_INTERVAL = 5
        schedule.install()
        assert self.entry("publish-due").interval.every == 60
        monkeypatch.setenv("PUBLISH_DUE_INTERVAL", "5")
        schedule.install()
        schedule.install()
        assert self.entry("publish-due").interval.every == 5


class TestLogs:
    @pytest.fixture
    def line(self) -> Any:
        def write(message: Any, **fields: Any) -> Any:
            record = logging.LogRecord("posts", logging.INFO, __file__, 1, message, (), None)
            record.__dict__.update(fields)
            logs.ContextFilter().filter(record)
            return json.loads(logs.json_formatter().format(record))

        return write

    def test_a_line_names_its_request(self, line: Any) -> None:
        token = logs.request_id.set("abc-12345678")
        try:
            written = line("hello", post="17")
        finally:
            logs.request_id.reset(token)
        assert (written["message"], written["level"], written["logger"]) == ("hello", "INFO", "posts")
        assert (written["request_id"], written["post"]) == ("abc-12345678", "17")
        assert written["time"].endswith("+00:00")

    def test_text_for_people_is_one_line(self) -> None:
        record = logging.LogRecord(
            "posts", logging.INFO, __file__, 1, "from %s", ("a\nERROR x\r\x1b[2J\u2028é",), None
        )
        logs.ContextFilter().filter(record)
        written = logs.TextFormatter().format(record)
        assert r"INFO posts from a\nERROR x\r\x1b[2J\u2028é [request= task=]" in written
        assert len(written.splitlines()) == 1
        record.exc_info = (ValueError, ValueError("x"), None)
        assert len(logs.TextFormatter().format(record).splitlines()) == 2

    def test_a_line_in_a_task_names_task_and_request(self, line: Any) -> None:
        from posts.tasks import refresh_channel

        refresh_channel.push_request(id="task-1", request_id="abc-12345678")
        from celery import _state

        tasks: Any = vars(_state)["_task_stack"]

        tasks.push(refresh_channel)
        try:
            written = line("hello")
        finally:
            tasks.pop()
            refresh_channel.pop_request()
        assert (written["task_id"], written["task_name"]) == ("task-1", "posts.tasks.refresh_channel")
        assert written["request_id"] == "abc-12345678"

    def test_celerys_own_lines_name_the_task_and_show_no_arguments(self, line: Any) -> None:
        """Outside the task: "received", and a worker that was lost."""
        data = {
            "id": "task-1",
            "name": "posts.tasks.publish",
            "args": "('private',)",
            "kwargs": "{}",
            "runtime": 1.5,
        }
        record = logging.LogRecord(
            "celery.worker.strategy", logging.INFO, __file__, 1, "Task received", (), None
        )
        record.__dict__["data"] = data
        logs.ContextFilter().filter(record)
        text = logs.json_formatter().format(record)
        written = json.loads(text)
        assert (written["task_id"], written["task_name"]) == ("task-1", "posts.tasks.publish")
        assert written["data"] == {"runtime": 1.5}
        assert "private" not in text

    def test_requests_are_logged_and_probes_are_not(
        self, client: Client, messages: Callable[[str], list[Any]], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("INFO", "posthub.request"):
            client.get("/api/v1/me/")
            client.get("/health/")
            client.get("/metrics")
        (record,) = caplog.records
        logged = vars(record)
        assert (logged["path"], logged["status"], logged["method"]) == ("/api/v1/me/", 401, "GET")

    @pytest.mark.parametrize("given", ["short", "x" * 65, "bad id with spaces", 'in"jection-12'])
    def test_invalid_request_ids_are_replaced(
        self, client: Client, messages: Callable[[str], list[Any]], given: Any
    ) -> None:
        answered = client.get("/health/", headers={"x-request-id": given}).headers["X-Request-ID"]
        assert answered != given
        assert len(answered) == 32


def test_an_error_is_reported_to_sentry(outside: Any, app_folder: Path) -> None:
    """A mock of Sentry receives the report; nothing is sent without a DSN."""
    outside.will_answer(200, {"id": "1"})
    dsn = outside.url.replace("http://", "http://key@") + "/42"
    code = (
        "import django, logging; django.setup(); logging.getLogger('posts').error('lost a post');"
        "import sentry_sdk; sentry_sdk.flush()"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "config.settings.development", "SENTRY_DSN": dsn}
    subprocess.run(
        [sys.executable, "-c", code], cwd=app_folder, env=environment, check=True, capture_output=True
    )
    bodies = [
        gzip.decompress(request.body) if request.headers.get("Content-Encoding") == "gzip" else request.body
        for request in outside.requests
    ]
    assert any(b"lost a post" in body and b'"environment":"development"' in body for body in bodies)
