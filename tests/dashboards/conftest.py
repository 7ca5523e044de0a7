"""The committed dashboards, read as Grafana reads them."""

import json
from pathlib import Path
from typing import Any

import pytest

from dashboards import JSON_FOLDER

FILES = sorted(JSON_FOLDER.glob("*.json"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dashboard" in metafunc.fixturenames:
        loaded = [json.loads(path.read_text(encoding="utf-8")) for path in FILES]
        metafunc.parametrize("dashboard", loaded, ids=[path.stem for path in FILES])


@pytest.fixture(scope="session")
def all_dashboards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in FILES]


@pytest.fixture(scope="session")
def checkout() -> Path:
    return Path(__file__).parents[2]
