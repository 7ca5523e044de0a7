"""The direction of imports over the whole tree, deferred imports included: no cycle, and no package knows a higher one."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from stack.paths import ROOT

# Which other packages each package may import. The app has its own rules (tests/app).
ALLOWED = {
    "sidecar": set(),
    "exporters": {"sidecar"},
    "backup": {"sidecar"},
    "alerts": {"sidecar"},
    "dashboards": {"sidecar"},
    "adopt": {"sidecar"},
    "posthub_ops": set(),
    "stack": {"adopt", "posthub_ops", "sidecar", "exporters", "backup", "alerts", "dashboards"},
    "bench": {"sidecar", "exporters", "backup", "stack"},
}


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(package: str) -> dict[str, Path]:
    """The modules of a package by dotted name."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def module_graph(package: str) -> dict[str, set[str]]:
    """The imports of each module of a package from the same package."""
    known = modules(package)
    return {
        name: {target for text in imported(path) if (target := _owner(text, known)) and target != name}
        for name, path in known.items()
    }


def folder_graph(package: str) -> dict[str, set[str]]:
    """The same between the parts directly below a package: its files and its folders."""
    graph: dict[str, set[str]] = {}
    for name, targets in module_graph(package).items():
        part = _part(name)
        graph.setdefault(part, set()).update(_part(target) for target in targets)
        graph[part].discard(part)
    # The exports in a package's __init__ are for others; its own parts import each other directly.
    graph.pop(package, None)
    return {part: targets - {package} for part, targets in graph.items()}


def _owner(text: str, known: Mapping[str, Path]) -> str | None:
    """The module that a dotted name belongs to."""
    while text and text not in known:
        text = text.rpartition(".")[0]
    return text or None


def _part(module: str) -> str:
    return ".".join(module.split(".")[:2])


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """The first cycle of a graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_lower_ones(package: str) -> None:
    others = set(ALLOWED) - {package} | {"app", "tests"}
    used = {
        f"{name} imports {text}"
        for name, path in modules(package).items()
        for text in imported(path)
        if (top := text.partition(".")[0]) in others and top not in ALLOWED[package]
    }
    assert used == set()


@pytest.mark.parametrize("package", ALLOWED)
def test_the_modules_of_a_package_form_no_cycle(package: str) -> None:
    graph = module_graph(package)
    graph.pop(package)
    assert cycle({name: targets - {package} for name, targets in graph.items()}) == []


@pytest.mark.parametrize("package", ALLOWED)
def test_the_folders_of_a_package_form_no_cycle(package: str) -> None:
    assert cycle(folder_graph(package)) == []


def test_a_cycle_is_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []
    assert cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
