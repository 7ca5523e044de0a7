"""What ops-init writes to run the sidecars: Compose, systemd and Kubernetes, each read as its own programs would."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from adopt import cli
from adopt.commands import STACKS, for_stack
from adopt.deploy import IMAGES, PORTS, SIDECARS, USERS
from alerts.receivers import ReceiverSettings
from alerts.render import configuration, write
from backup.settings import BackupSettings
from exporters.settings import ExporterSettings
from sidecar import UsageError
from stack.paths import ROOT, VENV_BIN
from tests.adopt.test_init import adopted, answered, texts, values
from tests.deploy.kubekit import builder

PARTS = ("--part", "celery", "--part", "backup", "--part", "postgres=db:9187", "--no-beat")


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def written(tmp_path: Path, stack: str) -> Path:
    adopted(tmp_path / "out", "--app", "shop", *PARTS, "--stack", stack)
    return tmp_path / "out"


def env_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.rglob("*.env")}


def test_settings_are_there_to_fill_in_and_are_secret(written: Path, stack: str) -> None:
    found = env_files(written)
    assert set(found) == set(SIDECARS.values())
    for path in found.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    if stack == "kubernetes":
        assert "'" not in "".join(
            line for path in found.values() for line in path.read_text().splitlines() if line[0] != "#"
        )
        return
    exporter, backup = values(found["celery-exporter"]), values(found["backup"])
    assert ExporterSettings.load(exporter).brokers()[0].shown == "redis://HOST:6379/0"
    settings = BackupSettings.load(backup)
    assert settings.schedule == "0 2 * * *"
    assert settings.store_url == "s3://BUCKET/shop"
    assert ("BACKUP_POSTGRES_BIN" in backup) == (stack == "systemd")


def test_edited_settings_are_kept_and_stay_secret(written: Path, stack: str) -> None:
    path = env_files(written)["backup"]
    path.write_text("DATABASE_URL='postgres://mine'\n")
    adopted(written, "--app", "other", *PARTS, "--stack", stack)
    assert path.read_text() == "DATABASE_URL='postgres://mine'\n"
    newer = path.with_name(f"{path.name}.new")
    assert "5432/other" in newer.read_text()
    assert stat.S_IMODE(newer.stat().st_mode) == 0o600


def test_addresses_are_those_of_the_stack(written: Path, stack: str) -> None:
    expected = {
        "compose": ("shop_celery_exporter:9808", "shop_alertmanager:9093", "shop_prometheus:9090"),
        "systemd": ("localhost:9808", "localhost:9093", "localhost:9090"),
        "kubernetes": ("shop-celery-exporter:9808", "shop-alertmanager:9093", "shop-prometheus:9090"),
    }[stack]
    found = tuple(
        yaml.safe_load((written / f"targets/{job}.yml").read_text())[0]["targets"][0]
        for job in ("celery", "alertmanager", "prometheus")
    )
    assert found == expected


def compose(folder: Path) -> dict[str, Any]:
    adopted(folder, "--app", "shop", *PARTS)
    document: dict[str, Any] = yaml.safe_load((folder / "compose.yml").read_text())
    return document


def test_the_compose_file_is_valid_and_everything_it_mounts_exists(tmp_path: Path) -> None:
    document = compose(tmp_path / "out")
    done = subprocess.run(
        [
            VENV_BIN / "check-jsonschema",
            "--builtin-schema",
            "vendor.compose-spec",
            tmp_path / "out/compose.yml",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert set(document["services"]) == {
        f"shop_{name}" for name in ("celery_exporter", "backup", "prometheus", "alertmanager", "grafana")
    }
    for service in document["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            if source.startswith("./") and "rendered" not in source:
                assert (tmp_path / "out" / source).exists(), source
            elif not source.startswith("./"):
                assert source in document["volumes"]
        for name in service.get("env_file", ()):
            assert (tmp_path / "out" / name).is_file()
        # Metrics and pages have no separate password here.
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["cap_drop"] == ["ALL"]
    assert "profiles" not in document["services"]["shop_backup"]


def test_the_app_does_not_reach_alertmanager(tmp_path: Path) -> None:
    """It asks for no password: anyone who reaches it can silence every alert."""
    document = compose(tmp_path / "out")
    networks = {name: set(one.get("networks", ["default"])) for name, one in document["services"].items()}
    mine = networks["shop_alertmanager"]
    assert mine <= set(document["networks"]) - {"default"}
    assert {name for name, found in networks.items() if found & mine} == {
        "shop_alertmanager",
        "shop_prometheus",
        "shop_grafana",
    }
    # What is scraped is in the network of the app.
    assert "default" in networks["shop_prometheus"]


def test_the_compose_file_without_a_sidecar_that_is_not_used(tmp_path: Path) -> None:
    adopted(tmp_path / "out", "--app", "shop", "--part", "celery", "--no-beat")
    document = yaml.safe_load((tmp_path / "out/compose.yml").read_text())
    assert "shop_backup" not in document["services"]
    assert "backup_data" not in document["volumes"]
    assert not (tmp_path / "out/env/backup.env").exists()


def test_images_users_and_ports_are_those_of_the_dockerfiles() -> None:
    for part, file in (("celery", "exporters/Dockerfile"), ("backup", "backup/Dockerfile")):
        text = (ROOT / file).read_text()
        assert f"USER {USERS[part]}:{USERS[part]}" in text
        assert f"EXPOSE {PORTS[part]}" in text
    assert set(IMAGES) == set(SIDECARS)


def test_units_read_the_settings_that_were_written(tmp_path: Path) -> None:
    adopted(tmp_path / "out", "--app", "shop", *PARTS, "--stack", "systemd")
    for name, program in (("shop-backup", "ops-backup"), ("shop-celery-exporter", "ops-exporter")):
        unit = (tmp_path / "out/systemd" / f"{name}.service").read_text()
        assert f"EnvironmentFile=/etc/ops/{name}.env" in unit
        assert f"ExecStart=/opt/ops/bin/{program} serve" in unit
        # Two projects on one host must not conflict.
        assert "ops-backup/" not in unit.replace("bin/ops-backup", "")
        assert "StateDirectory=ops-backup" not in unit
    text = "docker compose -f docker-compose.prod.yml exec -T posthub_backup python -m backup list"
    assert for_stack(text, "systemd", "shop") == "set -a; . /etc/ops/shop-backup.env; ops-backup list"


def objects(folder: Path) -> list[dict[str, Any]]:
    adopted(folder, "--app", "shop", *PARTS, "--stack", "kubernetes")
    found = [yaml.safe_load_all(path.read_text()) for path in (folder / "kubernetes").glob("[bc]*.yaml")]
    return [document for documents in found for document in documents]


def test_the_kubernetes_objects_are_valid(tmp_path: Path) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    found = objects(tmp_path / "out")
    for document in found:
        kubernetes_validate.validate(document, "1.31", strict=True)
    assert sorted(f"{each['kind']}/{each['metadata']['name']}" for each in found) == [
        "Deployment/shop-backup",
        "Deployment/shop-celery-exporter",
        "PersistentVolumeClaim/shop-backup",
        "Service/shop-backup",
        "Service/shop-celery-exporter",
    ]
    monitor = yaml.safe_load((tmp_path / "out/kubernetes/operator/service-monitor.yaml").read_text())
    services = [each for each in found if each["kind"] == "Service"]
    (wanted,) = monitor["spec"]["selector"]["matchExpressions"]
    # The label of the services has the job names of the rules.
    assert {each["metadata"]["labels"][monitor["spec"]["jobLabel"]] for each in services} == set(
        wanted["values"]
    )
    rules = yaml.safe_load((tmp_path / "out/kubernetes/operator/prometheus-rules.yaml").read_text())
    names = {rule.get("alert") for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert {"BackupFailed", "CeleryWorkerDown"} <= names


@pytest.mark.skipif(builder() is None, reason="neither kubectl nor kustomize is installed")
def test_the_kustomizations_build(tmp_path: Path) -> None:
    objects(tmp_path / "out")
    command = builder()
    assert command is not None
    for folder, kinds in (
        ("kubernetes", {"Deployment", "Service", "Secret", "PersistentVolumeClaim"}),
        ("kubernetes/operator", {"ServiceMonitor", "PrometheusRule"}),
    ):
        done = subprocess.run([*command, str(tmp_path / "out" / folder)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        built = list(yaml.safe_load_all(done.stdout))
        assert {each["kind"] for each in built} == kinds
        secrets = {each["metadata"]["name"] for each in built if each["kind"] == "Secret"}
        for each in built:
            if each["kind"] == "Deployment":
                (container,) = each["spec"]["template"]["spec"]["containers"]
                assert container["envFrom"][0]["secretRef"]["name"] in secrets


def test_on_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_on_terminal", lambda: True)
    # App, stack; Celery and its address; no backup, no Django; Redis; nothing else; no beat.
    replies = ["shop", "systemd", "y", "", "n", "n", "y", "cache:9121", "n", "n", "n", "n"]
    output = answered(tmp_path / "out", replies)
    found = texts(tmp_path / "out")
    jobs = [job["job_name"] for job in yaml.safe_load(found["prometheus.yml"])["scrape_configs"]]
    assert jobs == ["prometheus", "alertmanager", "celery", "redis"]
    assert "cache:9121" in found["targets/redis.yml"]
    assert "localhost:9808" in found["targets/celery.yml"]
    assert "systemd/shop-celery-exporter.service" in found
    assert "CeleryBeat" not in found["rules/celery.yml"]
    assert "1. fill in env/celery-exporter.env" in output


def test_a_wrong_reply_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_on_terminal", lambda: True)
    with pytest.raises(UsageError, match="is not an address"):
        answered(tmp_path / "out", ["shop", "compose", "y", "nowhere"])
    with pytest.raises(UsageError, match="no part is given"):
        answered(tmp_path / "out", ["shop", "compose", *"nnnnnnn"])
    assert not (tmp_path / "out").exists()


def test_the_rendered_configuration_uses_the_templates_that_were_written(tmp_path: Path) -> None:
    """Alertmanager reports an unknown template only when it sends a message."""
    out = tmp_path / "out"
    adopted(out, "--app", "shop", *PARTS)
    environ = {
        "ALERTMANAGER_SLACK_URL": "https://hooks.slack.test/x",
        "ALERTMANAGER_WEBHOOK_URL": "https://hook.test/x",
    }
    source = out / "alertmanager.yml"
    before = texts(out / "templates")
    document = configuration(ReceiverSettings.load(environ), source=source)
    for target in (out / "alertmanager.rendered.yml", tmp_path / "elsewhere" / "alertmanager.yml"):
        write(target, document, source.parent / "templates")
        text = target.read_text()
        found = texts(target.parent / "templates")
        assert found == before
        used = set(re.findall(r'template "([\w.]+)"', text))
        assert used
        assert used <= set(re.findall(r'define "([\w.]+)"', "".join(found.values())))
        assert "posthub" not in text


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "No such file"), ("[", "is not an Alertmanager conf"), ("a: 1", "is not an Alertmanager conf")],
)
def test_a_source_that_is_not_a_configuration_is_named(
    tmp_path: Path, text: str | None, message: str
) -> None:
    source = tmp_path / "alertmanager.yml"
    if text is not None:
        source.write_text(text)
    with pytest.raises(UsageError, match=message):
        configuration(ReceiverSettings.load({}), source=source)
