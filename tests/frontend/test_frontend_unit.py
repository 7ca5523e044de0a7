"""The frontend's own tests and checks, run by its own tools."""

import subprocess
from pathlib import Path

import pytest

from stack.web.node import FRONTEND

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("frontend")]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=FRONTEND, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_the_logic(packages: None) -> None:
    run("node_modules/.bin/vitest", "run", "--no-color")


def test_the_types_of_the_tests(packages: None) -> None:
    run("node_modules/.bin/tsc", "--noEmit", "-p", "tsconfig.spec.json")


def test_the_client_is_the_one_of_the_schema(packages: None, tmp_path: Path) -> None:
    made = tmp_path / "schema.ts"
    run("node_modules/.bin/openapi-typescript", "openapi.json", "--output", str(made))
    committed = FRONTEND / "src/app/api/schema.ts"
    assert made.read_text() == committed.read_text(), "in app/frontend: npm run schema"
