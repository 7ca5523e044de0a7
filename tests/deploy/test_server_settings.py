"""The server's settings reach the cluster, or something else there decides them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from stack.deploy import cli
from stack.deploy.server_settings import APP, BACKUP, ELSEWHERE, server_settings
from stack.paths import ROOT
from tests.deploy.envexample import example_variables
from tests.deploy.kubekit import plain


@pytest.fixture(scope="module")
def secrets(production: dict[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = production["x-no-secrets"]
    return found


def test_every_setting_of_the_server_is_taken_or_decided_elsewhere(secrets: Mapping[str, str]) -> None:
    names = dict.fromkeys(example_variables(), "changed")
    found = server_settings(names, secrets)
    assert {*found.taken[APP], *found.taken[BACKUP], *found.left, *secrets} >= set(names)
    lost = (
        "BACKUP_KEEP_DAILY",
        "BACKUP_OFFSITE_STORE_URL",
        "BACKUP_AGE_RECIPIENTS",
        "BACKUP_S3_ENDPOINT_URL",
    )
    assert set(lost) <= set(found.taken[BACKUP])
    assert {"ALLOWED_HOSTS", "API_THROTTLE_USER", "STRIPE_PRICE_PRO"} <= set(found.taken[APP])
    assert "BACKUP_STORE_URL" in found.left, "two backups in one folder would delete each other's"
    assert not set(secrets) & {*found.taken[APP], *found.taken[BACKUP]}


def test_what_decides_instead_of_the_server_still_has_something_to_decide(secrets: Mapping[str, str]) -> None:
    page = (ROOT / ".env.production.example").read_text(encoding="utf-8")
    assert not [name for name in ELSEWHERE if f"\n{name}" not in page and f"\n# {name}" not in page]


def test_each_secret_of_the_backup_has_a_file_in_the_cluster(secrets: Mapping[str, str]) -> None:
    maps = {one["metadata"]["name"]: one["data"] for one in plain() if one["kind"] == "ConfigMap"}
    files = {name.removesuffix("_FILE") for name in maps["posthub-backup-files"]}
    # The server's own addresses, the move's, and those of the component pitr.
    elsewhere = {"BACKUP_DISCOVER_URL", "BACKUP_RESTORE_URL", "BACKUP_SERVERS", "BACKUP_DB_PASSWORD"}
    assert {name for name in secrets if name.startswith("BACKUP_")} == files | elsewhere


def test_the_command_writes_the_patch_of_the_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = tmp_path / "k8s" / "overlays" / "production"
    overlay.mkdir(parents=True)
    (overlay / "settings.yaml").write_text("")
    shutil.copy(ROOT / "docker-compose.prod.yml", tmp_path)
    (tmp_path / ".env.production").write_text(
        "BACKUP_KEEP_DAILY=30\nBACKUP_OFFSITE_STORE_URL=s3://far\nSECRET_KEY=hidden\nSITE_DOMAIN=x\nLOG_LEVEL=\n"
    )
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    done = CliRunner().invoke(cli.deploy, ["settings"], catch_exceptions=False)
    assert "SITE_DOMAIN is left out: the overlay's Ingress decides" in done.output
    app, backup = yaml.safe_load_all((overlay / "settings.yaml").read_text())
    assert (app["metadata"]["name"], app["data"]) == (APP, {})
    assert backup["data"] == {"BACKUP_KEEP_DAILY": "30", "BACKUP_OFFSITE_STORE_URL": "s3://far"}
    assert "hidden" not in (overlay / "settings.yaml").read_text()
