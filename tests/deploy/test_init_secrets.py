"""Each container's secrets, as posthub_init writes them."""

import hashlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from stack.paths import ROOT
from tests.deploy.kubekit import plain, pod_specs, secret_files


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


def test_a_second_start_changes_no_file(tmp_path: Path) -> None:
    """Caddy would reload a changed one in each rollout, and close requests that it has just read."""

    def contents() -> dict[str, bytes]:
        assert _run(tmp_path).returncode == 0
        return {str(file): file.read_bytes() for file in (tmp_path / "secrets").rglob("*") if file.is_file()}

    assert contents() == contents()


def test_two_servers_with_the_same_password_have_different_digests(init_secrets: Any) -> None:
    texts = {init_secrets.operators({"SECRET_KEY": key, "OPS_PASSWORD": "same"}) for key in ("one", "two")}
    assert len(texts) == 2


def test_a_given_one_wins_and_reaches_every_place(tmp_path: Path) -> None:
    _run(tmp_path)
    assert _run(tmp_path, POSTGRES_PASSWORD="p@ss/w:rd", REDIS_PASSWORD='q"uote').returncode == 0
    assert _read(tmp_path, "postgres/postgres_password") == "p@ss/w:rd"
    assert "posthub:p%40ss%2Fw%3Ard@posthub_postgres_prod:5432/posthub" in _read(tmp_path, "api/database_url")
    digest = hashlib.sha256(b'q"uote').hexdigest()
    assert f"user default on #{digest} " in _read(tmp_path, "redis/users.acl")
    _run(tmp_path, REDIS_APP_PASSWORD='q"uote')
    assert _read(tmp_path, "worker/celery_broker_url") == "redis://app:q%22uote@posthub_redis_prod:6379/0"


def test_a_redis_elsewhere_is_used_as_given(tmp_path: Path) -> None:
    _run(tmp_path, REDIS_URL="redis://elsewhere/1")
    for name in ("api/redis_url", "beat/celery_broker_url", "exporter/broker_url"):
        assert _read(tmp_path, name) == "redis://elsewhere/1", name
    assert _read(tmp_path, "backup/redis_urls") == "posthub_redis=redis://elsewhere/1"


def test_databases_that_are_discovered_replace_the_default(tmp_path: Path) -> None:
    assert _run(tmp_path).returncode == 0
    assert _read(tmp_path, "backup/database_urls").startswith("posthub=postgresql://posthub_backup:")
    assert _run(tmp_path, BACKUP_DISCOVER_URL="postgresql://all@db/postgres").returncode == 0
    assert _read(tmp_path, "backup/discover_url") == "postgresql://all@db/postgres"
    assert _read(tmp_path, "backup/database_urls") == ""


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "backup").mkdir(parents=True)
    (tmp_path / "secrets" / "backup").chmod(0o755)
    _run(tmp_path)
    for path in (tmp_path / "secrets").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o400), path


def test_what_is_no_longer_needed_is_removed(tmp_path: Path) -> None:
    _run(tmp_path, ALERTMANAGER_WEBHOOK_URL="http://inbox/")
    assert _read(tmp_path, "alertmanager/alertmanager_webhook_url") == "http://inbox/"
    (tmp_path / "secrets" / "api" / "old").write_text("x")
    _run(tmp_path)
    assert not (tmp_path / "secrets" / "api" / "old").exists()


def test_the_folder_of_a_removed_container_is_deleted(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "app").mkdir(parents=True)
    (tmp_path / "secrets" / "app" / "stripe_secret_key").write_text("x")
    _run(tmp_path)
    assert not (tmp_path / "secrets" / "app").exists()


@pytest.mark.parametrize(
    ("variable", "file"),
    [
        ("BACKUP_S3_ACCESS_KEY_ID", "backup/s3_access_key_id"),
        ("STRIPE_SECRET_KEY", "api/stripe_secret_key"),
        ("ALERTS_READBACK_SLACK_AUTHORIZATION", "alert_watch/alerts_readback_slack_authorization"),
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
    digest = init_secrets.operators({"SECRET_KEY": "key", "OPS_PASSWORD": "right"}).split()[3]
    assert bcrypt.checkpw(b"right", digest.encode())
    assert not bcrypt.checkpw(b"wrong", digest.encode())


# The folders that may have each secret, as it is.
WHO = {
    "SECRET_KEY": {"api", "worker", "migrate"},
    "FIELD_ENCRYPTION_KEYS": {"api", "worker", "migrate"},
    "POSTGRES_PASSWORD": {"api", "worker", "worker_ai", "beat", "migrate", "postgres", "db_roles"},
    "POSTGRES_ADMIN_PASSWORD": {"postgres", "db_roles"},
    "BACKUP_DB_PASSWORD": {"backup", "db_roles"},
    "EXPORTER_DB_PASSWORD": {"exporter", "postgres_exporter", "db_roles"},
    "WAL_DB_PASSWORD": {"db_roles"},
    "REDIS_PASSWORD": {"redis"},
    "REDIS_APP_PASSWORD": {"api", "worker", "worker_ai", "beat", "migrate", "flower"},
    "REDIS_EXPORTER_PASSWORD": {"exporter"},
    "REDIS_BACKUP_PASSWORD": {"backup"},
    "REDIS_METRICS_PASSWORD": {"redis_exporter"},
    "GEMINI_API_KEY": {"worker_ai"},
    "PERPLEXITY_API_KEY": {"worker_ai"},
    "NANOBANA_API_KEY": {"worker_ai"},
    "VEO_API_KEY": {"worker_ai"},
    "STRIPE_SECRET_KEY": {"api", "worker"},
    "STRIPE_WEBHOOK_SECRET": {"api"},
    "MEDIA_S3_SECRET_ACCESS_KEY": {"api", "worker", "worker_ai"},
    "SENTRY_DSN": {"api", "worker", "worker_ai", "beat"},
    "BACKUP_S3_SECRET_ACCESS_KEY": {"backup", "backup_wal"},
    "BACKUP_AGE_IDENTITY": {"backup"},
    "BACKUP_MANIFEST_KEY": {"backup", "backup_wal"},
    "ALERTS_PASSWORD": {"prometheus", "alertmanager", "alert_watch"},
    "ALERTMANAGER_SLACK_URL": {"alertmanager", "alert_watch"},
    "ALERTS_READBACK_SLACK_URL": {"alert_watch"},
    "FLOWER_PASSWORD": {"flower"},
    "GRAFANA_ADMIN_PASSWORD": {"grafana"},
    "OPS_PASSWORD": set(),
    "LOGS_PASSWORD": {"log_store", "log_gateway"},
}


@pytest.mark.parametrize("secret", WHO)
def test_only_containers_that_need_a_secret_get_it(init_secrets: Any, secret: str) -> None:
    # Without the addresses that an operator may give, which replace ours.
    values = {
        name: "" if name.endswith(("_URL", "_URLS", "_SERVERS")) else f"0{name}0"
        for name in init_secrets.SECRETS
    }
    values[secret] = f"0{secret}0"
    written = init_secrets.files(values)
    assert {group for group, files in written.items() if f"0{secret}0" in " ".join(files.values())} == WHO[
        secret
    ]


def test_a_key_of_its_own_is_stable_and_good_enough(init_secrets: Any) -> None:
    values = dict.fromkeys(init_secrets.SECRETS, "") | {"SECRET_KEY": "x" * 50}
    first, second = (init_secrets.files(values) for _ in range(2))
    keys = {group: first[group]["secret_key"] for group in ("api", "worker_ai", "beat")}
    assert len(set(keys.values())) == 3
    assert len(keys["beat"]) >= 50
    assert first["beat"]["secret_key"] == second["beat"]["secret_key"]


def test_a_volume_goes_to_its_container(
    init_secrets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that an earlier container still uses keep their owner, and the new one shares their group."""
    changed: list[tuple[str, int, int]] = []

    def chown(path: str, user: int, group: int) -> None:
        changed.append((str(Path(path).resolve().relative_to(tmp_path.resolve())), user, group))

    monkeypatch.setattr(init_secrets.os, "chown", chown)
    for name in ("alert_watch_data", "prometheus_data"):
        (tmp_path / name).mkdir()
    # Of neither root nor the new user.
    mine = tmp_path / "prometheus_data" / "wal"
    mine.write_text("x")
    mine.chmod(0o644)
    monkeypatch.setattr(init_secrets, "SHARED_VOLUMES", {"prometheus_data": "prometheus"})
    init_secrets.hand_over(tmp_path)
    user, group = init_secrets.OWNERS["prometheus"]
    assert ("alert_watch_data", *init_secrets.OWNERS["alert_watch"]) in changed
    # The tests run as root or as another user: only what belongs to root changes its owner.
    owner = user if mine.stat().st_uid == 0 else -1
    assert ("prometheus_data/wal", owner, group) in changed
    assert stat.S_IMODE(mine.stat().st_mode) == 0o664


@pytest.mark.parametrize("swapped", ["file", "folder"])
@pytest.mark.parametrize("volume", ["alert_watch_data", "prometheus_data"])
def test_a_link_that_replaces_a_file_or_folder_meanwhile_leads_nowhere(
    init_secrets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: str, swapped: str
) -> None:
    """The container that is still running could otherwise have root change any file of the checkout's secrets."""
    inside, outside = tmp_path / volume / "folder", tmp_path / "secrets"
    inside.mkdir(parents=True)
    outside.mkdir()
    (inside / "file").touch()
    secret = outside / "file"
    secret.touch()
    secret.chmod(0o400)
    changed: list[Path] = []

    def swap() -> None:
        mine, theirs = (inside / "file", secret) if swapped == "file" else (inside, outside)
        if not mine.is_symlink():
            mine.rename(tmp_path / "earlier")
            mine.symlink_to(theirs)

    def chown(path: Any, *_: int, **__: bool) -> None:
        found = Path(path).resolve()
        changed.append(found)
        if found.name == swapped:
            swap()

    monkeypatch.setattr(init_secrets.os, "chown", chown)
    init_secrets.hand_over(tmp_path)
    assert (tmp_path / "earlier").exists()
    assert not [path for path in changed if path.is_relative_to(outside.resolve())]
    assert stat.S_IMODE(secret.stat().st_mode) == 0o400


def test_every_folder_is_one_that_a_container_mounts_as_its_owner(
    init_secrets: Any, production: dict[str, Any]
) -> None:
    mounted = {
        volume.split(":")[0].removeprefix("./secrets/"): service["user"]
        for service in production["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./secrets/")
    }
    owners = {group: f"{user}:{members}" for group, (user, members) in init_secrets.OWNERS.items()}
    assert mounted == owners
    values = dict.fromkeys(init_secrets.SECRETS, "x")
    assert set(init_secrets.files(values)) == set(owners)


def test_no_two_containers_share_a_user(init_secrets: Any) -> None:
    users = [user for user, _ in init_secrets.OWNERS.values()]
    assert len(set(users)) == len(users)


def test_the_documented_script_makes_the_clusters_secrets_from_these(tmp_path: Path) -> None:
    """docs/kubernetes.md, "Secrets": with every file that the cluster's settings name, and the real keys."""
    given = {
        "GEMINI_API_KEY": "gemini-key",
        "BACKUP_S3_ACCESS_KEY_ID": "id",
        "BACKUP_S3_SECRET_ACCESS_KEY": "key",
    }
    assert _run(tmp_path, **given).returncode == 0
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    script = page.partition("\n## Secrets\n")[2].partition("```sh\n")[2].partition("```")[0]
    made, programs = tmp_path / "made", tmp_path / "bin"
    made.mkdir()
    programs.mkdir()
    # A kubectl that keeps what it is given.
    (programs / "kubectl").write_text(
        f'#!/bin/sh\nfor word; do case $word in posthub-*) name=$word ;; --from-file=*) cp -r "${{word#*=}}" {made}/$name ;; esac; done\n'
    )
    (programs / "kubectl").chmod(0o755)
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(made.iterdir())) == 15
    documents = plain()
    for name, _, spec in pod_specs(documents):
        mounted = {
            volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume
        }
        for container in spec["containers"]:
            places = {mount["mountPath"]: mounted.get(mount["name"]) for mount in container["volumeMounts"]}
            for path in secret_files(container, documents):
                folder, _, file = path.rpartition("/")
                secret = places[folder]
                assert secret, f"{name}: {path}"
                if (made / secret).is_dir():
                    assert (made / secret / file).is_file(), f"{name}: {path}"
    assert (made / "posthub-worker-ai" / "gemini_api_key").read_text() == "gemini-key"
    assert (made / "posthub-api" / "secret_key").read_text() == _read(tmp_path, "values/SECRET_KEY")


def test_in_the_cluster_too_only_the_program_that_uses_a_key_has_it() -> None:
    documents = plain()
    files = {
        name.partition("/")[2]: {
            path.rpartition("/")[2] for one in spec["containers"] for path in secret_files(one, documents)
        }
        for name, _, spec in pod_specs(documents)
    }
    assert {name for name, found in files.items() if "stripe_webhook_secret" in found} == {"posthub-api"}
    signing = {"posthub-api", "posthub-celery-worker", "posthub-migrate"}
    assert {name for name, found in files.items() if "field_encryption_keys" in found} == signing
    assert files["posthub-flower"] == {"celery_broker_url"}
    assert not files["posthub-celery-beat"] & {"gemini_api_key", "stripe_secret_key", "secret_key_fallbacks"}
    secrets = [
        volume["secret"]["secretName"]
        for name, _, spec in pod_specs(documents)
        if name.startswith("Deployment/") and spec["containers"][0]["image"].startswith("posthub/")
        for volume in spec["volumes"]
        if "secret" in volume
    ]
    assert len(secrets) == len(set(secrets)), "each program has its own secret"
