"""Healthy oddities, none of which a verification may report.

Each file of ``oddities/`` becomes one database with a schema for each oddity, so that one dump, one restore and
one comparison cover all. An oddity begins with a line ``-- * what it is``, which may end in the first version that has
it: ``(from 17)``.

``ODDITIES="15 16 17 18" ./ops test tests/backup/test_oddities.py`` does so with each version; a usual run, with the newest.
"""

import os
import re
import secrets
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from backup.replication.merged import read
from backup.run import run
from backup.verify import verify
from stack.programs import SUPPORTED
from stack.servers import Postgres
from tests.backup.conftest import PostgresOf, Wire

FOLDER = Path(__file__).parent / "oddities"
FILES = sorted(FOLDER.glob("*.sql"))
MIN_TITLES = 300
VERSIONS = [int(version) for version in os.environ.get("ODDITIES", f"{SUPPORTED[-1]}").split()]
SINCE = re.compile(r" \(from (\d+)\)$")
EXTENSION = re.compile(r"CREATE EXTENSION (?:IF NOT EXISTS )?(\w+)")
# Oddities that need a feature which the server lacks are skipped.
HELPER = """
CREATE FUNCTION pg_temp.set(name text, value text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET %I = %L', current_database(), name, value);
EXCEPTION WHEN undefined_object OR cant_change_runtime_param OR invalid_parameter_value THEN NULL; END $$
"""


def oddities(path: Path) -> dict[str, str]:
    """Title → SQL."""
    parts = re.split(r"(?m)^-- \* (.+)\n", path.read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def made(server: Postgres, path: Path) -> str:
    name = f"odd_{path.stem}_{secrets.token_hex(3)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    # Settings of the database take effect in the next session.
    with psycopg.connect(server.url_for(name), autocommit=True) as connection:
        connection.execute(HELPER)
        known = connection.execute("SELECT name FROM pg_available_extensions").fetchall()
        for number, (title, script) in enumerate(oddities(path).items()):
            if (since := SINCE.search(title)) and connection.info.server_version < int(since[1]) * 10000:
                continue
            if not set(EXTENSION.findall(script)) <= {extension for (extension,) in known}:
                continue  # this build of the server lacks it
            schema = sql.Identifier(f"{number:03} {title[:50]}")
            connection.execute(sql.SQL("CREATE SCHEMA {0}; SET search_path TO {0}, public").format(schema))
            try:
                connection.execute(script.encode())
            except psycopg.Error as error:
                pytest.fail(f"{path.name}, {title}: {error}")
    return name


def test_there_are_enough() -> None:
    titles = [title for path in FILES for title in oddities(path)]
    assert len(titles) == len(set(titles)) >= MIN_TITLES


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_healthy_oddities_are_not_differences(
    path: Path, version: int, wired: Wire, postgres: Postgres, postgres_of: PostgresOf
) -> None:
    server = postgres if version == SUPPORTED[-1] else postgres_of(version)
    name = made(server, path)
    wiring = wired(DATABASE_URL=server.url_for(name), BACKUP_POSTGRES_BIN=str(server.programs))
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    report = verify(wiring, entry)
    assert report.unprovable == ()
    assert [str(each) for each in report.differences] == []
