"""./ops itself, as a user calls it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from stack import gates
from stack.cli import VERBS
from stack.paths import ROOT
from stack.wait import wait_for

LONG = """
import os, time
from pathlib import Path


def test_long(tmp_path):
    (tmp_path / "something").touch()
    Path("{started}").write_text(str(os.getpid()))
    time.sleep(60)
"""
FATAL = """
import os, signal
import pytest


@pytest.mark.parametrize("number", range(120))
def test_one(number):
    if number == 60:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def ops(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROOT / "ops", *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("arguments", [("help",), ("--help",), ()])
def test_help_lists_every_command(arguments: tuple[str, ...]) -> None:
    done = ops(*arguments)
    lines = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    for verb in [*VERBS, "help"]:
        assert any(line[:1] == [verb] and len(line) > 3 for line in lines), verb


def test_help_explains_one_command() -> None:
    done = ops("help", "demo")
    assert done.returncode == 0
    assert "--once" in done.stdout


def test_an_unknown_command_is_wrong_usage() -> None:
    done = ops("dmeo")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["Error: No such command 'dmeo'.", "Try: ./ops --help"]


def test_the_tests_leave_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    outside = tmp_path / "tmp"
    outside.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "stack",
            "test",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/stack/test_demo_parts.py",
        ],
        env={**os.environ, "TMPDIR": str(outside), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert list(outside.iterdir()) == []


def test_help_exits_0() -> None:
    assert ops("help").returncode == 0


def test_it_is_found_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "ops"
    link.symlink_to(ROOT / "ops")
    assert subprocess.run([link, "help"], capture_output=True, timeout=300).returncode == 0


def test_arguments_that_pytest_does_not_accept_are_wrong_usage() -> None:
    done = ops("test", "--no-such-option")
    assert done.returncode == 2
    assert "Error: pytest does not accept these arguments" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda one: one.name)
def test_whatever_ends_the_tests_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    outside, started = tmp_path / "tmp", tmp_path / "pid"
    outside.mkdir()
    (tmp_path / "test_long.py").write_text(LONG.format(started=started), encoding="utf-8")
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "stack",
            "test",
            "-q",
            "-p",
            "no:cacheprovider",
            str(tmp_path / "test_long.py"),
        ],
        env={**os.environ, "TMPDIR": str(outside), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    pid = wait_for(
        lambda: started.read_text() if started.exists() else None, timeout=60, what="the test", hint=""
    )
    child.send_signal(number)
    assert child.wait(150) == 128 + number
    assert not psutil.pid_exists(int(pid))
    assert list(outside.iterdir()) == []


def test_pytest_keeps_the_settings_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Mapping[str, str]] = []

    def attended(*_: object, env: Mapping[str, str], **__: object) -> int:
        given.append(env)
        return 0

    monkeypatch.setattr(gates, "attended", attended)
    monkeypatch.setenv(gates.NOT_PASSED, "config.settings.production")
    monkeypatch.setenv("PYTHONUTF8", "1")
    assert CliRunner().invoke(gates.test, ["tests/stack"], standalone_mode=False).return_value == 0
    assert [(env["PYTHONUTF8"], gates.NOT_PASSED in env) for env in given] == [("1", False)]


def test_a_process_that_dies_ends_the_whole_run(tmp_path: Path) -> None:
    """The test that killed it is named."""
    (tmp_path / "test_fatal.py").write_text(FATAL)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *gates.whole_run(), str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout
    assert "crashed while running 'test_fatal.py::test_one[60]'" in done.stdout


@pytest.mark.parametrize(
    ("chosen", "least", "limit", "in_memory"),
    [
        ("", 4000, "max", True),
        ("", 4000, "5000", True),
        ("", 4000, "3000", False),
        ("", 1 << 60, "max", False),
        ("/var/tmp", 4000, "max", False),
    ],
)
def test_temporary_files_are_in_memory_where_there_is_plenty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: str, least: int, limit: str, in_memory: bool
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(gates, "CONTAINER_LIMITS", (tmp_path / "memory.max", tmp_path / "none"))
    monkeypatch.setattr(gates, "MEMORY", tmp_path)
    monkeypatch.setattr(gates, "ROOMY", least)
    monkeypatch.delenv("TMPDIR", raising=False)
    if chosen:
        monkeypatch.setenv("TMPDIR", chosen)
    commands: list[Sequence[str]] = []

    def attended(command: Sequence[str], **_: object) -> int:
        commands.append(command)
        return 0

    monkeypatch.setattr(gates, "attended", attended)
    assert CliRunner().invoke(gates.test, ["tests/stack"], standalone_mode=False).return_value == 0
    (folder,) = [word for word in commands[0] if word.startswith("--basetemp=")]
    assert folder.startswith(f"--basetemp={tmp_path}/") == in_memory
