"""Redis's users as posthub_init writes them, on a real server: each program works with its own, and can do no more."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import redis
import requests
from kombu import Connection

from stack.paths import ROOT
from stack.ports import HOST, choose
from stack.programs import find
from stack.servers import Redis, Service

SIDECARS = ("exporter", "backup", "metrics")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, init_secrets: Any) -> Iterator[Redis]:
    folder = tmp_path_factory.mktemp("redis-users")
    values = {name: f"word of {name}" for name in init_secrets.SECRETS}
    written = init_secrets.redis_users(values)
    digest = hashlib.sha256(values["REDIS_PASSWORD"].encode()).hexdigest()
    assert f"user default on #{digest} " in written
    # The fixture that waits for the server has no password.
    written = written.replace(f"#{digest}", "nopass")
    # A server older than 7.2 does not know this one.
    (folder / "users.acl").write_text(written.replace(" +client|setinfo", ""))
    with Redis(folder, options={"aclfile": str(folder / "users.acl")}) as running:
        yield running


def url(server: Redis, user: str, init_secrets: Any) -> str:
    password = f"word of {init_secrets.REDIS_USERS[user][0]}"
    return f"redis://{user}:{password}@{HOST}:{server.port}/0"


@pytest.fixture
def client(server: Redis, init_secrets: Any) -> Any:
    return lambda user: redis.Redis.from_url(url(server, user, init_secrets))


@pytest.mark.parametrize("user", [*SIDECARS, "app"])
@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "SET", "maxmemory", "1"),
        ("SHUTDOWN", "NOSAVE"),
        ("ACL", "LIST"),
        ("KEYS", "*"),
        ("REPLICAOF", "example.org", "6379"),
        ("MODULE", "LIST"),
        ("SAVE",),
        ("RESTORE", "x", "0", "y"),
        ("CLIENT", "KILL", "TYPE", "normal"),
    ],
    ids=lambda command: command[0],
)
def test_nobody_but_the_operator_may_do_harm(client: Any, user: str, command: tuple[str, ...]) -> None:
    with client(user) as mine, pytest.raises(redis.exceptions.NoPermissionError):
        mine.execute_command(*command)


@pytest.mark.parametrize("user", SIDECARS)
@pytest.mark.parametrize(
    "command", [("SET", "celery", "x"), ("LPUSH", "quick", "x"), ("EVAL", "return 1", "0")]
)
def test_sidecars_change_nothing_of_the_app(client: Any, user: str, command: tuple[str, ...]) -> None:
    with client(user) as mine, pytest.raises(redis.exceptions.NoPermissionError):
        mine.execute_command(*command)


@pytest.mark.parametrize("user", ["backup", "metrics"])
def test_only_the_exporter_reads_the_queues(client: Any, user: str) -> None:
    with client(user) as mine, pytest.raises(redis.exceptions.NoPermissionError):
        mine.llen("quick")


def test_a_wrong_password_is_refused(server: Redis) -> None:
    wrong = redis.Redis(host=HOST, port=server.port, username="app", password="wrong")
    with wrong as mine, pytest.raises(redis.exceptions.AuthenticationError):
        mine.ping()


def test_the_app_sends_and_receives_tasks(server: Redis, init_secrets: Any) -> None:
    with Connection(url(server, "app", init_secrets)) as connection, connection.SimpleQueue("quick") as queue:
        queue.put({"task": "x"})
        message = queue.get(timeout=60)
        message.ack()
        assert message.payload == {"task": "x"}
        client = cast("Any", connection.default_channel).client
        client.publish("/0.celeryev/task.sent", "x")
        assert "redis_version" in client.info()


def test_the_apps_cache_works(client: Any) -> None:
    with client("app") as mine:
        mine.set("posthub:1:x", 0, ex=60, nx=True)
        assert mine.incr("posthub:1:x") == 1
        assert mine.delete("posthub:1:x") == 1


def test_the_exporter_has_the_documented_rights(init_secrets: Any) -> None:
    """A test of the exporter runs it with those."""
    page = (ROOT / "docs" / "exporter.md").read_text(encoding="utf-8")
    documented = set(page.partition("ACL SETUSER monitor on >PASSWORD ")[2].partition("```")[0].split())
    ours = set(init_secrets.REDIS_USERS["exporter"][1].split())
    keys = {"~*", "%R~*", "~*reply.celery.pidbox*"}
    assert ours - keys == documented - keys - {"resetchannels"} | {"+client|setinfo"}


def test_the_backup_reads_the_whole_server(server: Redis, client: Any, init_secrets: Any) -> None:
    done = subprocess.run(
        [
            str(find("redis-cli")),
            "-h",
            HOST,
            "-p",
            str(server.port),
            "--user",
            "backup",
            "--no-auth-warning",
            "--pass",
            "word of REDIS_BACKUP_PASSWORD",
            "--rdb",
            "-",
        ],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"REDIS")
    with client("backup") as mine:
        assert mine.set("posthub-ops:backup:lock", "x", nx=True, ex=60)
        assert mine.delete("posthub-ops:backup:lock") == 1


def test_redis_exporter_signs_in_by_its_file(
    server: Redis, tmp_path: Path, init_secrets: Any, production: Any
) -> None:
    values = {name: f"word of {name}" for name in init_secrets.SECRETS}
    passwords = json.loads(init_secrets.files(values)["redis_exporter"]["redis_passwords.json"])
    given = production["services"]["posthub_redis_exporter"]["environment"]
    here = f"{HOST}:{server.port}"
    (tmp_path / "passwords.json").write_text(
        json.dumps({key.replace("posthub_redis_prod:6379", here): value for key, value in passwords.items()})
    )
    port = choose()
    environment = {
        "REDIS_ADDR": given["REDIS_ADDR"].replace("posthub_redis_prod:6379", here),
        "REDIS_USER": given["REDIS_USER"],
        "REDIS_PASSWORD_FILE": str(tmp_path / "passwords.json"),
    }
    program = [str(find("redis_exporter")), f"--web.listen-address={HOST}:{port}"]
    with Service(
        "redis-exporter", program, folder=tmp_path, env=environment, port=port, ready="/metrics"
    ) as exporter:
        page = requests.get(f"{exporter.url}/metrics", timeout=30).text
    found = dict(line.rsplit(" ", 1) for line in page.splitlines() if line and not line.startswith("#"))
    assert float(found["redis_up"]) == 1
    assert not [
        line
        for line in page.splitlines()
        if line.startswith("redis_exporter_last_scrape_error") and not line.endswith(" 0")
    ]
    for name in ("redis_memory_max_bytes", "redis_slowlog_length", "redis_config_maxclients"):
        assert name in found, name


def test_files_of_an_earlier_user_are_replaced_by_copies(tmp_path: Path) -> None:
    """The file from its last run is not yet writable by the group, and Redis would refuse to start."""
    data, programs = tmp_path / "data", tmp_path / "bin"
    (data / "appendonlydir").mkdir(parents=True)
    programs.mkdir()
    (programs / "redis-server").write_text('#!/bin/sh\necho "$@"\n')
    (programs / "redis-server").chmod(0o755)
    theirs, ours = data / "appendonlydir" / "appendonly.aof.2.incr.aof", data / "dump.rdb"
    theirs.write_text("theirs")
    ours.write_text("ours")
    # For root, every file is writable: there, another test checks the mode instead.
    theirs.chmod(0o444)
    before = {path: path.stat().st_ino for path in (theirs, ours)}
    script = (ROOT / "deploy" / "redis" / "start.sh").read_text().replace("[ ! -w ", "[ ! -u ")
    script = script if os.geteuid() == 0 else (ROOT / "deploy" / "redis" / "start.sh").read_text()
    ours.chmod(0o644 | (stat.S_ISUID if os.geteuid() == 0 else 0))
    done = subprocess.run(
        ["sh", "-c", script, "start.sh", "--appendonly", "yes"],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "DATA": str(data)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "--aclfile /run/secrets/users.acl --appendonly yes\n"
    assert theirs.stat().st_ino != before[theirs]
    assert theirs.read_text() == "theirs"
    assert ours.stat().st_ino == before[ours]
    assert sorted(path.name for path in data.iterdir()) == ["appendonlydir", "dump.rdb"]
