"""deploy/postgres/roles.sh on a real server: it waits for the database, and its roles have only what they need."""

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

from backup.errors import ReplicationError
from backup.physical.walsender import WalSender
from backup.postgres.dsn import parse
from stack.paths import ROOT
from stack.ports import HOST, choose
from stack.programs import postgres_bin
from stack.servers import Postgres
from stack.servers.postgres import PASSWORD, USER

SCRIPT = ROOT / "deploy" / "postgres" / "roles.sh"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The container's environment, without a port."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "postgres_password").write_text(PASSWORD)
    (secrets / "backup_db_password").write_text("of-the-backup")
    (secrets / "exporter_db_password").write_text("of-the-exporter")
    (secrets / "wal_db_password").write_text("of-the-stream")
    path = f"{postgres_bin()}:{os.environ['PATH']}"
    return {"PATH": path, "SECRETS": str(secrets), "PGHOST": HOST, "PGUSER": USER, "PGDATABASE": "postgres"}


def start(environ: dict[str, str], port: int, tries: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["sh", str(SCRIPT)],
        env={**environ, "PGPORT": str(port), "TRIES": str(tries)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_database_that_never_answers_is_an_error(environ: dict[str, str]) -> None:
    with start(environ, choose(), 1) as script:
        _, errors = script.communicate(timeout=60)
    assert script.returncode == 1, errors
    assert f"Error: the database at {HOST} does not answer" in errors
    assert "Try: " in errors


def test_a_database_that_is_still_starting_is_awaited(environ: dict[str, str], tmp_path: Path) -> None:
    port = choose()
    with start(environ, port, 300) as script, Postgres(tmp_path / "postgres", port=port) as server:
        _, errors = script.communicate(timeout=240)
        assert script.returncode == 0, errors
        with psycopg.connect(server.url_for("postgres")) as connection:
            roles = connection.execute(
                "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname LIKE 'posthub\\_%' ORDER BY 1"
            ).fetchall()
            assert [name for name, superuser, login in roles if login and not superuser] == [
                "posthub_backup", "posthub_exporter", "posthub_wal",
            ]  # fmt: skip
        address = parse(f"postgresql://posthub_wal:of-the-stream@{HOST}:{port}/postgres")
        with WalSender.connect(address) as sender:
            sender.create_slot("test")
            sender.query("SELECT pg_create_restore_point('before a migration')")
            assert sender.query("SELECT wal_status FROM pg_replication_slots") == [("reserved",)]
            # It may not read a table by SQL, nor write one.
            with pytest.raises(ReplicationError, match="permission denied"):
                sender.query("CREATE TABLE x (i int)")
