"""restore-redis.sh on a real server with an append-only file, which would hide the restored keys if the script ignored it."""

import os
import shutil
import signal as signals
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from stack.paths import ROOT
from stack.programs import find, postgres_bin
from stack.servers import Redis
from stack.suite.control import Control
from stack.suite.supervisor import Supervisor
from stack.wait import wait_for
from tests.ended import ended

pytest.importorskip("pyrage")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stack"


@pytest.fixture
def durable(folder: Path, request: pytest.FixtureRequest) -> Iterator[Redis]:
    options = {"appendonly": "yes", "repl-diskless-sync-delay": "0", "databases": "2000"}
    options |= getattr(request, "param", {})
    with Redis(folder / "redis", options=options) as server:
        yield server


@pytest.fixture
def env(durable: Redis, folder: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of commands, and a supervisor that follows the script's requests. Workers exist only by name."""
    control = Control(folder / "control")
    (tmp_path / "store").mkdir()
    env = {
        "PATH": f"{find('redis-cli').parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BACKUP_REDIS_URLS": f"broker={durable.url}",
        "TMPDIR": tempfile.gettempdir(),
        "BACKUP_STORE_URL": f"file://{tmp_path / 'store'}",
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        "BACKUP_REDIS_BIN": str(find("redis-server").parent),
        "ALERTMANAGER_URL": "http://127.0.0.1:9",
        "OPS_PYTHON": sys.executable,
        "OPS_REDIS_FOLDER": str(durable.folder),
        "OPS_REDIS_SERVER": str(find("redis-server")),
        "OPS_REDIS_CLI": str(find("redis-cli")),
    }
    control.write("environment", env)
    supervisor = Supervisor(lambda _: None, control)
    supervisor.watch(durable)
    supervisor.start()
    over = threading.Event()

    def obey() -> None:
        while not over.wait(0.1):
            for name in ("worker", "worker-ai", "beat"):
                control.report(name, running=not control.stop_requested(name))

    others = threading.Thread(target=obey)
    others.start()
    yield env
    over.set()
    others.join()
    supervisor.stop()


@pytest.fixture
def heeded_signals() -> Iterator[None]:
    """No signal is ignored: no shell could handle it then. A run of the tests in the background ignores SIGQUIT."""
    before = {number: signals.signal(number, signals.SIG_DFL) for number in (signals.SIGQUIT, signals.SIGHUP)}
    yield
    for number, handler in before.items():
        signals.signal(number, handler)


def backup(env: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "backup", *arguments], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def keys(server: Redis) -> set[bytes]:
    """All keys except the backup's own lock, which expires."""
    with redis.Redis.from_url(server.url) as client:
        found = {key for key in client.scan_iter() if not key.startswith(b"posthub-ops:")}
        client.select(1999)
        return {*found, *client.scan_iter()}


def answers(server: Redis) -> bool:
    with redis.Redis.from_url(server.url) as client, suppress(redis.ConnectionError):
        return bool(client.ping())
    return False


def restore(folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            str(ROOT / "runbooks" / "restore-redis.sh"),
            "latest",
            "--database",
            "broker",
            "--yes-i-mean",
            "broker",
        ],
        env={
            "PATH": os.environ["PATH"],
            "TMPDIR": tempfile.gettempdir(),
            "OPS_STACK": "embedded",
            "OPS_FOLDER": str(folder),
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def instead(tmp_path: Path, program: str, content: str) -> Path:
    """A folder with a script instead of a program."""
    (folder := tmp_path / "bin").mkdir(parents=True)
    (folder / program).write_text(f"#!/bin/sh\n{content}\n")
    (folder / program).chmod(0o755)
    return folder


def test_keys_come_back_and_stay(durable: Redis, folder: Path, env: dict[str, str]) -> None:
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        client.move("old 0", 1999)
        backup(env, "run")
        client.flushall()
        client.set("new", 1)
    done = restore(folder)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "NOT silenced" in done.stdout
    assert "loaded: 10" in done.stdout
    assert len(keys(durable)) == 100
    assert b"new" not in keys(durable)
    kept = next(durable.folder.glob("before-*"))
    assert (kept / "appendonlydir").exists()
    # Even after a restart: the append-only file has them, not only the loaded file.
    durable.stop()
    wait_for(
        lambda: answers(durable), timeout=60, what="the supervisor's restart of Redis", hint=str(durable.log)
    )
    assert len(keys(durable)) == 100


def test_a_server_with_too_few_databases_is_not_stopped(
    durable: Redis, folder: Path, env: dict[str, str]
) -> None:
    """It would not start with keys in a database that it has no number for."""
    with redis.Redis.from_url(durable.url) as client:
        client.set("old", 1)
        client.move("old", 1999)
        client.set("kept", 1)
        backup(env, "run")
    with Redis(folder / "smaller", options={"databases": "1999"}) as smaller:
        fewer = {**env, "BACKUP_REDIS_URLS": f"broker={smaller.url}"}
        Control(folder / "control").write("environment", fewer)
        done = restore(folder)
    assert done.returncode == 2
    assert "has keys in database 1999" in done.stderr
    assert "Try: set databases to 2000 or more" in done.stderr
    assert "NOTHING was restored" in done.stdout
    assert "stop workers" not in done.stdout
    assert keys(durable) == {b"old", b"kept"}


@pytest.mark.parametrize(
    ("durable", "name"),
    [
        ({"appendonly": "no", "dbfilename": "own.rdb"}, "own.rdb"),
        ({"appendfilename": "own.aof"}, "appendonlydir/own.aof.manifest"),
        ({"appenddirname": "own"}, "own/appendonly.aof.manifest"),
    ],
    indirect=["durable"],
)
def test_redis_with_files_of_other_names_is_left_as_it_was(
    durable: Redis, folder: Path, env: dict[str, str], name: str
) -> None:
    """It would start with its own file again, or empty, after a restore that looks successful."""
    with redis.Redis.from_url(durable.url) as client:
        client.set("old", 1)
        backup(env, "run")
        client.set("new", 1)
        client.save()
    done = restore(folder)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert f"Redis has its data in {name}" in done.stderr, done
    assert "NOTHING was restored" in done.stderr + done.stdout
    assert keys(durable) == {b"old", b"new"}


def test_a_backup_that_does_not_load_leaves_redis_as_it_was(
    durable: Redis, folder: Path, env: dict[str, str]
) -> None:
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        backup(env, "run")
        client.set("new", 1)
    Control(folder / "control").write("environment", {**env, "OPS_REDIS_SERVER": "/bin/false"})
    done = restore(folder)
    assert done.returncode != 0
    assert "its own files are unchanged" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("NOTHING was restored"), done.stdout
    assert len(keys(durable)) == 101
    left = {path.name for path in durable.folder.iterdir()}
    assert not {name for name in left if name.startswith(("before-", "restor"))}, left


@pytest.mark.parametrize(
    ("program", "content", "says"),
    [
        ("cat", "head -c 5; echo 'cat: write error: No space left on device' >&2; exit 1", "No space left"),
        (
            "redis-cli",
            '{} "$@" | sed s/aof_last_bgrewrite_status:ok/aof_last_bgrewrite_status:err/',
            "Redis did not write an append-only file",
        ),
    ],
)
def test_a_full_disk_leaves_redis_as_it_was(
    durable: Redis,
    folder: Path,
    env: dict[str, str],
    tmp_path: Path,
    program: str,
    content: str,
    says: str,
) -> None:
    """Nor does the copy stay, which would take the room that Redis itself needs."""
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        backup(env, "run")
        client.set("new", 1)
    programs = instead(tmp_path, program, content.format(find("redis-cli")))
    changed = {**env, "PATH": f"{programs}:{env['PATH']}"}
    if program == "redis-cli":
        changed["OPS_REDIS_CLI"] = str(programs / program)
    Control(folder / "control").write("environment", changed)
    done = restore(folder)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert says in done.stderr
    assert done.stdout.splitlines()[-1].startswith("NOTHING was restored"), done.stdout
    assert len(keys(durable)) == 101
    left = {path.name for path in durable.folder.iterdir()}
    assert not {name for name in left if name.startswith(("before-", "restor"))}, left


@pytest.mark.parametrize("signal", ["INT", "QUIT", "TERM", "HUP"])
@pytest.mark.usefixtures("heeded_signals")
def test_an_interruption_does_not_leave_redis_without_files(
    durable: Redis, folder: Path, env: dict[str, str], tmp_path: Path, signal: str
) -> None:
    """It comes when the previous files have been moved away, and the restored ones are not there yet."""
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        backup(env, "run")
        client.set("new", 1)
    moving = f'{shutil.which("mv")} "$@"\ncase "$*" in *before-*) kill -{signal} $PPID ;; esac'
    programs = instead(tmp_path, "mv", moving)
    # What the stack has written comes after the script's own path.
    Control(folder / "control").write("environment", {**env, "PATH": f"{programs}:{env['PATH']}"})
    done = restore(folder)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert len(keys(durable)) == 100


@pytest.mark.parametrize("step", ["*appendonlydir*before-*", "*restoring/appendonlydir*"])
def test_a_swap_that_fails_is_undone(
    durable: Redis, folder: Path, env: dict[str, str], tmp_path: Path, step: str
) -> None:
    """One file cannot be moved away, or into its place."""
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        backup(env, "run")
        client.set("new", 1)
        client.save()
    moving = f'case "$*" in {step}) exit 1 ;; esac\n{shutil.which("mv")} "$@"'
    programs = instead(tmp_path, "mv", moving)
    Control(folder / "control").write("environment", {**env, "PATH": f"{programs}:{env['PATH']}"})
    done = restore(folder)
    ended(done, 1, "Redis' own files are unchanged", "NOTHING was restored")
    assert len(keys(durable)) == 101
    left = {path.name for path in durable.folder.iterdir()}
    assert not {name for name in left if name.startswith(("before-", "restor"))}, left


@pytest.mark.parametrize("signal", ["INT", "QUIT"])
@pytest.mark.usefixtures("heeded_signals")
def test_an_impatient_interruption_leaves_no_copy(
    durable: Redis, folder: Path, env: dict[str, str], tmp_path: Path, signal: str
) -> None:
    """The second one comes while the first is tidied up."""
    with redis.Redis.from_url(durable.url) as client:
        client.mset({f"old {i}": i for i in range(100)})
        backup(env, "run")
        client.set("new", 1)
    removing = f'case "$*" in *restored.rdb*) kill -{signal} $PPID ;; esac\n{shutil.which("rm")} "$@"'
    programs = instead(tmp_path, "rm", removing)
    interrupted = instead(tmp_path / "other", "redis-server", f"kill -{signal} $PPID; exec sleep 60")
    changed = {
        **env,
        "PATH": f"{programs}:{env['PATH']}",
        "OPS_REDIS_SERVER": str(interrupted / "redis-server"),
    }
    Control(folder / "control").write("environment", changed)
    done = restore(folder)
    assert done.returncode == {"INT": 130, "QUIT": 131}[signal], (done.stdout, done.stderr)
    assert len(keys(durable)) == 101
    left = {path.name for path in durable.folder.iterdir()}
    assert not {name for name in left if name.startswith(("before-", "restor"))}, left
