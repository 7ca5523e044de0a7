"""Runs the queries of a panel with the dashboard's variables filled in."""

import math
import re
from dataclasses import dataclass
from typing import Any

from dashboards.resolve import Scope, resolve
from sidecar.prometheus import Prometheus, Series

Json = dict[str, Any]
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Answer:
    """The result of one query of a panel."""

    ref_id: str
    expr: str
    legend: str
    series: tuple[Series, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw: no series, or only NaN and infinities."""
        return not any(math.isfinite(value) for series in self.series for value in series.values)

    def name(self, series: Series) -> str:
        """Return the legend text of a series."""
        if self.legend in ("", "__auto"):
            return ", ".join(value for key, value in series.labels.items() if key != "__name__") or "value"
        return _LABEL.sub(lambda match: series.labels.get(match[1], ""), self.legend).strip()


def answers(prometheus: Prometheus, dashboard: Json, panel: Json, scope: Scope) -> list[Answer]:
    """Run every query of `panel`."""
    return [_answer(prometheus, dashboard, target, scope) for target in panel.get("targets", [])]


def _answer(prometheus: Prometheus, dashboard: Json, target: Json, scope: Scope) -> Answer:
    expr = resolve(target["expr"], dashboard, scope)
    if target.get("instant"):
        found = prometheus.instant(expr, scope.end)
    else:
        found = prometheus.range(expr, scope.start, scope.end, scope.step)
    return Answer(target["refId"], expr, target.get("legendFormat", ""), tuple(found))
