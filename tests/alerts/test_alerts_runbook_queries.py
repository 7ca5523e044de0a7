"""The queries on the runbook pages, asked of real servers: a wrong column is found here, not at 03:00."""

import os
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

# What a page leaves to the reader.
FILLED_IN = {"PID": "1", "SLOT": "x"}
NOT_ASKED = ("ALTER SYSTEM", "CHECKPOINT")


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
def connection(postgres: Postgres) -> Iterator[psycopg.Connection]:
    url = postgres.url_for("runbooks")
    with psycopg.connect(postgres.url, autocommit=True) as owner:
        owner.execute("CREATE DATABASE runbooks")
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings.development", "DATABASE_URL": url}
    migrate = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity=0"]
    subprocess.run(migrate, cwd=book.ROOT / "app", env=env, check=True)
    with psycopg.connect(url, autocommit=True) as made:
        yield made


@pytest.mark.parametrize("statement", statements(), ids=lambda text: f"{statements()[text]}-{text[:30]}")
def test_statement_fits_the_apps_database(connection: psycopg.Connection, statement: str) -> None:
    if statement.startswith(NOT_ASKED):
        return
    for word, value in FILLED_IN.items():
        statement = statement.replace(word, value)
    if statement.startswith("SELECT"):
        # Parsed and checked against the tables, not run: some of them end sessions.
        connection.execute(f"PREPARE asked AS {statement}")
        connection.execute("DEALLOCATE asked")
    elif statement.startswith(("VACUUM", "ANALYZE", "ALTER TABLE")):
        connection.execute(statement)


def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    rules = [{"record": f"page:query:{number}", "expr": query} for number, query in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "pages", "rules": rules}]}), encoding="utf-8")
    done = subprocess.run(
        [str(find("promtool")), "check", "rules", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
