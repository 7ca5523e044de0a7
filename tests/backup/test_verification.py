"""Options of a verification (a server, SQL checks, a command), and the errors that it ignores."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
import zstandard

from backup.catalogue.history import projected
from backup.catalogue.manifest import StoredObject
from backup.errors import SpaceError
from backup.load import passes, pg_restore
from backup.load.execution import without_values
from backup.load.fetch import fetch
from backup.load.properties import renamed
from backup.load.throwaway import running_in, sweep_folders
from backup.postgres import roles
from backup.postgres.dsn import Address
from backup.postgres.statements import split
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import MemoryStore
from backup.verify import verifier
from backup.verify.checks import url
from backup.wiring import wire
from stack.servers import Postgres, Redis
from tests.backup.conftest import SCHEMA, NewDatabase
from tests.backup.restorekit import Command, names

pyrage = pytest.importorskip("pyrage")


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def test_all_that_never_were_verified(command: Command) -> None:
    ids = [command.passed("run")["id"] for _ in range(3)]
    assert command.passed("verify", ids[1])["ok"]
    assert [report["id"] for report in command.passed("verify", "--all-unverified")] == [ids[0], ids[2]]
    assert command.passed("verify", "--all-unverified") == []
    assert command("verify", "latest", "--all-unverified").status == 2


def test_a_host_that_has_only_the_store(command: Command) -> None:
    made = command.passed("run")
    assert [each["id"] for each in command.passed("list", DATABASE_URL="")] == [made["id"]]
    for words in ((made["id"],), ("latest", "--database", made["database"])):
        assert command.passed("show", *words, DATABASE_URL="")["manifest"]["id"] == made["id"]
    assert command("show", "latest", DATABASE_URL="").status == 2


def test_one_that_cannot_be_verified_does_not_delay_others(command: Command) -> None:
    first = command.passed("run")["id"]
    identity = pyrage.x25519.Identity.generate()
    locked = command("run", "--json", BACKUP_AGE_RECIPIENTS=str(identity.to_public())).json["id"]
    last = command.passed("run")["id"]
    done = command("verify", "--all-unverified", "--json")
    assert done.status == 1
    assert {each["id"]: each["ok"] for each in done.json} == {first: True, locked: None, last: True}, done
    assert "identity" in done.err
    state = new_state(wire(BackupSettings.load(command.environ)))
    state.refresh()
    Jobs(state).verify_some()
    records = state.history(state.wiring.targets[0].name).attempts
    assert [record.outcome for record in records if record.kind == "verification"][-1] == "success"


@pytest.mark.parametrize("program", ["pg_restore", "redis-check-rdb"])
def test_a_killed_program_says_nothing_about_the_backup(
    command: Command, busy_redis: Redis, tmp_path: Path, program: str
) -> None:
    """Out of memory here says nothing about the backup."""
    setting = "BACKUP_POSTGRES_BIN"
    if program == "redis-check-rdb":
        setting = "BACKUP_REDIS_BIN"
        command.environ.update(BACKUP_REDIS_URLS=f"broker={busy_redis.url}", DATABASE_URL="")
    made = command.passed("run")
    killed = tmp_path / "bin"
    killed.mkdir()
    for file in Path(command.environ[setting]).iterdir():
        (killed / file.name).symlink_to(file)
    (killed / program).unlink()
    (killed / program).write_text(
        f"#!/bin/sh\ncase $1 in --version) exec {command.environ[setting]}/{program} --version ;; esac\nkill -9 $$\n"
    )
    (killed / program).chmod(0o755)
    done = command("verify", made["id"], **{setting: str(killed)})
    assert done.status == 1, done
    assert "was killed by signal 9" in done.err
    assert "this says nothing about the backup" in done.err
    assert command.passed("list")[0]["state"] == "unverified"


def test_too_little_shared_memory_is_named(command: Command, environ: dict[str, str], tmp_path: Path) -> None:
    """A container has 64 MB by default, and an index that is built in parallel takes more. What runs is a stand-in."""
    made = command.passed("run")
    small = tmp_path / "bin"
    small.mkdir()
    real = Path(environ["BACKUP_POSTGRES_BIN"])
    for file in real.iterdir():
        (small / file.name).symlink_to(file)
    (small / "pg_restore").unlink()
    (small / "pg_restore").write_text(
        f'#!/bin/sh\ncase "$*" in *--dbname*) ;; *) exec {real}/pg_restore "$@" ;; esac\n'
        'echo "pg_restore: error: could not execute query: ERROR:  could not resize shared memory segment '
        '\\"/PostgreSQL.1\\" to 268 bytes: No space left on device" >&2\nexit 1\n'
    )
    (small / "pg_restore").chmod(0o755)
    done = command("restore", made["id"], "--into", "elsewhere", BACKUP_POSTGRES_BIN=str(small))
    done.fails(1, "could not resize shared memory", "shm_size: 512m", "max_parallel_maintenance_workers%3D0")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_index_that_shared_memory_is_too_small_for(command: Command, tmp_path: Path, jobs: str) -> None:
    """The server cannot make files of more than 32 MB, its shared memory among them; several processes would use 256 MB."""
    with Postgres(tmp_path / "small", options={"min_parallel_table_scan_size": "0"}) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(SCHEMA.encode())
        there = {"DATABASE_URL": server.url, "BACKUP_RESTORE_JOBS": jobs}
        command.passed("run", **there)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (32 << 20, 32 << 20))
        done = command("restore", "--json", **there)
        done.passes()
        assert (done.json["ok"], done.json["differences"]) == (True, [])
        assert (
            "too little shared memory (/dev/shm); objects that one process now restores alone: 1" in done.err
        )


def test_indexes_of_a_table_that_wait_for_each_other(
    command: Command, postgres: Postgres, new_database: NewDatabase
) -> None:
    """Each of two processes builds an index, and then changes the table that the other one still reads."""
    name = new_database(
        "CREATE TABLE t (a int NOT NULL, b int); INSERT INTO t SELECT i, i FROM generate_series(1, 300000) i;"
        "CREATE INDEX one ON t (b); ALTER TABLE t CLUSTER ON one;"
        "CREATE UNIQUE INDEX two ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX two;"
        "CREATE TABLE r (a int REFERENCES t (a))",
        "deadlock",
    )
    made = command.passed("run", DATABASE_URL=postgres.url_for(name))
    waited = "processes of the restore waited for each other; objects that one process now restores alone:"
    # On a busy machine, one of them may be done before the other begins.
    for _ in range(8):
        done = command("verify", made["id"], "--json", BACKUP_RESTORE_JOBS="2")
        done.passes()
        assert done.json["differences"] == []
        if waited in done.err:
            break
    assert waited in done.err


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_full_disk_says_nothing_about_the_backup(encrypted: bool) -> None:
    identity = pyrage.x25519.Identity.generate()
    data = zstandard.compress(os.urandom(3 << 20))
    data = pyrage.encrypt(data, [identity.to_public()]) if encrypted else data
    store = MemoryStore()
    store.put("x", data)
    known = StoredObject(
        name="x",
        role="archive",
        raw_bytes=3 << 20,
        stored_bytes=len(data),
        sha256="",
        encryption="age" if encrypted else None,
    )
    with pytest.raises(SpaceError, match="No space left"):
        fetch(store, "x", known, Path("/dev/full"), (identity,))


def test_settings_lead_nowhere(command: Command, tmp_path: Path) -> None:
    command.passed("run")
    (tmp_path / "file").touch()  # the paths are short, because sockets would be in them
    nowhere = str(tmp_path / "file" / "x")
    for verb in ("verify", "restore", "drill"):
        done = command(verb, BACKUP_WORK_DIR=nowhere)
        done.fails(2, nowhere, "Try: set BACKUP_WORK_DIR")
    done = command("verify", BACKUP_VERIFY_COMMAND="sh -c 'x")
    done.fails(2, "BACKUP_VERIFY_COMMAND")


def test_a_killed_verification_of_redis_leaves_nothing(
    environ: dict[str, str], busy_redis: Redis, tmp_path: Path
) -> None:
    """The next run removes plain-text sessions and the server with them."""
    work = tmp_path / "work"
    work.mkdir()
    settings = {**environ, "DATABASE_URL": "", "BACKUP_REDIS_URLS": f"cache={busy_redis.url}"}
    env = {**os.environ, **settings, "BACKUP_WORK_DIR": str(work)}
    with redis.Redis.from_url(busy_redis.url) as client:
        client.mset({f"session:{i}": "secret" for i in range(1000)})
    subprocess.run([sys.executable, "-m", "backup", "run"], env=env, check=True, capture_output=True)
    wrapped = tmp_path / "bin"
    wrapped.mkdir()
    for file in Path(environ["BACKUP_REDIS_BIN"]).iterdir():
        (wrapped / file.name).symlink_to(file)
    # It reports that it is running, and stays busy forever.
    server = wrapped / "redis-server"
    server.unlink()
    real = Path(environ["BACKUP_REDIS_BIN"], "redis-server")
    server.write_text(
        f'#!/bin/sh\ncase $1 in --version|-v) exec {real} "$@" ;; esac\nexec {real} "$@" --requirepass nobody-knows\n'
    )
    server.chmod(0o755)
    verifying = subprocess.Popen(
        [sys.executable, "-m", "backup", "verify"],
        env={**env, "BACKUP_REDIS_BIN": str(wrapped)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (pids := [pid for folder in work.glob("*") for pid in running_in(folder)]):
        assert verifying.poll() is None
        time.sleep(0.05)
    verifying.kill()
    verifying.wait()
    assert list(work.rglob("dump.rdb"))
    assert sweep_folders(work) == 1
    assert list(work.iterdir()) == []
    for pid in pids:
        while Path(f"/proc/{pid}/cwd").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.05)
    with redis.Redis.from_url(busy_redis.url) as client:
        client.flushall()


def test_questions_of_the_users(command: Command, tmp_path: Path) -> None:
    made = command.passed("run")
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "fresh.sql").write_text("SELECT max(created) > now() - interval '1 day' FROM posts;\n")
    (checks / "none.sql").write_text("SELECT true WHERE false")
    (checks / "wrong.sql").write_text("SELECT no_such_column FROM posts")
    (checks / "writes.sql").write_text("DELETE FROM posts RETURNING true")
    asked = {"BACKUP_VERIFY_CHECKS_DIR": str(checks)}
    report = command("verify", made["id"], "--json", **asked).json
    found = {each["object"]: each["found"] for each in report["differences"]}
    assert set(found) == {"none.sql", "wrong.sql", "writes.sql"}
    assert found["none.sql"] == "no row"
    assert "no_such_column" in found["wrong.sql"]
    assert "read-only" in found["writes.sql"]
    done = command("verify", made["id"], **asked)
    done.fails(1, "wrong.sql")
    for name in ("none", "wrong", "writes"):
        (checks / f"{name}.sql").unlink()
    assert command("verify", made["id"], **asked).status == 0
    done = command("verify", made["id"], BACKUP_VERIFY_CHECKS_DIR=str(tmp_path / "nothing"))
    done.fails(1, "is not a folder")


def test_a_command_of_the_users(command: Command, tmp_path: Path) -> None:
    made = command.passed("run")
    script = tmp_path / "check.sh"
    script.write_text('#!/bin/sh\necho "$DATABASE_URL"\nexit "$1"\n')
    script.chmod(0o755)
    assert command("verify", made["id"], BACKUP_VERIFY_COMMAND=f"{script} 0").status == 0
    report = command("verify", made["id"], "--json", BACKUP_VERIFY_COMMAND=f"{script} 3").json
    assert [(each["kind"], each["found"]) for each in report["differences"]] == [
        ("check", report["differences"][0]["found"])
    ]
    assert report["differences"][0]["found"].startswith("exit code 3: postgresql://posthub@%2F")


def test_a_server_that_is_given(command: Command, postgres: Postgres, new_database: NewDatabase) -> None:
    """Its other databases are not touched, and we leave nothing behind: no database, no role."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE ROLE only_here")
        connection.execute("CREATE DATABASE posthub_ops_verify_dead")
    name = new_database("CREATE TABLE t (id int); ALTER TABLE t OWNER TO only_here", "owned")
    given = {"DATABASE_URL": postgres.url_for(name), "BACKUP_VERIFY_URL": postgres.url}
    assert command("run", **given).status == 0
    done = command("verify", "--json", **given)
    assert (done.status, done.json["differences"]) == (0, []), done
    assert names(postgres, "posthub_ops_verify") == []


def test_ignorable_errors() -> None:
    newer = 'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "transaction_timeout"'
    ignored = "pg_restore: warning: errors ignored on restore: 1"
    assert pg_restore.only_ignorable([newer, "Command was: SET transaction_timeout = 0;", ignored])
    assert not pg_restore.only_ignorable([newer, ignored.replace("1", "2")])
    # Each process of a parallel restore prints it, and the first counts its own.
    assert pg_restore.only_ignorable([newer, "Command was: SET transaction_timeout = 0;", newer, ignored])
    german = "pg_restore: error: could not execute query: FEHLER:  unbekannter Konfigurationsparameter 'transaction_timeout'"
    assert pg_restore.only_ignorable([german, "Command was: SET transaction_timeout = 0;", ignored])
    assert not pg_restore.only_ignorable([german, "Command was: CREATE TABLE public.t (", ignored])
    other = "pg_restore: error: could not execute query: ERROR:  no such thing"
    assert not pg_restore.only_ignorable([newer, newer, other, ignored.replace("1", "2")])
    messages = pg_restore.errors(
        [newer, "Command was: SET x;", other, "DETAIL:  of it", "Command was: CREATE", "ERROR:  y"]
    )
    assert [each[0] for each in messages] == [other, "ERROR:  y"]
    assert not pg_restore.only_ignorable(
        ["pg_restore: error: could not execute query: ERROR:  out of memory", ignored]
    )
    assert not pg_restore.only_ignorable([])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            'COPY failed for table "t": ERROR:  invalid input syntax for type integer: "a "b" c"',
            "integer: SHA-256 ",
        ),
        (
            'COPY failed for table "t": ERROR:  value "99999" is out of range for type smallint',
            "value SHA-256 ",
        ),
        ('could not execute query: ERROR:  invalid input value for enum state: "secret"', "state: SHA-256 "),
        (
            'could not execute query: ERROR:  relation "public.t" already exists',
            'relation "public.t" already exists',
        ),
    ],
)
def test_values_of_rows_are_hashed_in_reports(message: str, shown: str) -> None:
    found = without_values(f"pg_restore: error: {message}")
    assert shown in found
    assert not any(value in found for value in ('a "b" c', "99999", "secret"))
    assert found == without_values(f"pg_restore: error: {message}")


GLOBALS = rb"""
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
CREATE ROLE posthub;
ALTER ROLE posthub WITH SUPERUSER;
COMMENT ON ROLE posthub IS 'two
lines; CREATE ROLE x;';
CREATE ROLE "the app";
ALTER ROLE "the app" WITH SUPERUSER NOINHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION BYPASSRLS CONNECTION LIMIT 7 VALID UNTIL '2030-01-01';
COMMENT ON ROLE "the app" IS 'first
-- second
CREATE TABLESPACE third;';
ALTER ROLE "the app" SET search_path TO '
', 'b';
CREATE ROLE stranger;
ALTER ROLE stranger WITH LOGIN;
GRANT pg_monitor TO "the app" WITH INHERIT TRUE GRANTED BY gone;
GRANT stranger TO "the app" GRANTED BY posthub;
GRANT pg_execute_server_program TO "the app" WITH INHERIT TRUE GRANTED BY posthub;
GRANT posthub TO "the app";
GRANT "the app" TO posthub;
GRANT SET ON PARAMETER work_mem TO "the app";
GRANT SET,ALTER SYSTEM ON PARAMETER archive_command TO "the app";
SET SESSION AUTHORIZATION "the giver";
GRANT SET ON PARAMETER work_mem TO "the app";
RESET SESSION AUTHORIZATION;
ALTER ROLE "the app" RENAME TO other;
CREATE TABLESPACE fast OWNER posthub LOCATION '/fast
slow';
GRANT ALL ON TABLESPACE fast TO stranger;
"""


def test_roles_that_a_server_lacks() -> None:
    there = {"posthub", "pg_monitor", "pg_execute_server_program"}
    making = roles.missing(
        split(GLOBALS), there, {"posthub", "the app"}, {"posthub", "pg_execute_server_program"}
    )
    assert making.statements == (
        b"SET client_encoding = 'UTF8';",
        b"SET standard_conforming_strings = on;",
        b'CREATE ROLE "the app";',
        b"ALTER ROLE \"the app\" WITH NOINHERIT CONNECTION LIMIT 7 VALID UNTIL '2030-01-01';",
        b"COMMENT ON ROLE \"the app\" IS 'first\n-- second\nCREATE TABLESPACE third;';",
        b"ALTER ROLE \"the app\" SET search_path TO '\n', 'b';",
        b'GRANT pg_monitor TO "the app" WITH INHERIT TRUE;',
        b'GRANT "the app" TO posthub;',
        b'GRANT SET ON PARAMETER work_mem TO "the app";',
    )
    assert making.names == ("the app",)
    assert making.withheld == {
        "the app": (
            b'ALTER ROLE "the app" WITH SUPERUSER CREATEDB LOGIN BYPASSRLS;',
            b'GRANT pg_execute_server_program TO "the app";',
            b'GRANT posthub TO "the app";',
            b'GRANT SET,ALTER SYSTEM ON PARAMETER archive_command TO "the app";',
            b'GRANT SET ON PARAMETER work_mem TO "the app";',
        )
    }
    assert (
        b'ALTER ROLE "the app" WITH NOSUPERUSER NOINHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS'
        b" CONNECTION LIMIT 7 VALID UNTIL '2030-01-01';"
    ) in making.expected
    throwaway = list(roles.for_throwaway(split(GLOBALS), "posthub"))
    assert b"CREATE ROLE posthub;" not in throwaway
    assert b"CREATE ROLE stranger;" in throwaway
    assert not any(b" TABLESPACE fast" in statement for statement in throwaway)


def test_properties_under_another_name() -> None:
    script = rb"""
CREATE DATABASE "The Shop" WITH TEMPLATE = template0 ENCODING = 'UTF8';
\connect "The Shop"
SET statement_timeout = 0;
SET client_encoding = 'LATIN2';
ALTER DATABASE "The Shop" OWNER TO app;
ALTER ROLE "a b" IN DATABASE "The Shop" SET work_mem TO '8MB';
COMMENT ON DATABASE "The Shop" IS 'shop
-- owner: Jana
ALTER DATABASE "The Shop" OWNER TO nobody;
SET x';
SET SESSION AUTHORIZATION giver;
REVOKE CONNECT,TEMPORARY ON DATABASE "The Shop" FROM PUBLIC;
RESET SESSION AUTHORIZATION;
""".strip()
    assert list(renamed(split(script), "new")) == [
        b"SET client_encoding = 'LATIN2';",
        b'ALTER DATABASE "new" OWNER TO app;',
        b'ALTER ROLE "a b" IN DATABASE "new" SET work_mem TO \'8MB\';',
        b'COMMENT ON DATABASE "new" IS \'shop\n-- owner: Jana\nALTER DATABASE "The Shop" OWNER TO nobody;\nSET x\';',
        b"SET SESSION AUTHORIZATION giver;",
        b'REVOKE CONNECT,TEMPORARY ON DATABASE "new" FROM PUBLIC;',
        b"RESET SESSION AUTHORIZATION;",
    ]


def test_addresses_as_urls() -> None:
    socket = Address({"host": "/tmp/a b", "user": "me", "dbname": "restored"})
    assert url(socket) == "postgresql://me@%2Ftmp%2Fa%20b/restored"
    assert (
        url(Address({"host": "db", "port": "5433", "user": "me", "dbname": "x"}, "p@ss"))
        == "postgresql://me:p%40ss@db:5433/x"
    )


def test_a_time_is_scaled_only_from_one_that_was_measured() -> None:
    from backup.catalogue.history import History

    assert projected(History("shop"), [], None) == 0.0


def test_many_small_tables_are_filled_without_creating_their_files_again(
    command: Command, postgres: Postgres, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The privileges still come last: an owner that may not write to its table can be restored."""
    name = new_database(
        "CREATE TABLE t1 (a int PRIMARY KEY, b text); CREATE TABLE t2 (a int REFERENCES t1); CREATE TABLE empty (a int);"
        "INSERT INTO t1 VALUES (1, 'x'); INSERT INTO t2 VALUES (1); REVOKE ALL ON t1, t2 FROM CURRENT_USER;"
        "GRANT SELECT ON t1 TO PUBLIC; SELECT lo_from_bytea(7341, 'large');"
        "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t1",
        "manysmall",
    )
    made = command.passed("run", DATABASE_URL=postgres.url_for(name))
    runs: list[passes.Pass] = []
    real = passes.passes

    def chosen(*arguments: Any, alone: bool) -> list[passes.Pass]:
        runs.extend(found := real(*arguments, alone=alone))
        return found

    monkeypatch.setattr(verifier, "passes", chosen)
    for many, wanted in ((3, 3), (4, 1)):
        monkeypatch.setattr(passes, "MANY_TABLES", many)
        runs.clear()
        report = command.passed("verify", made["id"], BACKUP_RESTORE_JOBS="2")
        assert (report["ok"], len(runs)) == (True, wanted), report
    assert command.passed("verify", made["id"], BACKUP_RESTORE_JOBS="1")["ok"]
    assert not runs[-1].parallel
