"""./ops itself, as a user calls it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.cli import VERBS
from stack.paths import ROOT


def ops(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([ROOT / "ops", *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("arguments", [("help",), ("--help",), ()])
def test_help_lists_every_verb_with_a_line(arguments: tuple[str, ...]) -> None:
    done = ops(*arguments)
    lines = [line.split() for line in (done.stdout + done.stderr).splitlines()]
    for verb in [*VERBS, "help"]:
        assert any(line[:1] == [verb] and len(line) > 3 for line in lines), verb


def test_help_explains_one_verb() -> None:
    done = ops("help", "demo")
    assert done.returncode == 0
    assert "--once" in done.stdout


def test_an_unknown_verb_is_wrong_usage() -> None:
    done = ops("dmeo")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["Error: No such command 'dmeo'.", "Try: ./ops --help"]


def test_the_tests_leave_nothing_in_the_temporary_folder(tmp_path: Path) -> None:
    outside = tmp_path / "tmp"
    outside.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "stack", "test", "-q", "-p", "no:cacheprovider", "tests/stack/test_demo_parts.py"],
        env={**os.environ, "TMPDIR": str(outside), "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert list(outside.iterdir()) == []


def test_help_exits_0() -> None:
    assert ops("help").returncode == 0
