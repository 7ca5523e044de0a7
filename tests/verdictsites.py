"""Finds the lines that report a ✖ (they create a failed check, or raise or yield a reason), and notes which have run."""

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any

import pytest

Site = tuple[str, int]
Source = ModuleType | Callable[..., Any]


class Sites:
    """The lines that have reported a ✖."""

    def __init__(self) -> None:
        self.seen: set[Site] = set()

    def watch(self, kind: type[Any], patch: pytest.MonkeyPatch) -> None:
        """Note the lines that create a failed check of this class."""
        create = kind.__init__

        def noted(one: Any, *given: Any, **named: Any) -> None:
            create(one, *given, **named)
            if one.ok is False:
                caller = sys._getframe(1)
                self.seen.add((caller.f_globals["__name__"], caller.f_lineno))

        patch.setattr(kind, "__init__", noted)

    @contextmanager
    def running(self, wanted: set[Site]) -> Iterator[None]:
        """Note which of these lines run within the block."""
        modules = {name for name, _ in wanted}

        def of_lines(frame: FrameType, event: str, _: Any) -> Any:
            site = (frame.f_globals["__name__"], frame.f_lineno)
            if event == "line" and site in wanted:
                self.seen.add(site)
            return of_lines

        def of_calls(frame: FrameType, *_: Any) -> Any:
            return of_lines if frame.f_globals.get("__name__") in modules else None

        before = sys.gettrace()
        sys.settrace(of_calls)
        try:
            yield
        finally:
            sys.settrace(before)


def failing(module: ModuleType, name: str = "Check") -> set[Site]:
    """The lines that create a check which may fail."""

    def found(node: ast.AST) -> bool:
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name):
            return False
        given = next((one.value for one in node.keywords if one.arg == "ok"), None) or node.args[1]
        return not (isinstance(given, ast.Constant) and given.value is not False)

    return _sites(module, found)


def raising(source: Source) -> set[Site]:
    """The lines that raise an error, without those that re-raise one."""
    return _sites(source, lambda node: isinstance(node, ast.Raise) and node.exc is not None)


def yielding(source: Source) -> set[Site]:
    """The lines that yield a reason."""
    return _sites(source, lambda node: isinstance(node, ast.Yield))


def _sites(source: Source, found: Callable[[ast.AST], bool]) -> set[Site]:
    lines, first = inspect.getsourcelines(source)
    name = source.__name__ if isinstance(source, ModuleType) else source.__module__
    nodes = (node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, (ast.expr, ast.stmt)))
    return {(name, node.lineno + max(first, 1) - 1) for node in nodes if found(node)}
