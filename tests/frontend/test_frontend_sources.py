"""Checks of the frontend without a build, and whether this machine can build and display it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import web
from stack.web import bundle as bundles
from stack.web import node as nodes
from stack.web.browser import HINT
from stack.web.node import FRONTEND
from stack.web.site import headers


def test_node_is_here() -> None:
    """Reports what is missing; the other files are not collected then."""
    reason = web.why_not()
    if reason is not None:
        pytest.skip(f"the web frontend is not tested: {reason}")


def test_chromium_is_here() -> None:
    if web.find_browser() is None:
        pytest.skip(f"the web frontend is not tried in a browser: Chromium is not on PATH; {HINT}")


def test_a_browser_without_windows_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shell, full = tmp_path / "chromium-headless-shell", tmp_path / "chromium"
    shell.touch(mode=0o755)
    full.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert web.find_browser() == shell


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((FRONTEND / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


@pytest.mark.parametrize(
    ("version", "serves"),
    [
        ((18, 20, 4), False),
        ((20, 18, 9), False),
        ((20, 19, 0), True),
        ((21, 1, 0), False),
        ((22, 12, 0), True),
        ((24, 0, 0), True),
        ((26, 1, 0), True),
        ((), False),
    ],
)
def test_versions_of_node(version: tuple[int, ...], serves: bool) -> None:
    assert nodes.serves(version, "^20.19.0 || ^22.12.0 || >=24.0.0") is serves


@pytest.fixture
def without_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine without Node.js, and the folder where it may be installed."""
    nodes.why_not.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(bundles, "CACHE", tmp_path)
    monkeypatch.setattr(nodes, "STATE", tmp_path)
    monkeypatch.setattr(nodes, "FOLDER", tmp_path / "node")
    yield tmp_path
    monkeypatch.undo()
    nodes.why_not.cache_clear()


def test_node_comes_from_pypi_where_there_is_none(without_node: Path) -> None:
    reason = nodes.why_not()
    assert reason is not None
    assert reason.startswith("node and npm not found; install Node.js")
    messages: list[str] = []
    nodes.provide(messages.append)
    assert messages == ["fetching Node.js for the web frontend (first run only)"]
    assert nodes.why_not() is None
    done = subprocess.run(
        [without_node / "node/bin/npm", "--version"],
        env={"PATH": f"{nodes.search_path()}:/usr/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    nodes.provide(messages.append)
    assert len(messages) == 1


def test_without_node_and_a_network_one_line_says_so(
    without_node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stack.demo import frontend

    for name in ("UV_OFFLINE", "UV_NO_CONFIG"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("UV_FIND_LINKS", "")
    messages: list[str] = []
    assert frontend.files(messages.append) is None
    assert messages[-1].startswith("without the web frontend: Node.js cannot be fetched")
    assert not list(without_node.glob("node*"))


def test_a_change_of_the_sources_is_another_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundles, "FRONTEND", tmp_path)
    source = tmp_path / "src" / "main.ts"
    source.parent.mkdir()
    source.write_text("1")
    first = bundles.fingerprint(["src"])
    (tmp_path / "src" / "main.spec.ts").write_text("a test")
    assert bundles.fingerprint(["src"]) == first
    source.write_text("2")
    assert bundles.fingerprint(["src"]) != first


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    policy = headers()["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers()["X-Frame-Options"] == "DENY"
