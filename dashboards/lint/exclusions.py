"""Exclusions from the lint rules with their reasons, in dashboard-linter's configuration format."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dashboards.lint.rules import Problem

FILE = Path(__file__).parents[1] / "json" / ".lint"


@dataclass(frozen=True)
class Exclusion:
    """A panel that is excluded from a rule."""

    rule: str
    dashboard: str
    panel: str
    reason: str

    def covers(self, problem: Problem) -> bool:
        """Return whether `problem` is excluded."""
        place = (problem.rule, problem.dashboard, problem.panel)
        return place == (self.rule, self.dashboard, self.panel)


@cache
def exclusions(path: Path = FILE) -> tuple[Exclusion, ...]:
    """Return all exclusions of the file."""
    rules = yaml.safe_load(path.read_text(encoding="utf-8"))["exclusions"]
    return tuple(_read(rule, found, entry) for rule, found in rules.items() for entry in found["entries"])


def _read(rule: str, found: dict[str, Any], entry: dict[str, str]) -> Exclusion:
    return Exclusion(rule, entry["dashboard"], entry["panel"], entry.get("reason", found.get("reason", "")))
