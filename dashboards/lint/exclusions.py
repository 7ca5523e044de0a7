"""Exceptions to the rules, in the linter's own configuration format, each with its reason."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dashboards.lint.rules import Problem

FILE = Path(__file__).parents[1] / "json" / ".lint"


@dataclass(frozen=True)
class Exclusion:
    """One panel that may break one rule."""

    rule: str
    dashboard: str
    panel: str
    reason: str

    def covers(self, problem: Problem) -> bool:
        """Return whether this is the exception for `problem`."""
        place = (problem.rule, problem.dashboard, problem.panel)
        return place == (self.rule, self.dashboard, self.panel)


@cache
def exclusions(path: Path = FILE) -> tuple[Exclusion, ...]:
    """Return every exception of the file."""
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["exclusions"]
    return tuple(_read(rule, found, entry) for rule, found in rules.items() for entry in found["entries"])


def _read(rule: str, found: dict[str, Any], entry: dict[str, str]) -> Exclusion:
    return Exclusion(rule, entry["dashboard"], entry["panel"], entry.get("reason", found.get("reason", "")))
