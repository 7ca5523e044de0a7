"""Grafana's provisioning: data sources, folder, and no access without the secret."""

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def provisioning(checkout: Path) -> Path:
    return checkout / "dashboards" / "provisioning"


@pytest.fixture
def settings(provisioning: Path) -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None)
    found.read(provisioning / "grafana.ini")
    return found


@pytest.fixture
def chart(checkout: Path) -> dict[str, Any]:
    """The values of kube-prometheus-stack."""
    return dict(_load(checkout / "k8s" / "kube-prometheus-stack.yml"))


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_prometheus_is_the_default_source_and_its_alerts_are_listed(provisioning: Path) -> None:
    sources = {one["uid"]: one for one in _load(provisioning / "datasources/prometheus.yml")["datasources"]}
    assert sources["prometheus"]["isDefault"]
    assert sources["prometheus"]["jsonData"]["manageAlerts"]
    # Grafana does not reach Alertmanager.
    assert set(sources) == {"prometheus"}


def test_dashboards_are_loaded_into_one_folder_and_changed_in_code_only(provisioning: Path) -> None:
    (provider,) = _load(provisioning / "dashboards/posthub.yml")["providers"]
    assert provider["folderUid"] == "posthub"
    assert provider["allowUiUpdates"] is False


def test_no_one_signs_in_without_the_secret(settings: configparser.ConfigParser) -> None:
    assert not settings.getboolean("auth.anonymous", "enabled")
    assert not settings.getboolean("users", "allow_sign_up")
    assert settings["security"]["admin_password"].startswith("$__file{")


def test_grafana_on_kubernetes_has_the_same_settings(
    settings: configparser.ConfigParser, chart: dict[str, Any]
) -> None:
    """Except the password, which the chart takes from its secret, the folder of the home page, and TLS."""
    asked = {name: dict(settings[name]) for name in settings.sections()}
    del asked["security"]["admin_user"], asked["security"]["admin_password"]
    given = {
        name: {key: str(value).lower() if value in (True, False) else value for key, value in section.items()}
        for name, section in chart["grafana"]["grafana.ini"].items()
    }
    assert given["security"].pop("cookie_secure") == "true"
    homes = [one["dashboards"].pop("default_home_dashboard_path") for one in (asked, given)]
    assert len({Path(home).name for home in homes}) == 1
    assert given == asked


def test_grafana_on_kubernetes_takes_its_password_from_a_documented_secret(
    chart: dict[str, Any], checkout: Path
) -> None:
    admin = chart["grafana"]["admin"]
    page = (checkout / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    made = page.partition(f"create secret generic {admin['existingSecret']}")[2].partition("\nhelm")[0]
    assert f"={admin['userKey']}=" in made
    assert f"={admin['passwordKey']}=" in made


def test_grafana_on_kubernetes_reads_our_config_maps_into_our_folder(
    chart: dict[str, Any], provisioning: Path, checkout: Path
) -> None:
    made = _load(checkout / "dashboards" / "kustomization.yaml")["generatorOptions"]
    reads = chart["grafana"]["sidecar"]["dashboards"]
    folder = made["annotations"][reads["folderAnnotation"]]
    assert reads["provider"]["foldersFromFilesStructure"] is True
    assert folder == _load(provisioning / "dashboards/posthub.yml")["providers"][0]["folder"]
    home = chart["grafana"]["grafana.ini"]["dashboards"]["default_home_dashboard_path"]
    assert Path(home).parent.name == folder


def test_data_sources_on_kubernetes_are_ours(
    chart: dict[str, Any], provisioning: Path, checkout: Path
) -> None:
    asked = {one["uid"]: one for one in _load(provisioning / "datasources/prometheus.yml")["datasources"]}
    given = chart["grafana"]["sidecar"]["datasources"]
    assert {given["uid"]} == asked.keys()
    assert given["httpMethod"] == asked["prometheus"]["jsonData"]["httpMethod"]
    scraped = chart["prometheus"]["prometheusSpec"]["scrapeInterval"]
    assert scraped == asked["prometheus"]["jsonData"]["timeInterval"]


def test_every_target_on_kubernetes_has_its_environment(chart: dict[str, Any]) -> None:
    """Each selector of the dashboards needs one, and each link of an alert selects one."""
    spec = chart["prometheus"]["prometheusSpec"]
    (everywhere,) = [one for one in spec["scrapeClasses"] if one["default"]]
    given = {one["targetLabel"]: one["replacement"] for one in everywhere["relabelings"]}
    assert given == {"environment": spec["externalLabels"]["environment"]}
