"""Lint rules of the dashboards, following grafana/dashboard-linter."""

from dashboards.lint.exclusions import Exclusion, exclusions
from dashboards.lint.rules import RULES, Json, Problem, lint


def problems(dashboard: Json, rule: str = "") -> list[Problem]:
    """Return the problems that the rules (or one rule) find in `dashboard`, without excluded ones."""
    found = RULES[rule](dashboard) if rule else lint(dashboard)
    return [problem for problem in found if not any(each.covers(problem) for each in exclusions())]


__all__ = ["RULES", "Exclusion", "Problem", "exclusions", "lint", "problems"]
