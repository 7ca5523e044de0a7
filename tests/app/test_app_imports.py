"""Imports within the app go in one direction, and tasks are sent by names that exist."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from stack.paths import sources

APP = Path(__file__).resolve().parents[2] / "app"
# A package may import those before it, never those after it. `config` wires all of them together.
ORDER = ("accounts", "billing", "media", "posts", "ai", "monitoring")
# Metrics and log context are used everywhere.
SHARED = ("monitoring.metrics", "monitoring.logs")
# Signing in returns what the customer may use, and the demo data covers every app.
EXCEPTIONS = ("accounts.api", "accounts.management.commands.seed_demo")


def modules() -> dict[str, Path]:
    """Every module of the app by its dotted name."""
    paths = [path for path in sources(APP) if "migrations" not in path.parts]
    return {_name(path): path for path in paths}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(APP).with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path, known: set[str], *, deferred: bool) -> set[str]:
    """The app's own modules that a file imports: at its top level, or within functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))}
    nodes = {node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    found: set[str] = set()
    for node in nodes - top if deferred else top:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {node.module}
    return found & known


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imported(path, set(known), deferred=False) - {name} for name, path in known.items()}


def test_there_is_no_import_cycle(graph: Any) -> None:
    list(TopologicalSorter(graph).static_order())


def test_no_app_imports_a_later_one(graph: Any) -> None:
    wrong = [
        f"{name} imports {target}"
        for name, targets in graph.items()
        for target in targets
        if _later(name, target) and name not in EXCEPTIONS and target not in SHARED
    ]
    assert wrong == []


def _later(name: str, target: str) -> bool:
    here, there = name.split(".", maxsplit=1)[0], target.split(".", maxsplit=1)[0]
    return here in ORDER and there in ORDER and ORDER.index(there) > ORDER.index(here)


def test_apps_import_each_other_at_the_top_of_the_file_only() -> None:
    known = modules()
    wrong = [
        f"{name} imports {target} within a function"
        for name, path in known.items()
        if name.split(".")[0] in ORDER
        for target in imported(path, set(known), deferred=True)
        if target.split(".")[0] != name.split(".")[0]
    ]
    assert wrong == []


def test_every_routed_task_exists() -> None:
    from config import celery_app
    from config.queues import TASK_ROUTES

    celery_app.loader.import_default_modules()
    assert set(TASK_ROUTES) == {name for name in celery_app.tasks if not name.startswith("celery.")}


def test_every_task_that_is_sent_by_name_has_a_route() -> None:
    from config.queues import TASK_ROUTES

    sent = {
        node.value
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ".tasks." in node.value
        if "\n" not in node.value and " " not in node.value
    }
    assert sent == set(TASK_ROUTES)
