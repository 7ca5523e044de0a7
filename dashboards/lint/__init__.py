"""Rules that every dashboard obeys, those of grafana/dashboard-linter first."""

from dashboards.lint.exclusions import Exclusion, exclusions
from dashboards.lint.rules import RULES, Json, Problem, lint


def problems(dashboard: Json, rule: str = "") -> list[Problem]:
    """Return what the rules (or one of them) find in `dashboard` and no exclusion covers."""
    found = RULES[rule](dashboard) if rule else lint(dashboard)
    return [one for one in found if not any(each.covers(one) for each in exclusions())]


__all__ = ["RULES", "Exclusion", "Problem", "exclusions", "lint", "problems"]
