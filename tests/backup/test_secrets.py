"""No secret ever appears where others could read it: process list, logs, errors, metrics, status page."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
import redis

from stack import ports
from stack.programs import postgres_bin
from stack.servers import ObjectStore, Postgres, Redis
from stack.wait import wait_for
from tests.backup.conftest import NewDatabase

pyrage = pytest.importorskip("pyrage")
PASSWORD = "hunter2-p%40ss:w\\ord"
PLAIN = "hunter2-p@ss:w\\ord"
CLIENTS = {"pg_dump", "pg_dumpall", "pg_restore", "psql"}
TELLTALE = """#!/bin/sh
{{ echo "${{0##*/}} $*"; env; }} >>'{log}'
exec '{program}' "$@"
"""


class Watcher:
    """Repeatedly collects the argument lists and environments of all descendants of a process."""

    def __init__(self, pid: int) -> None:
        self._seen: set[bytes] = set()
        self._root = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> str:
        self._done.set()
        self._thread.join()
        return b"\n".join(self._seen).replace(bytes(1), b" ").decode(errors="replace")

    def _watch(self) -> None:
        while not self._done.is_set():
            self._look_at(self._root, "cmdline")
            for pid in children(self._root):
                self._look_at(pid, "cmdline")
                self._look_at(pid, "environ")
            time.sleep(0.005)

    def _look_at(self, pid: int, what: str) -> None:
        with suppress(OSError):
            self._seen.add(read(f"/proc/{pid}/{what}"))


def children(pid: int) -> Iterator[int]:
    """All descendants of a process. psutil finds them among all processes of the machine, which keeps a processor busy."""
    with suppress(OSError), os.scandir(f"/proc/{pid}/task") as tasks:
        for task in tasks:
            with suppress(OSError):
                for child in map(int, read(f"{task.path}/children").split()):
                    yield child
                    yield from children(child)


def read(file: str) -> bytes:
    """The content of a file of the kernel. Path and psutil need several times as long, hundreds of times a second."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        content = b""
        while part := os.read(descriptor, 1 << 16):
            content += part
        return content
    finally:
        os.close(descriptor)


@pytest.fixture
def telltale(tmp_path: Path) -> Path:
    """A folder of PostgreSQL's programs; the clients record how they were started, even if they live only briefly."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in postgres_bin().iterdir():
        if program.name in CLIENTS:
            shim = folder / program.name
            shim.write_text(TELLTALE.format(log=tmp_path / "recorded", program=program))
            shim.chmod(0o755)
        else:
            (folder / program.name).symlink_to(program)
    return folder


@pytest.fixture
def secretive(
    tmp_path: Path,
    postgres: Postgres,
    new_database: NewDatabase,
    object_store: ObjectStore,
    environ: dict[str, str],
    bucket: dict[str, str],
    telltale: Path,
) -> tuple[dict[str, str], list[str]]:
    """An environment whose secrets come from files, and the secrets."""
    name = new_database(
        "CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 30000) i", "secretive"
    )
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD '{PLAIN}' IN ROLE pg_read_all_data")
        connection.execute(f"ALTER DATABASE {name} OWNER TO {name}; ALTER TABLE t OWNER TO {name}")
        connection.execute(f"ALTER SCHEMA public OWNER TO {name}")
    identity = str(pyrage.x25519.Identity.generate())
    secrets = {
        "DATABASE_URL": postgres.url_for(name).replace("posthub:posthub@", f"{name}:{PASSWORD}@"),
        "BACKUP_AGE_IDENTITY": identity,
        "BACKUP_S3_SECRET_ACCESS_KEY": object_store.secret_key,
        "BACKUP_PING_FAILURE_URL": "http://127.0.0.1:9/hush-ping-token",
    }
    env = {
        **os.environ,
        **environ,
        **bucket,
        "BACKUP_LOG_LEVEL": "DEBUG",
        "BACKUP_POSTGRES_BIN": str(telltale),
    }
    env["BACKUP_AGE_RECIPIENTS"] = str(pyrage.x25519.Identity.from_str(identity).to_public())
    for variable, value in secrets.items():
        env.pop(variable, None)
        file = tmp_path / variable
        file.write_text(value)
        env[f"{variable}_FILE"] = str(file)
    return env, [PASSWORD, PLAIN, identity, object_store.secret_key, "hush-ping-token"]


def watched(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command; returns its exit code and everything that was visible of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backup", *arguments],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    watcher = Watcher(process.pid)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out + watcher.stop()


def seen_of(env: dict[str, str], arguments: tuple[str, ...], child: str, folder: Path) -> str:
    """Everything that was visible of a command, which must succeed and start this child."""
    status, seen = watched(env, *arguments)
    assert status == 0, seen
    # What touches restored content is confined, and cannot write into that file: there the watcher looks.
    visible = seen + (folder / "recorded").read_text()
    assert child in visible
    return visible


def test_a_run_and_its_verification(secretive: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    env, secrets = secretive
    for arguments, child in ((("run",), "pg_dump --"), (("verify",), "pg_restore --"), (("doctor",), "")):
        visible = seen_of(env, arguments, child, tmp_path)
        assert [secret for secret in secrets if secret in visible] == []


def test_restores(secretive: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    env, secrets = secretive
    name = (tmp_path / "DATABASE_URL").read_text().rpartition("/")[2]
    subprocess.run([sys.executable, "-m", "backup", "run"], env=env, check=True, capture_output=True)
    for arguments, child in (
        (("restore", "--table", "t", "--schema", "side"), "pg_dump --data-only"),
        (("restore",), "pg_restore --"),
        (("promote", "--yes-i-mean", name), ""),
        (("drill",), "pg_restore --"),
    ):
        visible = seen_of(env, arguments, child, tmp_path)
        assert [secret for secret in secrets if secret in visible] == []


def test_errors(secretive: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    env, secrets = secretive
    wrong = tmp_path / "wrong"
    url = Path(env["DATABASE_URL_FILE"]).read_text()
    for broken in (
        url.replace("hunter2", "hunter3"),
        url.replace("postgresql:", "mysql:"),
        url + "?nonsense=1",
    ):
        wrong.write_text(broken)
        status, seen = watched({**env, "DATABASE_URL_FILE": str(wrong)}, "run")
        assert status == 2, seen
        assert "Error:" in seen
        assert "Try:" in seen
        assert "Traceback" not in seen
        assert [secret for secret in (*secrets, "hunter3") if secret in seen] == []


def test_redis_and_pings(
    secretive: tuple[dict[str, str], list[str]], busy_redis: Redis, tmp_path: Path
) -> None:
    env, secrets = secretive
    with redis.Redis.from_url(busy_redis.url) as client:
        client.acl_setuser("keeper", enabled=True, passwords=["+hush-redis"], keys=["*"], commands=["+@all"])
    file, ping = tmp_path / "redis", tmp_path / "ping"
    # Nothing answers there, which is reported. The URL is given as a file, because before exec a child shows our environment.
    ping.write_text("http://127.0.0.1:9/hush-ping-token")
    more = {"BACKUP_REDIS_URLS_FILE": str(file), "BACKUP_PING_START_URL_FILE": str(ping)}
    settings = {name: value for name, value in {**env, **more}.items() if name != "DATABASE_URL_FILE"}
    for password, expected, message in (
        ("hush-redis", 0, "not reached call=start"),
        ("hush-wrong", 2, "rejects the password"),
    ):
        file.write_text(f"cache={busy_redis.url.replace('redis://', f'redis://keeper:{password}@')}")
        status, seen = watched(settings, "run", "--verify")
        assert (status, message in seen) == (expected, True), seen
        assert [secret for secret in (*secrets, "hush-redis", "hush-wrong") if secret in seen] == []


def test_the_service(secretive: tuple[dict[str, str], list[str]], tmp_path: Path) -> None:
    env, secrets = secretive
    port, log = ports.choose(), tmp_path / "log"
    settings = {
        **env,
        "BACKUP_PORT": str(port),
        "BACKUP_HOST": "127.0.0.1",
        "BACKUP_CATALOGUE_REFRESH": "0.5",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backup", "serve"], env=settings, stdout=output, stderr=subprocess.STDOUT
        )
    watcher = Watcher(process.pid)
    try:
        pages = _pages(port)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 0
    seen = pages + log.read_text() + watcher.stop()
    assert "backup_last_success_timestamp_seconds" in seen
    assert [secret for secret in secrets if secret in seen] == []


def _pages(port: int) -> str:
    """The pages of the service, once it has read its store."""

    def pages_of_the_store() -> str:
        with suppress(OSError):
            pages = [
                urlopen(f"http://127.0.0.1:{port}{path}").read().decode()
                for path in ("/metrics", "/", "/healthz")
            ]
            return "".join(pages) if "backup_last_success_timestamp_seconds" in pages[0] else ""
        return ""

    return wait_for(pages_of_the_store, timeout=150, what="the first look at the store", hint="see its log")
