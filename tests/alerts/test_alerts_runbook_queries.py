"""The queries on the runbook pages, run on real servers: a wrong column is found here, not at 03:00."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest
import yaml

from stack.programs import find
from stack.servers import Postgres
from tests.alerts import runbookpages as book


@cache
def statements() -> dict[str, str]:
    found = {}
    for command in book.commands():
        if command.program == "psql":
            found[command.words[command.words.index("-c") + 1]] = command.page
    return found


@cache
def queries() -> dict[str, str]:
    found = {}
    for command in book.commands():
        if command.words[:3] == ["promtool", "query", "instant"]:
            found[command.words[4]] = command.page
    return found


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app's database, on a separate server, because the pages end sessions and change roles and settings."""
    with Postgres(tmp_path_factory.mktemp("runbooks")) as server:
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "config.settings.development",
            "DATABASE_URL": server.url,
        }
        migrate = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity=0"]
        subprocess.run(migrate, cwd=book.ROOT / "app", env=env, check=True)
        yield server.url


@pytest.fixture(scope="module")
def connection(url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("statement", statements(), ids=lambda text: f"{statements()[text]}-{text[:30]}")
def test_statement_runs_on_the_apps_database(
    url: str, connection: psycopg.Connection, statement: str
) -> None:
    filled_in = statement
    if "SLOT" in statement:
        # A slot that may be dropped. Its name is new each time: the previous one may not be gone yet.
        slot = f"spare_{secrets.token_hex(4)}"
        connection.execute("SELECT pg_create_physical_replication_slot(%s, temporary => true)", [slot])
        filled_in = filled_in.replace("SLOT", slot)
    if "PID" not in statement:
        connection.execute(filled_in)
        return
    # A session that may be ended.
    with psycopg.connect(url) as other:
        connection.execute(filled_in.replace("PID", str(other.info.backend_pid)))


def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    rules = [{"record": f"page:query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        [str(find("promtool")), "check", "rules", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
