"""Each container's secrets, as posthub_init writes them."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from stack.paths import ROOT


def _run(folder: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "deploy" / "init_secrets.py"),
            str(folder / "secrets"),
            str(folder / "volumes"),
        ],
        env={"PATH": "/usr/bin", **environ},
        capture_output=True,
        text=True,
    )


def _read(folder: Path, name: str) -> str:
    return (folder / "secrets" / name).read_text()


def test_passwords_are_generated_once_and_kept(tmp_path: Path) -> None:
    assert _run(tmp_path).returncode == 0
    first = _read(tmp_path, "values/POSTGRES_PASSWORD")
    assert len(first) >= 30
    assert _run(tmp_path).returncode == 0
    assert _read(tmp_path, "values/POSTGRES_PASSWORD") == first


def test_a_given_one_wins_and_reaches_every_place(tmp_path: Path) -> None:
    _run(tmp_path)
    assert _run(tmp_path, POSTGRES_PASSWORD="p@ss/w:rd", REDIS_PASSWORD='q"uote').returncode == 0
    assert _read(tmp_path, "postgres/postgres_password") == "p@ss/w:rd"
    assert "posthub:p%40ss%2Fw%3Ard@posthub_postgres_prod:5432/posthub" in _read(tmp_path, "app/database_url")
    assert _read(tmp_path, "redis/redis.conf") == 'requirepass "q\\"uote"\n'
    assert _read(tmp_path, "exporter/broker_url") == "redis://:q%22uote@posthub_redis_prod:6379/0"


def test_databases_that_are_discovered_replace_the_default(tmp_path: Path) -> None:
    assert _run(tmp_path).returncode == 0
    assert _read(tmp_path, "backup/database_urls").startswith("posthub=postgresql://posthub_backup:")
    assert _run(tmp_path, BACKUP_DISCOVER_URL="postgresql://all@db/postgres").returncode == 0
    assert _read(tmp_path, "backup/discover_url") == "postgresql://all@db/postgres"
    assert _read(tmp_path, "backup/database_urls") == ""


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    _run(tmp_path)
    for path in (tmp_path / "secrets").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o400), path


def test_what_is_no_longer_needed_is_removed(tmp_path: Path) -> None:
    _run(tmp_path, ALERTMANAGER_WEBHOOK_URL="http://inbox/")
    assert _read(tmp_path, "alertmanager/alertmanager_webhook_url") == "http://inbox/"
    (tmp_path / "secrets" / "app" / "old").write_text("x")
    _run(tmp_path)
    assert not (tmp_path / "secrets" / "app" / "old").exists()


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("BACKUP_S3_ACCESS_KEY_ID", "backup/s3_access_key_id"),
        ("STRIPE_SECRET_KEY", "app/stripe_secret_key"),
        ("ALERTS_READBACK_SLACK_AUTHORIZATION", "alertmanager/alerts_readback_slack_authorization"),
    ],
)
def test_a_secret_that_is_emptied_is_gone(tmp_path: Path, variable: str, file: str) -> None:
    _run(tmp_path, **{variable: "of a trial"})
    assert _read(tmp_path, file) == "of a trial"
    _run(tmp_path, **{variable: ""})
    assert _read(tmp_path, file) == _read(tmp_path, f"values/{variable}") == ""


def test_a_receiver_that_is_emptied_is_off(tmp_path: Path) -> None:
    _run(tmp_path, ALERTMANAGER_WEBHOOK_URL="http://inbox/")
    _run(tmp_path, ALERTMANAGER_WEBHOOK_URL="")
    assert not (tmp_path / "secrets" / "alertmanager" / "alertmanager_webhook_url").exists()


def test_a_database_that_exists_needs_its_password(tmp_path: Path) -> None:
    (tmp_path / "volumes" / "postgres").mkdir(parents=True)
    (tmp_path / "volumes" / "postgres" / "PG_VERSION").write_text("16\n")
    done = _run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: a database exists")
    assert "\nTry: set POSTGRES_PASSWORD" in done.stderr
    assert not (tmp_path / "secrets").exists()
    assert _run(tmp_path, POSTGRES_PASSWORD="known").returncode == 0


def test_a_placeholder_is_refused(tmp_path: Path) -> None:
    done = _run(tmp_path, SECRET_KEY="<production-secret>")
    assert done.returncode == 2
    assert "SECRET_KEY is still a placeholder" in done.stderr


def test_operators_can_sign_in_with_the_password(init_secrets: Any) -> None:
    digest = init_secrets.operators("right").split()[3]
    assert bcrypt.checkpw(b"right", digest.encode())
    assert not bcrypt.checkpw(b"wrong", digest.encode())


def test_no_container_gets_what_another_needs(init_secrets: Any) -> None:
    values = {name: f"<{name}>" for name in init_secrets.SECRETS}
    written = {group: " ".join(files.values()) for group, files in init_secrets.files(values).items()}
    for group in ("caddy", "grafana", "redis_exporter", "postgres_exporter", "exporter", "alertmanager"):
        for secret in (
            "SECRET_KEY",
            "POSTGRES_PASSWORD",
            "BACKUP_S3_SECRET_ACCESS_KEY",
            "BACKUP_AGE_IDENTITY",
            "BACKUP_MANIFEST_KEY",
        ):
            assert f"<{secret}>" not in written[group], f"{secret} in {group}"
    assert "<BACKUP_S3_SECRET_ACCESS_KEY>" not in written["app"]


@pytest.mark.parametrize("folder", ["postgres", "app", "backup"])
def test_every_folder_is_one_that_a_container_mounts(folder: str, production: dict[str, Any]) -> None:
    mounts = [v for s in production["services"].values() for v in s.get("volumes", [])]
    assert f"./secrets/{folder}:/run/secrets:ro" in mounts
