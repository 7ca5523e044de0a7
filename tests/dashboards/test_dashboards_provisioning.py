"""What Grafana is started with: data sources, folder, and no way in without the secret."""

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def provisioning(checkout: Path) -> Path:
    return checkout / "dashboards" / "provisioning"


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_prometheus_is_the_default_source_and_its_alerts_are_listed(provisioning: Path) -> None:
    sources = {one["uid"]: one for one in _load(provisioning / "datasources/prometheus.yml")["datasources"]}
    assert sources["prometheus"]["isDefault"]
    assert sources["prometheus"]["jsonData"]["manageAlerts"]
    assert sources["prometheus"]["jsonData"]["alertmanagerUid"] in sources


def test_dashboards_are_loaded_into_one_folder_and_changed_in_code_only(provisioning: Path) -> None:
    (provider,) = _load(provisioning / "dashboards/posthub.yml")["providers"]
    assert provider["folderUid"] == "posthub"
    assert provider["allowUiUpdates"] is False


def test_nobody_enters_without_the_secret(provisioning: Path) -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(provisioning / "grafana.ini")
    assert not settings.getboolean("auth.anonymous", "enabled")
    assert not settings.getboolean("users", "allow_sign_up")
    assert settings["security"]["admin_password"].startswith("$__file{")
