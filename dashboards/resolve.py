"""Resolves Grafana's variables in a query, with "All" selected by default."""

import re
from dataclasses import dataclass
from typing import Any

SCRAPE_INTERVAL = 15
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w+)(?::\w+)?\})")


@dataclass(frozen=True)
class Scope:
    """The time range of a query (Unix seconds), and values of variables (the others are "All")."""

    start: float
    end: float
    step: float
    chosen: tuple[tuple[str, str], ...] = ()
    scrape_interval: float = SCRAPE_INTERVAL

    @property
    def rate_interval(self) -> float:
        """Grafana's `$__rate_interval`: at least four scrape intervals, so that a rate always has samples."""
        return max(self.step + self.scrape_interval, 4 * self.scrape_interval)


def resolve(text: str, dashboard: dict[str, Any], scope: Scope) -> str:
    """Return `text` with all variables resolved.

    Raises:
        KeyError: a variable is unknown.
    """
    values = {**_everything(dashboard), **_built_in(scope), **dict(scope.chosen)}
    return _VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


def _everything(dashboard: dict[str, Any]) -> dict[str, str]:
    listed = dashboard["templating"]["list"]
    return {variable["name"]: variable["allValue"] for variable in listed if variable["type"] == "query"}


def _built_in(scope: Scope) -> dict[str, str]:
    span = max(1, round(scope.end - scope.start))
    step = max(1, round(scope.step))
    return {
        "__rate_interval": f"{max(1, round(scope.rate_interval))}s",
        "__interval": f"{step}s",
        "__interval_ms": f"{step * 1000}",
        "__range": f"{span}s",
        "__range_s": f"{span}",
    }
