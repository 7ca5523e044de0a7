"""Phrases that the project's style rules replace. CONTRIBUTING.md has the rules; this check keeps the phrases out.

It reads pages, rules, scripts, configuration, notification templates, the texts of the frontend, and Python code: strings,
docstrings, comments and names, those of the tests included.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache, lru_cache
from pathlib import Path

from stack.paths import ROOT, sources

# What to look for, and what to write instead.
PHRASES = {
    r"[«»]": '"straight quotes"',
    # "There is no backup" is fine, "it is no backup" is not.
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b|better\b|way\b|one\b)\w+": "is not a …, is not a valid …",
    r"\bso many\b(?! that\b)": "the number of …",
    r"\bwhoever\b": "anyone who …, the person who …",
    r"\b(?:told|tells)\b": "reported, reports, shows",
    r"\b(?:that|which|it|drill|backup|verification|proof|step) held\b": "passed",
    r"\bbeside\b": "next to",
    r"\bdead-man\b": "dead man's switch",
    r"\bin the place of\b": "instead of",
    r"\banew\b": "again",
    r"\bagain and again\b": "repeatedly",
    r"\bcannot be had\b": "cannot be fetched",
    r"\bwithout a word\b": "without a message",
    r"\bthat never was\b": "that never existed",
    r"\bcontestants?\b": "subject",
    r"\bfor ever\b": "forever",
    r"\b(?:some|every|any)body\b": "someone, everyone, anyone, the person on call",
    # "Three of its own intervals" is fine, "a queue of its own" is not.
    r"\bof (?:its|their|our|your|his) own\b(?! \w)": "its own …, a separate …",
    r"\bcounts? for nothing\b": "is ignored, does not count",
    r"(?<!not )\ball the same\b(?! \w)": "anyway, still",
    r"\bfor good\b": "permanently",
    r"\bstretch(?:es)? of time\b": "period",
    r"\bnothing of (?:it|them)\b": "nothing remains, leaves nothing behind",
    r"\b(?:a|each|every|one) damage\b": "damage, a kind of damage",
    r"\bwithout end\b": "endless",
    r"(?:, |^)also (?:when|if)\b": "even when, even if",
    r"\d %(?=[\s.,;:)|\"']|$)": "5%, without a space",
    r"\d ×(?=$|\s*\||[,.;:)\"']| (?:faster|slower|less|more)\b)": "1.2×, without a space",
    r"\bwrite a ticket\b": "open a ticket",
    r"\bas on \[": "as described in […], see […]",
    r"\bback-off\b": "backoff",
    r"\banother \w+ than\b": "other than …, different from …",
    r"\bin another (?:way|order|form)\b": "in a different way, order, form",
    r"\bany more\b": "no longer",
    r"\b(?:exists?|belongs?) already\b": "already exists, already belongs",
    r"\bheirs?\b": "child tables",
    r", also while\b": "even while",
    r"\bgoes on\b": "continues",
    r"\b(?:continues?|ends?|expires?|recovers?|resolves?) by (?:it|them)sel(?:f|ves)\b": "automatically, without help",
}
_PATTERNS = [(re.compile(phrase, re.IGNORECASE), instead) for phrase, instead in PHRASES.items()]
# Words that a name in the code must not contain besides the phrases, with the word to use instead.
WORDS = {
    "said": "message, output",
}
# Names that say nothing about their value, with the name to use instead. Tests may use them.
BARE_NAMES = {
    "one": "what it is: an alert, a row",
}
CODE = (
    *("adopt", "alerts", "app", "backup", "bench", "dashboards", "deploy", "exporters", "posthub_ops"),
    *("sidecar", "stack", "tests"),
)
TEXTS = (
    *("*.md", "docs/**/*.md", "runbooks/**/*.md", "alerts/templates/*.tmpl"),
    *("alerts/**/*.yml", "runbooks/**/*.sh", "deploy/**/*.sh", "*.yml", "k8s/**/*.yaml", ".github/**/*.yml"),
    *("tests/fixtures/**/*.md", "findings/*.sh", "deploy/**/*.sql", "deploy/Caddyfile", "*/Dockerfile"),
    *(".env.production.example", "app/frontend/src/app/core/texts-en.ts", "pyproject.toml"),
    *("dashboards/provisioning/**/*.yml", "deploy/systemd/*", "tests/mutations/*.yml"),
)
# The rules of style, this module and its tests name the phrases.
EXEMPT = ("CONTRIBUTING.md", "stack/wording.py", "tests/stack/test_wording.py")


def problems(root: Path = ROOT) -> list[str]:
    """Every place where a phrase or a word occurs, as a sentence."""
    return [
        f"{path.relative_to(root)}:{line} has {phrase!r}; write: {instead}"
        for path in _files(root)
        for line, phrase, instead in _found(path, is_test=path.is_relative_to(root / "tests"))
    ]


def occurrences(text: str, start: int = 1) -> Iterator[tuple[int, str, str]]:
    """Line number, phrase and replacement of each occurrence; ``start`` is the number of the first line."""
    for number, line in enumerate(text.splitlines(), start):
        for pattern, instead in _PATTERNS:
            for match in pattern.finditer(line):
                yield number, match[0], instead


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of every string, docstring and comment of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in _tokens(source):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def names(source: str) -> Iterator[tuple[int, str, str]]:
    """Line number, name and replacement of each name in a module that contains one of :data:`WORDS` or a phrase."""
    for token in _tokens(source):
        if token.type == tokenize.NAME:
            instead = _instead_of(token.string)
            if instead:
                yield token.start[0], token.string, instead


def bare_names(source: str) -> Iterator[tuple[int, str, str]]:
    """Line number, name and replacement of each of :data:`BARE_NAMES` in a module."""
    for token in _tokens(source):
        if token.type == tokenize.NAME and token.string in BARE_NAMES:
            yield token.start[0], token.string, BARE_NAMES[token.string]


@cache
def _instead_of(name: str) -> str:
    """The replacement for a name; "" for a good one. Most names occur many times."""
    words = name.lower().split("_")
    found = [WORDS[word] for word in words if word in WORDS]
    found += [instead for _, _, instead in occurrences(" ".join(words))]
    return found[0] if found else ""


@lru_cache(maxsize=1)
def _tokens(source: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def _files(root: Path) -> Iterator[Path]:
    texts = (path for pattern in TEXTS for path in sorted(root.glob(pattern)))
    modules = (path for folder in CODE for path in sorted(sources(root / folder)))
    for path in (*texts, *modules):
        if path.relative_to(root).as_posix() not in EXEMPT:
            yield path


def _found(path: Path, *, is_test: bool) -> Iterator[tuple[int, str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from occurrences(text)
        return
    for line, words in prose(text):
        yield from occurrences(words, line)
    yield from names(text)
    if not is_test:
        yield from bare_names(text)
