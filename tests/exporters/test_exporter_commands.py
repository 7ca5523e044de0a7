"""The commands check, queues and events, and the errors on wrong usage."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis

from exporters.cli import exporters
from exporters.decode import typed
from exporters.pipeline import Pipeline
from exporters.queues.model import Queue, Snapshot
from exporters.report import Findings, fill, judge
from exporters.settings import ExporterSettings
from exporters.terminal import event_line
from sidecar.cli import run
from tests.exporters.exporterkit import HERE, Worker, send, until

ROOT = HERE.parents[1]


def command(*words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporters", *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_check_lists_what_to_fix(broker: str, worker: Callable[..., Worker]) -> None:
    worker(broker, events=False, queues="default")
    send(broker, "shop.mail", "shop.mail")
    words = ["check", "--broker-url", broker, "--seconds", "14", "--json"]
    checking = subprocess.Popen(
        [sys.executable, "-m", "exporters", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with redis.Redis.from_url(broker) as client:
        until(lambda: client.pubsub_numpat() > 0, seconds=120)
    # Tasks that start while it listens show that no event announces them.
    until(lambda: send(broker, "shop.add") and checking.poll() is not None, seconds=120, pause=0.5)
    (found,) = json.loads(checking.communicate(timeout=30)[0])
    assert checking.returncode == 1
    assert found["subscribed"]
    assert [w["node"] for w in found["workers"]] == ["worker-a@host-1"]
    assert found["workers"][0]["up"]
    problems = " ".join(found["problems"])
    assert "workers run tasks but send no task events" in problems
    assert "queue mail has 2 messages and no consumer" in problems


def test_check_of_a_healthy_system_without_traffic(broker: str, worker: Callable[..., Worker]) -> None:
    worker(broker)
    send(broker, "shop.add")
    with redis.Redis.from_url(broker) as client:
        until(lambda: not client.llen("default"), seconds=120)
    done = command("check", "--broker-url", broker, "--seconds", "5")
    assert done.returncode == 0, done.stdout


def test_check_with_an_unreachable_broker() -> None:
    done = command("check", "--broker-url", "redis://:hidden-word@127.0.0.1:1/0", "--seconds", "0.5")
    assert done.returncode == 1
    # One line each, in a pipe too.
    *_, problem, hint = done.stdout.splitlines()
    assert problem.startswith("Error: not subscribed to task events: Error 111 connecting to 127.0.0.1:1.")
    assert hint == "Try: check the URL, the password and that the broker runs"
    assert "hidden-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_queues_table_and_json(broker: str) -> None:
    send(broker, "shop.add", "shop.mail", "shop.mail")
    done = command("queues", "--broker-url", broker, "--json")
    assert {q["queue"]: q["length"] for q in json.loads(done.stdout)} == {"default": 1, "mail": 2}
    assert "mail" in command("queues", environ={"CE_BROKER_URL": broker}).stdout


def test_an_age_that_a_single_poll_cannot_determine_is_unknown(broker: str) -> None:
    with redis.Redis.from_url(broker) as client:
        for name, headers in (("undated", {}), ("dated", {"enqueued_at": time.time() - 60})):
            client.sadd(f"_kombu.binding.{name}", f"{name}\x06\x16\x06\x16{name}")
            client.lpush(name, json.dumps({"body": "", "headers": {"id": "x", "task": "t", **headers}}))
    done = command("queues", "--broker-url", broker, "--json")
    ages = {q["queue"]: q["oldest_seconds"] for q in json.loads(done.stdout)}
    assert ages["undated"] is None
    assert ages["dated"] >= 60


def test_names_from_events_are_neither_markup_nor_control_characters(broker: str) -> None:
    name = "q[/b]\x1b[31m"
    with redis.Redis.from_url(broker) as client:
        client.sadd("_kombu.binding.q", f"q\x06\x16\x06\x16{name}")
    done = command("queues", "--broker-url", broker)
    assert done.returncode == 0, done.stderr
    assert "q[/b]�[31m" in done.stdout


def test_queues_with_an_unreachable_broker() -> None:
    done = command("queues", "--broker-url", "redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: broker redis://127.0.0.1:1/0 does not answer")
    assert "Try:" in done.stderr


def test_events_are_followed(broker: str) -> None:
    words = ["events", "--broker-url", broker, "--type", "task-sent", "--seconds", "5", "--json"]
    listening = subprocess.Popen(
        [sys.executable, "-m", "exporters", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with redis.Redis.from_url(broker) as client:
        until(lambda: client.pubsub_numpat() > 0, seconds=120)
    send(broker, "shop.add")
    out, _ = listening.communicate(timeout=30)
    assert {json.loads(line)["name"] for line in out.splitlines()} == {"shop.add"}


def test_events_with_an_unreachable_broker() -> None:
    done = command("events", "--broker-url", "redis://127.0.0.1:1/0", "--seconds", "0.5")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: broker redis://127.0.0.1:1/0: not subscribed")
    assert "Try:" in done.stderr


def test_events_stops_when_its_output_is_closed(broker: str) -> None:
    words = [sys.executable, "-m", "exporters", "events", "--broker-url", broker, "--json"]
    listening = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with redis.Redis.from_url(broker) as client:
        until(lambda: client.pubsub_numpat() > 0, seconds=120)
    assert listening.stdout and listening.stderr  # noqa: PT018 - for mypy
    listening.stdout.close()
    until(lambda: send(broker, "shop.add") and listening.poll() is not None, seconds=120)
    assert "Traceback" not in listening.stderr.read()


@pytest.mark.parametrize(
    "words",
    [
        ("serve",),
        ("serve", "--broker-url", "http://x"),
        ("serve", "--broker-url", "redis://x/notanumber"),
        ("serve", "--broker-url", "sentinel://x"),
        ("serve", "--broker-url", "a=redis://x", "--broker-url", "a=redis://y"),
        ("serve", "--broker-url", "redis://x", "--port", "99999"),
        ("serve", "--broker-url", "redis://x", "--broker-transport-option", "nonsense"),
        ("serve", "--broker-url", "redis://x", "--web.config.file", "/does/not/exist"),
        ("nonsense",),
    ],
)
def test_usage_errors_exit_2_with_a_hint(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, str, str, str, str] | tuple[str, str, str] | tuple[str],
) -> None:
    for name in ("CELERY_EXPORTER_BROKER_URL", "CE_BROKER_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    assert run(exporters, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "Try: " in error


def test_event_line_is_readable() -> None:
    line = event_line(
        {"type": "task-failed", "timestamp": 1.5, "uuid": "u", "hostname": "w@h", "exception": "E()"}
    )
    assert "task-failed" in line
    assert "exception=E()" in line
    assert event_line({}).startswith("?")
    odd = {"type": None, "timestamp": 1e20, "hostname": ["w"], "name": "a\x1b[31m\nb"}
    assert event_line(odd).startswith("? None")
    assert event_line(odd).isprintable()


def stalled(**changes: int) -> Pipeline:
    """A pipeline whose worker holds tasks that wait for their eta, while others wait in the queue."""
    shape = {"active": 0, "scheduled": 8, "length": 17} | changes
    settings = ExporterSettings.load({}, broker_url="amqp://h//")
    pipeline = Pipeline(settings.brokers()[0], settings)
    state, now = pipeline.state, time.time()
    beat = {
        "type": "worker-heartbeat",
        "hostname": "w@h",
        "timestamp": now,
        "processed": 0,
        "active": shape["active"],
    }
    later = datetime.fromtimestamp(now + 50, UTC).isoformat()
    held = [{"id": str(n), "name": "shop.add", "eta": later} for n in range(shape["scheduled"])]
    received = [{"type": "task-received", "uuid": one["id"], "hostname": "w@h", **one} for one in held]
    state.take([typed(event) for event in [beat, *received]], time.monotonic(), now)
    worker = state.roster.workers["w@h"]
    worker.pool_size, worker.queues, worker.queues_known = 2, ("default",), True
    pipeline.queues.update(Snapshot({"default": Queue(length=shape["length"], consumers=1)}))
    return pipeline


@pytest.mark.parametrize(
    ("changes", "is_stalled"),
    [({}, True), ({"active": 1}, False), ({"scheduled": 7}, False), ({"length": 0}, False)],
)
def test_check_names_a_prefetch_that_is_full_of_later_tasks(
    changes: dict[str, int], is_stalled: bool
) -> None:
    """RabbitMQ 4 with a classic queue: workers are idle, and nothing behind their eta tasks is delivered."""
    pipeline, found = stalled(**changes), Findings("b", "amqp://h//", True, "", 5)
    fill(found, pipeline)
    judge(found, pipeline)
    assert any("wait for their eta" in problem for problem in found.problems) == is_stalled
    assert any("quorum queues" in hint for hint in found.hints) == is_stalled


@pytest.mark.parametrize(
    ("undecodable", "decodable", "is_named"), [(20, 3, True), (20, 40, False), (2, 0, False)]
)
def test_check_names_events_that_are_pickled(undecodable: int, decodable: int, is_named: bool) -> None:
    pipeline, found = stalled(), Findings("b", "amqp://h//", True, "", 5)
    pipeline.state.undecodable, pipeline.state.types = undecodable, {"worker-heartbeat": decodable}
    judge(found, pipeline)
    assert ("most events cannot be decoded" in found.problems) == is_named
    assert any("event_serializer" in hint for hint in found.hints) == is_named


def test_a_prefetch_count_that_the_broker_does_not_apply_is_not_shown() -> None:
    pipeline = stalled()
    pipeline.state.roster.workers["w@h"].prefetch = 16
    for is_global in (True, False):
        pipeline.receiver.prefetch_is_global = is_global
        shown = any(
            line.startswith("celery_worker_prefetch_count")
            for family in pipeline.families()
            for line in family.lines
        )
        assert shown == is_global
