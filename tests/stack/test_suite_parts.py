"""The suite's own parts, without the suite."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from sidecar import OpsError
from stack import ports
from stack.demo import story
from stack.demo.results import Outcome, Results
from stack.demo.story import Story
from stack.demo.traffic import Customer, Traffic
from stack.paths import ROOT
from stack.programs import postgres_bin
from stack.servers import Postgres, Redis
from stack.suite import Suite, addresses, environments, monitoring, scratch
from stack.suite.control import Control
from stack.suite.supervisor import Supervisor
from stack.wait import wait_for

COMMAND = """
import os, sys
from pathlib import Path
from stack.suite.commands import run_command
run_command([sys.executable, "-m", "backup", *sys.argv[2:]], env=os.environ, log=Path(sys.argv[1]))
"""


def running_in(folder: Path) -> list[str]:
    """Processes whose command line names the folder."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for a socket, wherever the tests' own folders are."""
    folder = scratch.choose(tmp_path_factory.mktemp("s"))
    scratch.make(folder)
    yield folder
    scratch.clear(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_verification_stops_its_server(
    postgres: Postgres, tmp_path: Path, short: Path, number: signal.Signals
) -> None:
    (tmp_path / "store").mkdir()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(short),
        "BACKUP_DATABASE_URLS": f"posthub={postgres.url}",
        "BACKUP_STORE_URL": f"file://{tmp_path / 'store'}",
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
    }
    subprocess.run([sys.executable, "-m", "backup", "run"], env=env, check=True, cwd=ROOT)
    caller = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path / "log"), "verify"],
        env=env,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    wait_for(
        lambda: list(short.glob("posthub-verify-*/**/server.log")),
        timeout=60,
        what="the throwaway server",
        hint="run backup verify by hand",
    )
    caller.send_signal(number)
    caller.wait(30)
    # A killed caller cannot wait; the reaper does it a moment later.
    patience = 0 if number == signal.SIGINT else 60
    wait_for(
        lambda: not running_in(short), timeout=patience, what="the server ending", hint="see run_command"
    )
    wait_for(
        lambda: not list(short.glob("posthub-verify-*")),
        timeout=patience,
        what="its folder going",
        hint="see backup/verify/cluster.py",
    )


def test_the_temporary_folder_is_removed_with_its_processes(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    scratch.make(place)
    orphan = place / "orphan"
    orphan.write_text("#!/bin/sh\necho $$ >>$0.pid\nsleep 600\n")
    subprocess.Popen(["/bin/sh", str(orphan)], start_new_session=True)
    wait_for(orphan.with_suffix(".pid").exists, timeout=150, what="the orphan", hint="none")
    scratch.clear(place)
    assert running_in(place) == []
    assert not place.exists()


def test_socket_paths_fit_however_deep_the_suite_is(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    assert scratch.choose(Path("/srv/suite")) == Path("/srv/suite/tmp")
    with socket.socket(socket.AF_UNIX) as server:
        place = scratch.choose(deep)
        scratch.make(place)
        folder = place / "posthub-verify-12345678"
        folder.mkdir()
        server.bind(str(folder / ".s.PGSQL.5432"))
        scratch.clear(place)


def test_only_the_inbox_is_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTMANAGER_SLACK_URL", "https://slack.invalid/real")
    monkeypatch.setenv("ALERTMANAGER_WEBHOOK_URL_FILE", "/run/secrets/webhook")
    chosen = addresses.choose_all(usual=False)
    env = environments.machine(tmp_path)
    monitoring.write(tmp_path / "monitoring", chosen, "http://127.0.0.1:9/", 60, env=env)
    written = (tmp_path / "monitoring/alertmanager.yml").read_text()
    assert "http://127.0.0.1:9/" in written
    assert "slack" not in written


def test_alerts_about_the_pace_of_the_machine_are_left_out() -> None:
    def alerts(document: dict[str, Any]) -> set[str]:
        return {rule["alert"] for group in document["groups"] for rule in group["rules"] if "alert" in rule}

    document = yaml.safe_load((ROOT / "alerts/rules/monitoring.yml").read_text())
    before = alerts(document)
    assert before - alerts(monitoring.patient(document)) == {"PrometheusRulesSlow", "TargetFlapping"}


def test_a_usual_port_that_is_taken_is_avoided(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ports.HOST, 0)) as other:
        taken = other.getsockname()[1]
        monkeypatch.setitem(addresses.USUAL, "redis", taken)
        assert addresses.choose_all(usual=True)["redis"] != taken


def test_a_part_that_died_is_restarted(tmp_path: Path) -> None:
    lines: list[str] = []
    with Redis(tmp_path / "redis") as server:
        supervisor = Supervisor(lines.append, Control(tmp_path / "control"))
        supervisor.watch(server)
        supervisor.start()
        first = server.pid
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: lines, timeout=150, what="the restart", hint="see the supervisor")
        supervisor.stop()
        assert server.running
        assert server.pid != first
    assert lines == [f"redis ended and was restarted; its log is {server.log}"]


def test_a_part_that_cannot_start_does_not_end_the_supervision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    server = Redis(tmp_path / "redis")
    monkeypatch.setattr(server, "prepare", (tmp_path / "missing").read_text)
    supervisor = Supervisor(lines.append, Control(tmp_path / "control"))
    supervisor.watch(server)
    supervisor.start()
    wait_for(lambda: len(lines) > 1, timeout=150, what="a second attempt", hint="see the supervisor")
    supervisor.stop()
    assert "cannot be restarted: [Errno 2] No such file" in lines[0]


def test_an_unfinished_step_is_reported_before_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(story, "LONGEST_WAIT", 0.3)
    results = Results(factor=1)
    with Traffic("http://127.0.0.1:9", []) as traffic:
        # Prometheus of a suite that was never started does not answer; only that is awaited.
        steps = Story(Suite(tmp_path), traffic, Customer("x", "x", "x"), lambda _: None).run()
        results.steps.append(next(steps))
        with pytest.raises(OpsError, match="a report from Prometheus did not happen"):
            next(steps)
    (first,) = results.document()["steps"]
    assert (first["title"], first["passed"]) == ("Real traffic, seen by Prometheus", False)


def test_a_step_fails_if_requests_of_customers_failed(tmp_path: Path) -> None:
    class Short(Story):
        steps = (("A step", lambda: Outcome(("done",), {}, passed=True)),)

    nobody = f"http://127.0.0.1:{ports.choose()}"
    with Traffic(nobody, [Customer("demo1", "token", "channel")]) as traffic:
        wait_for(lambda: traffic.failures, timeout=150, what="a failed request", hint="see Traffic")
        (step,) = Short(Suite(tmp_path), traffic, Customer("x", "x", "x"), lambda _: None).run()
    assert not step.outcome.passed
    assert "refused or failed meanwhile" in step.outcome.lines[-1]
