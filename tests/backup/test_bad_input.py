"""A user's mistake is reported with what to try, the exit code is 2, and nothing is changed."""

from pathlib import Path

import pytest

from backup.cli import backup
from sidecar.cli import run as run_cli
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase

CASES = {
    "unknown scheme": ({"BACKUP_STORE_URL": "ftp://host/x"}, "unknown scheme 'ftp'"),
    "a key in the store's URL": ({"BACKUP_STORE_URL": "s3://AKEYID:hush-hush@bucket/x"}, "contains a key"),
    "a key and another scheme": ({"BACKUP_STORE_URL": "https://AKEYID:hush-hush@host/x"}, "contains a key"),
    "a key in the endpoint": (
        {"BACKUP_STORE_URL": "s3://bucket/x", "BACKUP_S3_ENDPOINT_URL": "https://AKEYID:hush-hush@host"},
        "contains a key",
    ),
    "a secret that no file takes": (
        {"DATABASE_URL": "postgresql://u@h/d?sslkey=/k&sslpassword=hush-hush"},
        "DATABASE_URL has sslpassword",
    ),
    "no bucket": ({"BACKUP_STORE_URL": "s3:///prefix"}, "does not name a bucket"),
    "no folder": ({"BACKUP_STORE_URL": "file://"}, "does not name an absolute folder"),
    "no store": ({"BACKUP_STORE_URL": ""}, "BACKUP_STORE_URL is not set"),
    "not postgres": ({"DATABASE_URL": "mysql://u:p@h/d"}, "'mysql', not postgresql"),
    "no database": ({"DATABASE_URL": "postgresql://u:p@h"}, "does not name a database"),
    "nothing to do": ({"DATABASE_URL": ""}, "no database is configured"),
    "not redis": ({"BACKUP_REDIS_URLS": "cache=http://h"}, "'http', not redis"),
    "no name": ({"BACKUP_REDIS_URLS": "redis://h"}, "not name=url"),
    "twice": (
        {"BACKUP_DATABASE_URLS": "a=postgresql://h/x, a=postgresql://h/y"},
        "two databases are named a",
    ),
    "a name that cannot be a folder": (
        {"BACKUP_DATABASE_URLS": "a=postgresql://h/x,attempts=postgresql://h/y"},
        "attempts",
    ),
    "a server without encryption": (
        {"BACKUP_SERVERS": "main=postgresql://u:hush-hush@h/postgres"},
        "BACKUP_AGE_RECIPIENTS is not",
    ),
    "a server named like a database": (
        {"BACKUP_DATABASE_URLS": "main=postgresql://h/x", "BACKUP_SERVERS": "main=postgresql://h/postgres"},
        "main is the name of a database",
    ),
    "two servers of one name": (
        {"BACKUP_SERVERS": "main=postgresql://h/postgres,main=postgresql://i/postgres"},
        "or of another server",
    ),
    "a server's name that cannot be a folder": (
        {"BACKUP_SERVERS": "attempts=postgresql://h/postgres"},
        "attempts",
    ),
    "a server that is not postgres": (
        {"BACKUP_SERVERS": "main=mysql://h/postgres"},
        "'mysql', not postgresql",
    ),
    "cron": (
        {"BACKUP_SCHEDULE": "every day"},
        "BACKUP_SCHEDULE=every day: a cron expression has five fields",
    ),
    "cron values": ({"BACKUP_VERIFY_SCHEDULE": "0 25 * * *"}, "outside hour 0-23"),
    "cron that never comes": ({"BACKUP_SCHEDULE": "0 0 31 2 *"}, "the schedule would never run"),
    "server-side encryption": ({"BACKUP_S3_SSE": "nonsense"}, "BACKUP_S3_SSE=nonsense"),
    "a key for nothing": ({"BACKUP_S3_SSE_KMS_KEY_ID": "k"}, "without BACKUP_S3_SSE=aws:kms"),
    "a ping to nowhere": ({"BACKUP_PING_URL": "hush-hush"}, "begins with https://"),
    "time zone": ({"BACKUP_TIMEZONE": "Mars/Olympus"}, "not a known time zone"),
    "keeps nothing": (
        {f"BACKUP_KEEP_{tier}": "0" for tier in ("LAST", "DAILY", "WEEKLY", "MONTHLY")},
        "retention keeps nothing",
    ),
    "floor above all": (
        {"BACKUP_KEEP_FLOOR": "99"},
        "BACKUP_KEEP_FLOOR=99 contradicts",
    ),
    "within": ({"BACKUP_KEEP_WITHIN": "a while"}, "such as 36h, 14d, 2w"),
    "recipient": ({"BACKUP_AGE_RECIPIENTS": "age1nonsense"}, "not a valid public key"),
    "identity file": ({"BACKUP_AGE_IDENTITY_FILE": "/nowhere/identity"}, "cannot be read"),
    "identity": (
        {"BACKUP_AGE_IDENTITY": "AGE-SECRET-KEY-1NONSENSE"},
        "key 1 of the age identity cannot be read",
    ),
    "off-site is main": ({"BACKUP_OFFSITE_STORE_URL": "same"}, "the off-site copy needs another place"),
    "port": ({"BACKUP_PORT": "99999"}, "BACKUP_PORT=99999"),
    "programs": ({"BACKUP_POSTGRES_BIN": "/nowhere"}, "pg_dump is not in /nowhere"),
    "unreachable": (
        {"DATABASE_URL": "postgresql://u:pw@127.0.0.1:9/d"},
        "cannot connect to d on 127.0.0.1:9",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input(
    name: str,
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes, message = CASES[name]
    settings = {**environ, **changes}
    if settings.get("BACKUP_OFFSITE_STORE_URL") == "same":
        settings["BACKUP_OFFSITE_STORE_URL"] = settings["BACKUP_STORE_URL"]
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    assert run_cli(backup, ["run"], prog="python -m backup") == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.startswith("Error: ")
    assert "\nTry: " in err
    assert "hush-hush" not in err
    # A mistake that only the server reveals is recorded as a failed run, because the output may go unread.
    written = {path.parent.name for path in (tmp_path / "store").rglob("*") if path.is_file()}
    assert written == ({"attempts"} if name in {"programs", "unreachable"} else set())


def test_a_folder_that_is_not_mounted(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "mnt" / "nas"
    for variable, value in {**environ, "BACKUP_STORE_URL": f"file://{folder}"}.items():
        monkeypatch.setenv(variable, value)
    assert run_cli(backup, ["run"], prog="python -m backup") == 2
    assert f"mkdir -p {folder}" in capsys.readouterr().err
    assert not folder.parent.exists()


def test_wrong_key_and_missing_bucket(
    environ: dict[str, str],
    bucket: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for changes in (
        {"BACKUP_S3_SECRET_ACCESS_KEY": "something-else"},
        {"BACKUP_STORE_URL": "s3://not-there/x"},
    ):
        for variable, value in {**environ, **bucket, **changes}.items():
            monkeypatch.setenv(variable, value)
        assert run_cli(backup, ["run"], prog="python -m backup") == 2
        err = capsys.readouterr().err
        assert err.startswith("Error: check of ")
        assert "something-else" not in err


def test_a_server_newer_than_the_client(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("pg_dump", "pg_dumpall"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.3'\n")
        program.chmod(0o755)
    for variable, value in {**environ, "BACKUP_POSTGRES_BIN": str(tmp_path / "bin")}.items():
        monkeypatch.setenv(variable, value)
    assert run_cli(backup, ["run"], prog="python -m backup") == 2
    err = capsys.readouterr().err
    assert "pg_dump is 12.3: pg_dump must be at least as new as the server" in err
    assert "BACKUP_POSTGRES_BIN" in err


def test_several_databases_need_a_choice(
    environ: dict[str, str],
    postgres: Postgres,
    new_database: NewDatabase,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    urls = ",".join(f"{name}={postgres.url_for(new_database('SELECT 1'))}" for name in ("one", "two"))
    for variable, value in {**environ, "BACKUP_DATABASE_URLS": urls}.items():
        monkeypatch.setenv(variable, value)
    assert run_cli(backup, ["verify"], prog="python -m backup") == 2
    assert "choose one with --database: one, two" in capsys.readouterr().err
    assert run_cli(backup, ["run", "--json"], prog="python -m backup") == 0
    assert '"database": "two"' in capsys.readouterr().out


def test_help_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(backup, ["--help"], prog="python -m backup") == 0
    assert "doctor" in capsys.readouterr().out
    assert run_cli(backup, ["nonsense"], prog="python -m backup") == 2
    assert "Try:" in capsys.readouterr().err
