"""The owner's commands before and after a backup."""

import os
import secrets
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from backup.errors import DumpError
from backup.hooks import not_startable, run_command, shown
from backup.settings import BackupSettings
from sidecar import UsageError
from sidecar.logs import MASK
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.restorekit import Command

SCRIPT = """#!/bin/sh
echo "$1 $HOOK_DATABASE $HOOK_KIND $HOOK_OUTCOME $HOOK_ERROR" >> {log}
env >> {log}.env
{then}
"""


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def script(folder: Path, name: str, then: str = "exit 0") -> str:
    path = folder / f"{name} hook.sh"
    path.write_text(SCRIPT.format(log=folder / "log", then=then))
    path.chmod(0o755)
    return f"'{path}' {name}"


def lines(folder: Path) -> list[str]:
    return [line.rstrip() for line in (folder / "log").read_text().splitlines()]


def test_both_commands_run_without_secrets(command: Command, database: str, tmp_path: Path) -> None:
    command.passed(
        "run",
        BACKUP_BEFORE_COMMAND=script(tmp_path, "before"),
        BACKUP_AFTER_COMMAND=script(tmp_path, "after"),
        AWS_SECRET_ACCESS_KEY="sesame",
    )
    assert lines(tmp_path) == [f"before {database} postgres", f"after {database} postgres success"]
    seen = (tmp_path / "log.env").read_text()
    assert "sesame" not in seen
    assert "DATABASE_URL" not in seen


def test_a_failed_before_command_prevents_the_backup(command: Command, database: str, tmp_path: Path) -> None:
    done = command(
        "run",
        BACKUP_BEFORE_COMMAND=script(tmp_path, "before", "echo the queue does not stop; exit 3"),
        BACKUP_AFTER_COMMAND=script(tmp_path, "after"),
    )
    reason = "BACKUP_BEFORE_COMMAND exited with code 3: the queue does not stop"
    done.fails(1, reason)
    assert lines(tmp_path) == [f"before {database} postgres", f"after {database} postgres failure {reason}"]
    assert command("list", "--json").json == []


def test_a_backup_counts_even_if_the_after_command_failed(command: Command, tmp_path: Path) -> None:
    command.passed("run", BACKUP_AFTER_COMMAND=script(tmp_path, "after", "exit 4"))
    (entry,) = command("list", "--json").json
    assert entry["state"] == "unverified"
    attempts = list((tmp_path / "store").rglob("attempts/*"))
    assert any(b"BACKUP_AFTER_COMMAND exited with code 4" in path.read_bytes() for path in attempts)


def test_the_after_command_also_runs_when_the_run_is_stopped(environ: dict[str, str], tmp_path: Path) -> None:
    more = {
        "BACKUP_BEFORE_COMMAND": script(tmp_path, "before", "exec sleep 60"),
        "BACKUP_AFTER_COMMAND": script(tmp_path, "after"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "backup", "run"], env={**os.environ, **environ, **more}, stderr=subprocess.PIPE
    ) as process:
        wait_for((tmp_path / "log").exists, timeout=150, what="the command before", hint="its log")
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 143
    assert lines(tmp_path)[-1].endswith("failure Ended")


def test_a_command_that_cannot_run_is_reported_beforehand(command: Command, environ: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="BACKUP_AFTER_COMMAND"):
        BackupSettings.load({**environ, "BACKUP_AFTER_COMMAND": "echo 'x"})
    for operator in ("&&", "|", ">log", "2>&1", ";"):
        with pytest.raises(UsageError, match="no shell runs it"):
            BackupSettings.load({**environ, "BACKUP_AFTER_COMMAND": f"stop {operator} start"})
    for fine in ("sh -c 'stop && start'", "curl http://a/?b=1&c=2", r"find . -exec rm {} \;", r"it\'s"):
        assert BackupSettings.load({**environ, "BACKUP_AFTER_COMMAND": fine}).after_command == fine
    checks = command("doctor", "--json", BACKUP_BEFORE_COMMAND="/nowhere/stop-the-queue now").json
    (found,) = [each for each in checks if each["name"] == "BACKUP_BEFORE_COMMAND"]
    assert (found["ok"], found["detail"]) == (False, "/nowhere/stop-the-queue is not an executable program")


def test_no_form_of_a_secret_is_shown() -> None:
    """It may contain blanks, and be printed as a URL has it."""
    password = "two  blanks@home"
    output = [f"login {password}", "postgresql://u:two%20%20blanks%40home@db/x", "the\tend"]
    assert shown(output, [password]) == f"login {MASK} postgresql://u:{MASK}@db/x the end"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\necho\n", ""),
        (b"#! /usr/bin/env  sh\n", ""),
        (b"\x7fELF\n", ""),
        (b"echo no first line\n", "has no line #!"),
        (b"", "has no line #!"),
        (b"#!/bin/sh\r\necho from Windows\r\n", r"is missing: '/bin/sh\r'"),
        (b"#!/nowhere/python\n", "is missing: '/nowhere/python'"),
    ],
)
def test_scripts_that_the_kernel_would_not_start(content: bytes, reason: str, tmp_path: Path) -> None:
    (script := tmp_path / "hook").write_bytes(content)
    found = not_startable(script)
    assert reason in found if reason else not found


def test_a_command_that_was_killed_has_no_exit_code(tmp_path: Path) -> None:
    (script := tmp_path / "hook").write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    with pytest.raises(DumpError, match=r"BACKUP_AFTER_COMMAND was killed by signal 9$"):
        run_command("BACKUP_AFTER_COMMAND", str(script), {}, lambda: None, 60)


def test_output_has_neither_secrets_nor_bytes_that_the_next_command_cannot_get(
    command: Command, postgres: Postgres, database: str, tmp_path: Path
) -> None:
    """A command that prints a zero byte must not keep the one after it, which may start the application again, from running."""
    role, password = f"hook_{secrets.token_hex(3)}", secrets.token_hex(8)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'".encode())
    done = command(
        "run",
        DATABASE_URL=postgres.url_for(database).replace("posthub:posthub@", f"{role}:{password}@"),
        BACKUP_BEFORE_COMMAND=script(tmp_path, "before", f"printf 'no\\000login: {password}'; exit 3"),
        BACKUP_AFTER_COMMAND=script(tmp_path, "after"),
    )
    reason = "BACKUP_BEFORE_COMMAND exited with code 3: no\\x00login: ********"
    done.fails(1, reason)
    assert lines(tmp_path)[-1] == f"after {database} postgres failure {reason}"
    stored = [path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert stored
    assert not any(password.encode() in each for each in stored)


def test_what_a_command_has_started_is_stopped_with_it(tmp_path: Path) -> None:
    """Otherwise it could freeze the application after the second command has released it."""
    (script := tmp_path / "hook").write_text(
        f"#!/bin/sh\nsh -c 'echo $$ > {tmp_path}/pid; sleep 600; exit 0'\nexit 0\n"
    )
    script.chmod(0o755)

    def started() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise DumpError("stopped", hint="")

    with pytest.raises(DumpError, match="stopped"):
        run_command("BACKUP_BEFORE_COMMAND", str(script), {}, started, 60)
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not alive(pid), timeout=30, what="the end of its child", hint=f"process {pid}")


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False
