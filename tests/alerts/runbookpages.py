"""The runbook pages and the rules, as the tests of both read them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sidecar.rulefile import document

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "alerts" / "rules"
PAGES = ROOT / "runbooks" / "alerts"
INDEX = PAGES / "README.md"
HEADINGS = (
    "Meaning",
    "Impact",
    "First look",
    "Likely causes",
    "Fix",
    "Is it over?",
    "Wake someone else when",
)
COMPOSE = ["docker", "compose", "-f", "docker-compose.prod.yml"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDS = {"|", "||", "&&", ";"}
_REDIRECTS = {">", "<", ">>"}
_ASSIGNMENT = re.compile(r"[A-Z_]+=")


def rules() -> Iterator[dict[str, Any]]:
    for file in sorted(RULES.glob("*.yml")):
        for group in document(file)["groups"]:
            yield from group["rules"]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


@cache
def thresholds() -> set[str]:
    return {rule["record"] for rule in rules() if rule.get("record", "").startswith("threshold:")}


@cache
def pages() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in PAGES.glob("*.md") if path != INDEX}


def sections(page: str) -> list[tuple[str, str]]:
    """Heading and text of each part."""
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))


def fences(page: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block."""
    return _FENCE.findall(page)


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", _FENCE.sub("", page))


@dataclass(frozen=True)
class Command:
    """One program with its arguments; ``service`` is the container that it runs in."""

    page: str
    line: str
    words: list[str]
    service: str | None = None

    @property
    def program(self) -> str:
        return self.words[0]

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def lines() -> Iterator[tuple[str, str]]:
    """Every line of every fenced block, with its page."""
    for name, page in sorted(pages().items()):
        for _, text in fences(page):
            yield from ((name, line) for line in text.splitlines())


@cache
def commands() -> list[Command]:
    return [command for page, line in lines() for command in parse(page, line)]


def parse(page: str, line: str, service: str | None = None) -> Iterator[Command]:
    """The programs of a shell line, including those inside containers and ``sh -c``."""
    for words in _segments(line):
        yield from _inside(Command(page, line, words, service))


def _inside(command: Command) -> Iterator[Command]:
    yield command
    words = command.words
    if words[:4] == COMPOSE:
        yield from _of_compose(command)
    elif words[:2] == ["sh", "-c"]:
        yield from parse(command.page, words[2], command.service)


def _of_compose(command: Command) -> Iterator[Command]:
    if command.words[4] not in ("exec", "run"):
        return
    service, *inner = list(arguments(command.words[5:]))
    if inner:
        yield from _inside(Command(command.page, command.line, inner, service))


# Options of `docker compose` that are followed by a value.
_VALUED = {"-e", "-s", "--user", "--cap-add", "--since", "--tail"}


def arguments(words: list[str]) -> list[str]:
    """The words from the first one that is not an option."""
    position = 0
    while position < len(words) and words[position].startswith("-"):
        position += 2 if words[position] in _VALUED else 1
    return words[position:]


def _segments(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in [*lexer, ";"]:
        if token not in _ENDS:
            words.append(token)
        elif words:
            yield _program(words)
            words = []


def _program(words: list[str]) -> list[str]:
    """A command without its prefixes and redirections."""
    found = [
        word for index, word in enumerate(words) if word not in _REDIRECTS and not _is_target(words, index)
    ]
    while _ASSIGNMENT.match(found[0]) or found[0] in ("sudo", "export"):
        found = found[1:]
    # A profile only adds services to those that can be named.
    return [*COMPOSE, *found[6:]] if found[:5] == [*COMPOSE, "--profile"] else found


def _is_target(words: list[str], index: int) -> bool:
    after = words[index + 1] if index + 1 < len(words) else ""
    return words[index - 1] in _REDIRECTS or (words[index] == "2" and after in _REDIRECTS)
