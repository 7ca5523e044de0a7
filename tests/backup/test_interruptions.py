"""A verification, a restore and a drill, interrupted at random moments from the first millisecond on.

``INTERRUPTIONS=300 ./ops test tests/backup/test_interruptions.py`` interrupts 300 times; a usual run, three times.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from backup.catalogue.manifest import Server
from backup.load import definitions, lanes, passes, pg_restore
from backup.postgres.databases import WORKING, Databases
from sidecar.signals import orderly_end
from stack.paths import ROOT
from stack.servers import Postgres
from tests.backup.restorekit import Command, names

COUNT = int(os.environ.get("INTERRUPTIONS", "3"))
# The signals with which people, systemd and a lost terminal end a command.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
COMMANDS = (("verify", "latest"), ("restore", "latest", "--again"), ("drill",))


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A background process of a shell ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(
    environ: dict[str, str], arguments: tuple[str, ...], after: float, number: signal.Signals
) -> tuple[int, str]:
    """Start a command and send a signal after some seconds; returns the exit code and what it printed to stderr."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backup", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(after)
    process.send_signal(number)
    _, printed = process.communicate(timeout=120)
    return process.returncode, printed


def ours(printed: str) -> bool:
    """Whether there is a traceback. Before it runs our code, Python prints one of its own for Ctrl-C."""
    return f'File "{ROOT}' in printed or "Exception in" in printed or "Exception ignored" in printed


def leftovers(work: Path, postgres: Postgres) -> list[str]:
    """What an interrupted command has left: folders, processes in them, and unfinished databases."""
    # The folder of this host's locks stays.
    locks = f"posthub-backup-{os.getuid()}"
    found = [str(path) for path in work.rglob("*") if path.name != locks and path.suffix != ".lock"]
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = " ".join(process.info["cmdline"] or []) + str(process.info["cwd"] or "")
        if str(work) in command:
            found.append(f"{process.pid} {command[:200]}")
    return found + names(postgres, WORKING)


@pytest.mark.timeout(3600)
def test_nothing_is_left_behind(
    environ: dict[str, str],
    postgres: Postgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    environ = {**environ, "BACKUP_WORK_DIR": str(work), "TMPDIR": str(work)}
    command = Command(environ, monkeypatch, capsys)
    command.passed("run")
    lengths = []
    for arguments in COMMANDS:
        began = time.monotonic()
        command(*arguments).passes()
        lengths.append(time.monotonic() - began + 1)
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    codes: dict[int, int] = {}
    end = time.monotonic() + float(os.environ.get("INTERRUPTIONS_SECONDS", "3000"))
    for number in range(COUNT):
        which = number % len(COMMANDS)
        after, sent = dice.uniform(0.001, lengths[which]), dice.choice(SIGNALS)
        code, printed = interrupted(environ, COMMANDS[which], after, sent)
        codes[code] = codes.get(code, 0) + 1
        what = (seed, number, COMMANDS[which], after, sent, code)
        assert leftovers(work, postgres) == [], what
        assert not ours(printed), (what, printed)
        with capsys.disabled():
            print(number, COMMANDS[which][0], f"{after:.3f}", sent.name, code, flush=True)
        if time.monotonic() > end:
            break
    with capsys.disabled():
        print("codes", codes, flush=True)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_two_sessions_create_definitions(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    """Both sessions are in a statement that would not end for an hour."""
    create, both = definitions.create_lanes, threading.Barrier(2, timeout=60)
    sessions: list[str] = []

    def endless(_: bytes) -> Iterator[bytes]:
        sessions.append(threading.current_thread().name)
        if both.wait() == 0:
            # Sooner or later than the statements begin: it must end either way.
            threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        yield b"SELECT pg_sleep(3600)"

    def lanes_of(*arguments: Any) -> list[bool]:
        monkeypatch.setattr(definitions, "messages", endless)
        return create(*arguments)

    (work := tmp_path / "work").mkdir()
    command = Command({**environ, "BACKUP_WORK_DIR": str(work)}, monkeypatch, capsys)
    command.passed("run")
    for module, name, value in ((passes, "MANY_TABLES", 1), (lanes, "LEAST", 1), (lanes, "LARGEST_SHARE", 1)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(pg_restore, "create_lanes", lanes_of)
    with orderly_end():
        done = command("verify", "latest", BACKUP_RESTORE_JOBS="2")
    assert done.status == 128 + number, done
    assert "Traceback" not in done.err
    assert len(set(sessions)) == 2
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_when_the_database_was_just_created(
    environ: dict[str, str],
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
) -> None:
    """The server may finish CREATE DATABASE although it is interrupted."""
    create = Databases.create

    def interrupted_after(server: Databases, name: str, like: Server) -> None:
        create(server, name, like)
        signal.raise_signal(number)

    command = Command(environ, monkeypatch, capsys)
    command.passed("run")
    monkeypatch.setattr(Databases, "create", interrupted_after)
    with orderly_end():
        assert command("restore", "latest").status == 128 + number
    assert names(postgres, WORKING) == []
