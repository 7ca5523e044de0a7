"""The machine of the scripts' tests."""

from pathlib import Path

import pytest

from tests.runbooks.dockerkit import Host


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)
