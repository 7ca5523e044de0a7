"""The scripts on a server without containers: services are stopped and started with its own commands."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from alerts.alertmanager import Alertmanager as Client
from stack.paths import ROOT
from stack.servers import Alertmanager, Postgres
from tests.ended import ended
from tests.runbooks.commandkit import UNITS, Stack, stack

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres") as running:
        with psycopg.connect(running.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        yield running


@pytest.fixture
def shop(server: Postgres, tmp_path: Path) -> Iterator[tuple[Stack, Alertmanager]]:
    with stack(tmp_path / "stack", "shop", server) as made:
        yield made


def script(stack: Stack, name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(stack.scripts / name), *arguments],
        env=stack.env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def backed_up(stack: Stack) -> None:
    command = f'. {stack.file}; sh -c "$BACKUP run"'
    subprocess.run(["sh", "-c", command], env=stack.env, check=True, capture_output=True, cwd=ROOT)


def test_disaster_and_way_back(server: Postgres, shop: tuple[Stack, Alertmanager]) -> None:
    stack, alertmanager = shop
    with psycopg.connect(server.url_for("shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT i FROM generate_series(1, 1000) i")
        backed_up(stack)
        connection.execute("DROP TABLE orders")
    done = script(stack, "restore.sh", "latest", "--dry-run")
    ended(done, 0, "would: stop workers and beat")
    done = script(stack, "restore.sh", "latest", "--yes-i-mean", "shop")
    ended(done, 0, "RTO", "Timeline (UTC)")
    assert stack.running == set(UNITS)
    assert [each.comment for each in Client(alertmanager.url).silences()] == []
    with psycopg.connect(server.url_for("shop")) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1000,)
    ended(script(stack, "rollback.sh", "--yes-i-mean", "shop"), 0)
    with psycopg.connect(server.url_for("shop")) as connection:
        assert connection.execute("SELECT to_regclass('orders')").fetchone() == (None,)
    assert stack.running == set(UNITS)
    ended(script(stack, "rollback.sh", "--yes-i-mean", "shop"), 1, "NOTHING was rolled back")
    ended(script(stack, "drill.sh"), 0, "RTO")


def test_a_new_server(server: Postgres, shop: tuple[Stack, Alertmanager]) -> None:
    stack, _ = shop
    with psycopg.connect(server.url_for("shop"), autocommit=True) as connection:
        connection.execute("CREATE TABLE orders AS SELECT i FROM generate_series(1, 1000) i")
    backed_up(stack)
    refused = script(stack, "new-server.sh", "--yes-i-mean", "shop")
    ended(refused, 1, "this server already has a database with tables; nothing was changed")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE shop")
        connection.execute("CREATE DATABASE shop")
    for unit in UNITS:
        (stack.up / unit).unlink()
    # The app does not work yet; when it does, the script continues after its promotion.
    commands = stack.file.read_text()
    stack.file.write_text(f"{commands}HEALTHY=false\nHEALTH_SECONDS=1\n")
    ended(script(stack, "new-server.sh", "--yes-i-mean", "shop"), 1, "the API is not healthy")
    stack.file.write_text(commands)
    ended(script(stack, "new-server.sh", "--yes-i-mean", "shop"), 0, "it continues from there")
    with psycopg.connect(server.url_for("shop")) as connection:
        assert connection.execute("SELECT count(*) FROM orders").fetchone() == (1000,)
    assert stack.running == set(UNITS)
    # Now it is in use, although a restore has put its tables there.
    ended(script(stack, "new-server.sh", "--yes-i-mean", "shop"), 1, "already has a database with tables")


@pytest.mark.parametrize("name", ["STOP", "START", "HEALTHY", "BACKUP", "PSQL", "POSTGRES_FOLDER"])
def test_a_command_that_is_missing_is_named_before_anything_is_done(tmp_path: Path, name: str) -> None:
    settings = {"BACKUP_RESTORE_URL": "postgresql://u@127.0.0.1:9/shop"}
    made = Stack(tmp_path, "shop", settings, "http://127.0.0.1:9")
    lines = made.file.read_text().splitlines(keepends=True)
    made.file.write_text("".join(line for line in lines if not line.startswith(f"{name}=")))
    ended(script(made, "restore.sh", "--yes-i-mean", "shop"), 2, f"Error: {name} is not set in {made.file}")
    made.file.unlink()
    ended(script(made, "restore.sh", "--yes-i-mean", "shop"), 2, "runbooks.env cannot be read")


def test_what_a_script_starts_does_not_keep_its_lock(tmp_path: Path) -> None:
    """A start command such as pg_ctl leaves a server behind, which would inherit whatever the script has open."""
    settings = {"BACKUP_RESTORE_URL": "postgresql://u@127.0.0.1:9/shop"}
    made = Stack(tmp_path, "shop", settings, "http://127.0.0.1:9")
    pid = tmp_path / "pid"
    with made.file.open("a") as file:
        file.write(f"START='sleep 60 >/dev/null 2>&1 & echo $! >{pid}; true'\nPSQL=true\nBACKUP=false\n")
    try:
        for _ in range(2):
            ended(
                script(made, "restore.sh", "--yes-i-mean", "shop"), 1, "it cannot begin; nothing was changed"
            )
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def test_the_example_names_every_command() -> None:
    """It is read by a shell, and nothing that the scripts need is left out."""
    example = ROOT / "deploy" / "systemd" / "runbooks.env"
    needed = "STOP START HEALTHY BACKUP MANAGE PSQL DATABASE API WORKERS BEAT POSTGRES REDIS ALERTS ROLES REDIS_FOLDER"
    command = f'set -eu; . {example}; for name in {needed}; do eval "test -n \\"\\${{$name}}\\""; done'
    subprocess.run(["sh", "-c", command], check=True)
