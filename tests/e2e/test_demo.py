"""``./ops demo`` as a newcomer runs it: every step passes, and nothing is left behind however it ends."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stack import web
from stack.demo.story import QUEUES
from stack.paths import ROOT
from stack.wait import wait_for

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("whole-stack")]


def command(folder: Path, *options: str) -> list[str]:
    return [str(ROOT / "ops"), "demo", "--random-ports", "--folder", str(folder), *options]


def left_running(folder: Path) -> list[str]:
    """The processes whose output goes into the folder, as that of a demo's children does, or that work in it."""
    return [
        f"{process.name} {line}"
        for process in Path("/proc").glob("[0-9]*")
        for output, line in [seen(process)]
        if output.startswith(str(folder)) or f" {folder}" in line
    ]


def seen(process: Path) -> tuple[str, str]:
    """Where its output goes, and its command line without the first word; nothing once it has ended."""
    try:
        line = (process / "cmdline").read_bytes().replace(bytes(1), b" ").decode()
        return str((process / "fd/1").readlink()), line
    except OSError:
        return "", ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's home folder and the system's temporary one, as far as the demo sees them."""
    return tmp_path_factory.mktemp("outside")


@pytest.fixture(scope="module")
def demo(folder: Path, outside: Path) -> dict[str, Any]:
    if web.why_not() is None:
        web.build()  # npm reads how to reach its registry in the real home folder
    env = {**os.environ, "HOME": str(outside), "TMPDIR": str(outside)}
    done = subprocess.run(command(folder, "--once", "--json"), capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_every_step_passed(demo: dict[str, Any]) -> None:
    assert [step["passed"] for step in demo["steps"]] == [True] * 5
    assert demo["passed"]


def test_traffic_ran_tasks_on_every_queue_and_prometheus_saw_them(demo: dict[str, Any]) -> None:
    traffic = demo["steps"][0]
    assert traffic["requests"] > 20
    assert traffic["request_failures"] == 0
    assert set(traffic["queue_lengths"]) >= set(QUEUES)
    assert all(traffic["tasks"][queue] > 0 and traffic["task_rates"][queue] > 0 for queue in QUEUES)
    assert set(traffic["targets"].values()) == {"up"}


def test_the_backup_was_taken_and_is_smaller_than_the_dump(demo: dict[str, Any]) -> None:
    backup = demo["steps"][1]
    assert 0 < backup["stored_bytes"] < backup["raw_bytes"]
    assert backup["bytes_per_second"] > 0


def test_the_restore_was_compared_without_a_difference(demo: dict[str, Any]) -> None:
    proof = demo["steps"][2]
    assert proof["differences"] == []
    assert proof["tables"] > 10
    assert proof["rows"] > 40_000
    assert proof["restore_seconds"] > 0


def test_the_damage_was_detected_and_reported(demo: dict[str, Any]) -> None:
    damage = demo["steps"][3]
    assert damage["object"] in json.dumps(damage["differences"])
    assert 0 < damage["seconds_to_notification"] < 120
    assert 0 < damage["seconds_to_resolved"] < 300


def test_the_killed_worker_was_detected_and_reported(demo: dict[str, Any]) -> None:
    worker = demo["steps"][4]
    assert 0 < worker["seconds_to_seen"] <= worker["seconds_to_notification"] < 120
    assert 0 < worker["seconds_to_resolved"] < 120


@pytest.mark.skipif(web.why_not() is not None, reason=f"no web frontend: {web.why_not()}")
def test_the_web_frontend_is_listed_first(demo: dict[str, Any]) -> None:
    assert next(iter(demo["urls"])) == "PostHub"


def test_the_demo_leaves_nothing_running(demo: dict[str, Any], folder: Path) -> None:
    assert left_running(folder) == []


def test_the_demo_leaves_nothing_outside_its_folder(demo: dict[str, Any], outside: Path) -> None:
    assert list(outside.iterdir()) == []


def test_every_component_has_its_own_log(demo: dict[str, Any], folder: Path) -> None:
    logs = {path.stem for path in (folder / "logs").glob("*.log")}
    assert logs >= {
        "postgres", "redis", "s3", "api", "worker", "worker-ai", "beat", "exporter", "backup", "prometheus",
        "alertmanager", "inbox",
    }  # fmt: skip


def test_sigterm_ends_everything(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        command(tmp_path / "demo"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(
        lambda: len(left_running(tmp_path)) > 4,
        timeout=120,
        what="the first servers",
        hint="run ./ops demo by hand",
    )
    demo.send_signal(signal.SIGTERM)
    out, _ = demo.communicate(timeout=60)
    assert demo.returncode == 128 + signal.SIGTERM, out
    assert left_running(tmp_path) == []
    assert "Traceback" not in out


def test_a_failed_start_says_why_and_leaves_nothing_running(tmp_path: Path) -> None:
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho no memory today; exit 3\n")
    broken.chmod(0o755)
    env = {**os.environ, "PATH": f"{broken.parent}:{os.environ['PATH']}"}
    done = subprocess.run(command(tmp_path / "demo", "--json"), capture_output=True, text=True, env=env)
    assert done.returncode == 1
    results = json.loads(done.stdout)
    assert not results["passed"]
    assert "no memory today" in results["error"]
    assert "Error: redis ended at once with exit code 3:\nno memory today" in done.stderr
    assert "Traceback" not in done.stderr
    assert left_running(tmp_path) == []
