"""Shared by the deployment's tests: the compose files as data, and fake hosts."""

import importlib.util
from types import ModuleType
from typing import Any

import pytest

from stack.paths import ROOT
from tests.composefile import merged


@pytest.fixture(scope="session")
def production() -> dict[str, Any]:
    return merged(ROOT / "docker-compose.prod.yml")


@pytest.fixture(scope="session")
def development() -> dict[str, Any]:
    return merged(ROOT / "docker-compose.yml")


@pytest.fixture(scope="session")
def init_secrets() -> ModuleType:
    """deploy/init_secrets.py: it runs in a container, so it does not belong to a package."""
    spec = importlib.util.spec_from_file_location("init_secrets", ROOT / "deploy" / "init_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
