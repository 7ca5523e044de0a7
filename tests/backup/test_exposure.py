"""The doctor names what the settings expose unnecessarily, and our own pages can be protected."""

import os
import subprocess
import sys
from pathlib import Path

import bcrypt
import pyrage
import pytest
import requests

from backup.doctor import Check, examine
from backup.exposure import short_secrets, unencrypted
from backup.settings import BackupSettings
from sidecar.settings import variables
from stack import ports
from stack.paths import ROOT
from stack.wait import wait_for
from tests.backup.conftest import Wire
from tests.certificates import write_certificate


@pytest.mark.parametrize(
    ("query", "remarked"),
    [
        ("", "prefer"),
        ("?sslmode=disable", "disable"),
        ("?sslmode=allow", "allow"),
        ("?sslmode=require", ""),
        ("?sslmode=verify-full", ""),
    ],
)
def test_a_database_elsewhere(wired: Wire, query: str, remarked: str) -> None:
    found = list(unencrypted(wired(DATABASE_URL=f"postgresql://u:long-password@db.example.com/shop{query}")))
    assert found == (
        [f"shop is reached with sslmode={remarked}; sslmode=verify-full is safe"] if remarked else []
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/shop",
        "postgresql://u@127.0.0.1/shop",
        "postgresql://u@[::1]/shop",
        "postgresql://u@localhost/shop",
        "postgresql://u@%2Frun%2Fpostgresql/shop",
        "postgresql://u@x/shop?hostaddr=127.0.0.1",
    ],
)
def test_a_database_here(wired: Wire, url: str) -> None:
    assert list(unencrypted(wired(DATABASE_URL=url))) == []


def test_stores_and_redis(wired: Wire) -> None:
    wiring = wired(
        DATABASE_URL="",
        BACKUP_STORE_URL="s3://bucket/prefix",
        BACKUP_S3_ENDPOINT_URL="http://s3.example.com",
        BACKUP_OFFSITE_STORE_URL="s3://other",
        BACKUP_OFFSITE_S3_ENDPOINT_URL="https://s3.example.com",
        BACKUP_REDIS_URLS="a=redis://r.example.com:6379, b=rediss://r.example.com:6379, c=redis://127.0.0.1:6379",
    )
    assert [line.partition(";")[0] for line in unencrypted(wiring)] == [
        "a is reached with redis://",
        "BACKUP_S3_ENDPOINT_URL begins with http://",
    ]
    more = wired(
        DATABASE_URL="",
        BACKUP_DISCOVER_URL="postgresql://u@db.example.com/postgres",
        BACKUP_RESTORE_URL="postgresql://u@db.example.com/shop",
        BACKUP_VERIFY_URL="postgresql://u@127.0.0.1/postgres",
        BACKUP_PING_URL="http://ping.example.com/token",
        BACKUP_NOTIFY_URLS="json://hook.example.com jsons://hook.example.com",
        BACKUP_SERVERS="main=postgresql://u@db.example.com/postgres",
        BACKUP_AGE_RECIPIENTS=str(pyrage.x25519.Identity.generate().to_public()),
    )
    assert [line.partition(";")[0] for line in unencrypted(more)] == [
        "main is reached with sslmode=prefer",
        "BACKUP_DISCOVER_URL is reached with sslmode=prefer",
        "BACKUP_RESTORE_URL is reached with sslmode=prefer",
        "BACKUP_PING_URL begins with http://",
        "BACKUP_NOTIFY_URLS: address 1 begins with json://",
    ]
    [check] = [each for each in examine(wired(BACKUP_REDIS_URLS="")) if each.name == "connections"]
    assert check.ok


POSTGRES = "postgresql://u:long-password@db.example.com/shop"
# An address without TLS for each setting that is one, with what the setting needs.
ADDRESSES = {
    "DATABASE_URL": {"DATABASE_URL": POSTGRES},
    "BACKUP_DATABASE_URLS": {"BACKUP_DATABASE_URLS": f"shop={POSTGRES}"},
    "BACKUP_REDIS_URLS": {"BACKUP_REDIS_URLS": "cache=redis://r.example.com:6379"},
    "BACKUP_SERVERS": {
        "BACKUP_SERVERS": f"main={POSTGRES}",
        "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
    },
    "BACKUP_NOTIFY_URLS": {"BACKUP_NOTIFY_URLS": "json://hook.example.com"},
    **{name: {name: POSTGRES} for name in ("BACKUP_DISCOVER_URL", "BACKUP_RESTORE_URL", "BACKUP_VERIFY_URL")},
    **{
        name: {name: "http://plain.example.com"}
        for name in (
            "BACKUP_PING_URL",
            "BACKUP_PING_START_URL",
            "BACKUP_PING_FAILURE_URL",
            "BACKUP_S3_ENDPOINT_URL",
        )
    },
    "BACKUP_OFFSITE_S3_ENDPOINT_URL": {
        "BACKUP_OFFSITE_STORE_URL": "s3://other",
        "BACKUP_OFFSITE_S3_ENDPOINT_URL": "http://plain.example.com",
    },
}
# They name a bucket or a folder; the endpoint is the address.
PLACES = {"BACKUP_STORE_URL", "BACKUP_OFFSITE_STORE_URL"}


def test_the_addresses_of_the_settings_are_known() -> None:
    names = {each.names[0] for each in variables(BackupSettings)}
    assert {name for name in names if name.endswith(("_URL", "_URLS", "_SERVERS"))} == {*ADDRESSES, *PLACES}


@pytest.mark.parametrize("variable", ADDRESSES)
def test_every_address_of_the_settings_is_looked_at(wired: Wire, variable: str) -> None:
    assert not list(unencrypted(wired()))
    assert len(list(unencrypted(wired(**ADDRESSES[variable])))) == 1


def test_of_several_hosts_each_is_looked_at(wired: Wire) -> None:
    """libpq connects to the first one that answers."""
    assert list(unencrypted(wired(DATABASE_URL="postgresql://u@127.0.0.1,db.example.com/shop")))


def test_secrets_that_are_too_short_to_be_masked(wired: Wire) -> None:
    assert short_secrets(wired(DATABASE_URL="postgresql://u:abc@127.0.0.1/shop")) == 1
    assert short_secrets(wired(DATABASE_URL="postgresql://u:abcd@127.0.0.1/shop")) == 0
    [check] = [
        each
        for each in examine(wired(BACKUP_RESTORE_URL="postgresql://u:abc@127.0.0.1/shop"))
        if each.name == "secrets"
    ]
    # Nothing that run and verify do would fail.
    assert check.ok is None
    assert "one has fewer than 4 characters" in check.detail
    assert "abc" not in f"{check.detail}{check.fix}"


def test_a_user_without_a_name(wired: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random user IDs of OpenShift: initdb would refuse in the night."""

    def user() -> Check:
        return next(each for each in examine(wired()) if each.name == "user")

    assert user().ok
    monkeypatch.setattr(os, "geteuid", lambda: 1_000_660_000)
    assert user().ok is False


@pytest.mark.parametrize(
    ("command", "variable", "metric"),
    [
        (("serve",), "BACKUP_PORT", "backup_verify_confined"),
        (("wal", "serve"), "BACKUP_WAL_PORT", "backup_wal_streaming"),
    ],
    ids=["backups", "wal"],
)
def test_the_service_behind_tls_and_a_password(
    environ: dict[str, str], tmp_path: Path, command: tuple[str, ...], variable: str, metric: str
) -> None:
    write_certificate(tmp_path)
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"
        f"http_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  prometheus: {hashed}\n"
    )
    port = ports.choose()
    more = {
        variable: str(port),
        "BACKUP_WEB_CONFIG_FILE_PATH": str(tmp_path / "web.yml"),
        "BACKUP_CATCH_UP": "false",
        "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
        "BACKUP_SERVERS": "main=postgresql://nobody@127.0.0.1:9/postgres",
    }
    url, ca = f"https://localhost:{port}", str(tmp_path / "cert.pem")
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backup", *command],
            env={**os.environ, **environ, **more},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: _answers(f"{url}/healthz", ca), timeout=150, what="the service", hint="")
        for path in ("/", "/metrics", "/readyz"):
            assert requests.get(f"{url}{path}", verify=ca, timeout=5).status_code == 401, path
        answer = requests.get(f"{url}/metrics", auth=("prometheus", "correct horse"), verify=ca, timeout=5)
        assert (answer.status_code, answer.headers["X-Frame-Options"]) == (200, "deny")
        assert metric in answer.text
    finally:
        process.terminate()
    assert process.wait(150) == 0, (tmp_path / "log").read_text()


def _answers(url: str, ca: str) -> bool:
    try:
        return requests.get(url, verify=ca, timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
