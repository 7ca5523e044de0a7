"""deploy/postgres/roles.sh on a real server: it waits for the database, and its roles have only what they need.

The tests' servers are like an earlier installation: their superuser is the app's role.
"""

import os
import subprocess
from collections.abc import Iterator
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
from stack.servers.postgres import PASSWORD

SCRIPT = ROOT / "deploy" / "postgres" / "roles.sh"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The container's environment, without a port."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "postgres_password").write_text(PASSWORD)
    (secrets / "postgres_admin_password").write_text("of-the-admin")
    (secrets / "backup_db_password").write_text("of-the-backup")
    (secrets / "exporter_db_password").write_text("of-the-exporter")
    (secrets / "wal_db_password").write_text("of-the-stream")
    path = f"{postgres_bin()}:{os.environ['PATH']}"
    return {"PATH": path, "SECRETS": str(secrets), "PGHOST": HOST, "PGDATABASE": "postgres"}


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
                "SELECT rolname, rolsuper, rolcanlogin FROM pg_roles WHERE rolname LIKE 'posthub%' ORDER BY 1"
            ).fetchall()
            assert [name for name, superuser, login in roles if login and not superuser] == [
                "posthub",
                "posthub_backup",
                "posthub_exporter",
                "posthub_wal",
            ]
            assert [name for name, superuser, _ in roles if superuser] == ["posthub_admin"]
        address = parse(f"postgresql://posthub_wal:of-the-stream@{HOST}:{port}/postgres")
        with WalSender.connect(address) as sender:
            sender.create_slot("test")
            sender.query("SELECT pg_create_restore_point('before a migration')")
            assert sender.query("SELECT wal_status FROM pg_replication_slots") == [("reserved",)]
            # It may not read a table by SQL, nor write one.
            with pytest.raises(ReplicationError, match="permission denied"):
                sender.query("CREATE TABLE x (i int)")


# Every kind of object with an owner that an app may have.
OBJECTS = """
CREATE SCHEMA reports;
CREATE TABLE "Odd name" (id serial PRIMARY KEY, at int GENERATED ALWAYS AS IDENTITY, body text);
CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE parts_2026 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SEQUENCE numbers;
CREATE VIEW shown AS SELECT * FROM "Odd name";
CREATE MATERIALIZED VIEW reports.counted AS SELECT count(*) FROM "Odd name";
CREATE TYPE mood AS ENUM ('ok');
CREATE TYPE pair AS (a int, b int);
CREATE TYPE span AS RANGE (subtype = int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION plus_one(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE STATISTICS related ON id, at FROM "Odd name";
CREATE EXTENSION vector;
CREATE TABLE django_celery_beat_periodictask (id int);
SELECT lo_create(4242);
INSERT INTO "Odd name" (body) VALUES ('kept');
"""
OWNED = """
SELECT relowner::regrole::text, relname FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'reports'::regnamespace)
UNION ALL SELECT nspowner::regrole::text, nspname FROM pg_namespace WHERE nspname = 'reports'
UNION ALL SELECT typowner::regrole::text, typname FROM pg_type t WHERE typnamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e') AND typname !~ '^_?(vector|halfvec|sparsevec)$'
UNION ALL SELECT proowner::regrole::text, proname FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype IN ('e', 'i'))
UNION ALL SELECT stxowner::regrole::text, stxname FROM pg_statistic_ext
UNION ALL SELECT lomowner::regrole::text, oid::text FROM pg_largeobject_metadata
UNION ALL SELECT datdba::regrole::text, datname FROM pg_database WHERE datname = current_database()
"""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """An installation whose app is superuser, with a database that a restore has kept."""
    with Postgres(tmp_path_factory.mktemp("earlier")) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE posthub_before_restore")
            connection.execute("ALTER ROLE posthub SET statement_timeout = '70s'")
            connection.execute("ALTER ROLE posthub IN DATABASE posthub SET search_path = public, reports")
            connection.execute(OBJECTS)
        with psycopg.connect(server.url_for("posthub_before_restore"), autocommit=True) as connection:
            connection.execute(OBJECTS.replace("SELECT lo_create(4242);", ""))
        yield server


def run(server: Postgres, environ: dict[str, str], *, tries: int = 5) -> "subprocess.CompletedProcess[str]":
    with start({**environ, "PGDATABASE": "posthub"}, server.port, tries) as script:
        output, errors = script.communicate(timeout=240)
    return subprocess.CompletedProcess(script.args, script.returncode, output, errors)


def test_an_earlier_installation_is_taken_over_while_the_app_works(
    earlier: Postgres, environ: dict[str, str]
) -> None:
    with psycopg.connect(earlier.url, autocommit=True) as app:
        done = run(earlier, environ)
        assert done.returncode == 0, done.stderr
        # The open session continues, and a new one has the same name and password.
        assert app.execute('SELECT body FROM "Odd name"').fetchone() == ("kept",)
    for database in ("posthub", "posthub_before_restore"):
        with psycopg.connect(earlier.url_for(database), autocommit=True) as connection:
            owned = connection.execute(OWNED).fetchall()
            assert {owner for owner, _ in owned} == {"posthub"}, owned
            assert {"Odd name", "mood", "plus_one", "related", "reports"} <= {name for _, name in owned}
    with psycopg.connect(earlier.url, autocommit=True) as app:
        assert app.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (
            False,
        )
        # A migration.
        app.execute('ALTER TABLE "Odd name" ADD COLUMN more int')
        app.execute("CREATE TABLE made_later (v vector(3))")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("COPY (SELECT 1) TO PROGRAM 'true'")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("CREATE ROLE someone_else")
        assert app.execute("SHOW statement_timeout").fetchone() == ("70s",)
        assert app.execute("SHOW search_path").fetchone() == ("public, reports",)


def test_it_changes_nothing_when_it_runs_again(earlier: Postgres, environ: dict[str, str]) -> None:
    assert run(earlier, environ).returncode == 0
    with psycopg.connect(earlier.url, autocommit=True) as app:
        before = app.execute("SELECT oid, relowner FROM pg_class ORDER BY 1").fetchall()
        roles = app.execute(
            "SELECT rolname, rolsuper FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
        ).fetchall()
    done = run(earlier, environ)
    assert (done.returncode, done.stderr) == (0, "")
    with psycopg.connect(earlier.url, autocommit=True) as app:
        assert app.execute("SELECT oid, relowner FROM pg_class ORDER BY 1").fetchall() == before
        assert (
            app.execute(
                "SELECT rolname, rolsuper FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
            ).fetchall()
            == roles
        )
    assert roles == [
        ("posthub", False),
        ("posthub_admin", True),
        ("posthub_backup", False),
        ("posthub_exporter", False),
        ("posthub_wal", False),
    ]


def test_what_a_restore_makes_is_given_to_the_app(earlier: Postgres, environ: dict[str, str]) -> None:
    assert run(earlier, environ).returncode == 0
    admin = f"postgresql://posthub_admin:of-the-admin@{HOST}:{earlier.port}"
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE posthub_restored")
    with psycopg.connect(f"{admin}/posthub_restored", autocommit=True) as connection:
        connection.execute("CREATE TABLE posts (id int)")
    assert run(earlier, environ).returncode == 0
    with psycopg.connect(earlier.url_for("posthub_restored"), autocommit=True) as app:
        app.execute("ALTER TABLE posts ADD COLUMN body text")
        app.execute("CREATE TABLE made_by_a_migration (id int)")


def test_a_changed_password_is_applied(earlier: Postgres, environ: dict[str, str]) -> None:
    assert run(earlier, environ).returncode == 0
    secret = Path(environ["SECRETS"]) / "postgres_password"
    secret.write_text("another")
    assert run(earlier, environ).returncode == 0
    with psycopg.connect(f"postgresql://posthub:another@{HOST}:{earlier.port}/posthub"):
        pass
    secret.write_text(PASSWORD)
    assert run(earlier, environ).returncode == 0


def test_a_wrong_password_changes_nothing_and_says_what_to_do(
    earlier: Postgres, environ: dict[str, str]
) -> None:
    assert run(earlier, environ).returncode == 0
    (Path(environ["SECRETS"]) / "postgres_admin_password").write_text("wrong")
    done = run(earlier, environ)
    assert done.returncode == 1
    assert "Error: neither posthub_admin nor a superuser posthub can sign in" in done.stderr
    assert "\nTry: " in done.stderr
    with psycopg.connect(earlier.url, autocommit=True) as app:
        assert app.execute("SELECT count(*) FROM pg_roles WHERE rolname = 'posthub_takeover'").fetchone() == (
            0,
        )


def test_the_first_start_makes_the_apps_role(
    earlier: Postgres, tmp_path: Path, environ: dict[str, str]
) -> None:
    """deploy/postgres/first-start.sh, in an empty database of the admin's."""
    # PostgreSQL's image would otherwise read it into its own shell, with its options.
    assert os.access(ROOT / "deploy" / "postgres" / "first-start.sh", os.X_OK)
    assert run(earlier, environ).returncode == 0
    admin = f"postgresql://posthub_admin:of-the-admin@{HOST}:{earlier.port}"
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    script = (ROOT / "deploy" / "postgres" / "first-start.sh").read_text()
    # The role exists here, as all databases of this server share it.
    script = script.replace("/run/secrets", environ["SECRETS"]).replace(
        "ROLE posthub ", "ROLE posthub_fresh "
    )
    script = script.replace("TO posthub'", "TO posthub_fresh'")
    given = {
        "PATH": environ["PATH"],
        "PGHOST": HOST,
        "PGPORT": str(earlier.port),
        "PGPASSWORD": "of-the-admin",
        "POSTGRES_USER": "posthub_admin",
        "POSTGRES_DB": "fresh",
    }
    done = subprocess.run(["sh", "-c", script], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(
        f"postgresql://posthub_fresh:{PASSWORD}@{HOST}:{earlier.port}/fresh", autocommit=True
    ) as app:
        app.execute("CREATE TABLE made_by_a_migration (v vector(3))")
    with psycopg.connect(f"{admin}/postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE fresh")
        connection.execute("DROP ROLE posthub_fresh")
