"""What the frontend's tests need in addition to Python, and the messages when it is missing."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack import web
from stack.demo.backups import Backups
from stack.paths import ROOT
from stack.suite import Suite
from stack.suite.environments import DEMO_PASSWORD
from stack.web.node import FRONTEND
from tests import npm

# The folder of the documentation's screenshots: FRONTEND_PICTURES=docs/pictures ./ops test tests/frontend
PICTURES = os.environ.get("FRONTEND_PICTURES")


def _left_out() -> list[str]:
    """Test files that this machine cannot run; test_frontend_sources.py reports the reason."""
    if web.why_not() is not None:
        return [f"test_frontend_{name}.py" for name in ("build", "e2e", "nginx", "unit")]
    return [] if web.find_browser() else ["test_frontend_e2e.py"]


collect_ignore = _left_out()


@pytest.fixture(scope="session")
def packages() -> None:
    """The frontend's packages."""
    npm.install(FRONTEND)


@pytest.fixture(scope="session")
def bundle(packages: None) -> Path:
    """The built frontend."""
    return web.build()


@pytest.fixture(scope="session")
def browser() -> Path:
    found = web.find_browser()
    assert found is not None
    return found


# Until the last scenario: its programs would use a seventh of what a whole run of the tests costs.
@pytest.fixture(scope="module")
def suite(bundle: Path, browser: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The whole stack, with a verified backup and the demo's users."""
    folder = tmp_path_factory.mktemp("suite")
    suite = Suite(folder, factor=60.0)

    def seed() -> None:
        suite.manage("seed_demo", "--users", "2", "--paid", "1")

    suite.start(after_migrations=seed)
    try:
        suite.serve_web(bundle)
        backups = Backups(suite)
        backups.verify(backups.run()["id"])
        yield suite
    finally:
        suite.stop()


@pytest.fixture(scope="module")
def story(suite: Suite, browser: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The result of every scenario."""
    assert suite.web is not None
    pictures = ROOT / PICTURES if PICTURES else tmp_path_factory.mktemp("pictures")
    pictures.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["node", "e2e/run.mjs"],
        cwd=FRONTEND,
        env={
            **os.environ,
            "BASE_URL": suite.web.url,
            "PAYMENT_URL": suite.stripe.url,
            "BROWSER": str(browser),
            "PASSWORD": DEMO_PASSWORD,
            "USERS": "demo1,demo2,demo-staff",
            "PICTURES": str(pictures),
            "NODE_NO_WARNINGS": "1",
        },
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document
