"""Installs a folder's packages of npm for tests that need them."""

import os
import re
from pathlib import Path

import pytest

from sidecar import OpsError
from stack import web

UNREACHABLE = re.compile("ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|E403|E407|ENETUNREACH")


def install(folder: Path) -> None:
    """Install the locked packages, unless they are installed; skip the test if npm cannot fetch them."""
    try:
        web.modules(folder=folder)
    except OpsError as error:
        # In CI, an unreachable registry must not look like a success.
        if "CI" in os.environ or not UNREACHABLE.search(error.message):
            raise
        pytest.skip(f"npm cannot fetch the packages of {folder}; let it reach its registry: {error.message}")
