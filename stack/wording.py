"""Phrases that the project's style rules replace. CONTRIBUTING.md has the rules; this check keeps the phrases out.

It reads pages, rules, scripts, notification templates, and the strings of Python code. Docstrings
and comments in Python follow the same rules, but are left to reviewers.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from stack.paths import ROOT

# What to look for, and what to write instead.
PHRASES = {
    r"[«»]": '"straight quotes"',
    # "There is no backup" is fine, "it is no backup" is not.
    r"(?<![Tt]here )\b(?:is|are) no (?!longer\b|more\b|better\b|way\b)\w+": "is not a …, is not a valid …",
    r"\bso many\b(?! that\b)": "the number of …",
    r"\bwhoever\b": "anyone who …, the person who …",
    r"\b(?:told|tells)\b": "reported, reports, shows",
    r"\b(?:that|which|it|drill|backup|verification|proof|step) held\b": "passed",
    r"\bbeside\b": "next to",
    r"\bdead-man\b": "dead man's switch",
    r"\bin the place of\b": "instead of",
    r"\banew\b": "again",
    r"\b(?:some|every|any)body\b": "someone, everyone, anyone, the person on call",
}
_PATTERNS = [(re.compile(phrase), instead) for phrase, instead in PHRASES.items()]
CODE = ("alerts", "backup", "dashboards", "deploy", "exporters", "sidecar", "stack")
TEXTS = (
    *("*.md", "docs/**/*.md", "runbooks/**/*.md", "alerts/templates/*.tmpl"),
    *("alerts/**/*.yml", "runbooks/**/*.sh", "deploy/**/*.sh", "*.yml", "k8s/**/*.yaml", ".github/**/*.yml"),
)
# The rules of style and this module name the phrases.
EXEMPT = ("CONTRIBUTING.md", "stack/wording.py")


def problems(root: Path = ROOT) -> list[str]:
    """Every place where a phrase occurs, as a sentence."""
    return [
        f"{path.relative_to(root)}:{line} has {phrase!r}; write: {instead}"
        for path, start, text in _texts(root)
        for line, phrase, instead in occurrences(text, start)
    ]


def occurrences(text: str, start: int = 1) -> Iterator[tuple[int, str, str]]:
    """Line number, phrase and replacement of each occurrence; ``start`` is the number of the first line."""
    for number, line in enumerate(text.splitlines(), start):
        for pattern, instead in _PATTERNS:
            for match in pattern.finditer(line):
                yield number, match[0], instead


def _texts(root: Path) -> Iterator[tuple[Path, int, str]]:
    for pattern in TEXTS:
        for path in sorted(root.glob(pattern)):
            if path.relative_to(root).as_posix() not in EXEMPT:
                yield path, 1, path.read_text(encoding="utf-8")
    for folder in CODE:
        for path in sorted((root / folder).rglob("*.py")):
            if path.relative_to(root).as_posix() not in EXEMPT:
                yield from ((path, line, text) for line, text in strings(path.read_text(encoding="utf-8")))


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of every string of a module that is not a docstring, except those of commands.

    The docstring of a command is its help text.
    """
    tree = ast.parse(source)
    skipped = {id(text) for scope in ast.walk(tree) if (text := _docstring(scope)) and not _is_command(scope)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def _docstring(scope: ast.AST) -> ast.Constant | None:
    if (
        not isinstance(scope, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        or not scope.body
    ):
        return None
    first = scope.body[0]
    return first.value if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None


def _is_command(scope: ast.AST) -> bool:
    return isinstance(scope, ast.FunctionDef) and any(
        re.search(r"\b(command|group)\b", ast.unparse(decorator)) for decorator in scope.decorator_list
    )
