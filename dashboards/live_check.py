"""Runs every query of every panel against a live Prometheus and reports those without data."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dashboards import catalogue
from dashboards.panel_queries import answers
from dashboards.resolve import Scope
from sidecar.prometheus import Prometheus

Json = dict[str, Any]

# Panels that may be empty in a stack without Docker, TLS or an off-site store (at most five).
MAY_BE_EMPTY = {
    ("posthub-host", "Container CPU"): "cAdvisor needs a container runtime",
    ("posthub-host", "Container memory against the limit"): "cAdvisor needs a container runtime",
    ("posthub-host", "Container uptime"): "cAdvisor needs a container runtime",
    ("posthub-api", "Certificate expires in"): "a certificate exists only if the site has a public name",
    ("posthub-backup", "Off-site lag"): "a lag exists only if an off-site store is configured",
}
# Metrics that exist only where an optional part is set up. Their panels may be empty without it.
OPTIONAL_PARTS = {
    "backup_wal_": "the WAL stream needs BACKUP_SERVERS",
    "posthub_billing_": "billing needs STRIPE_SECRET_KEY",
    "posthub_stripe_event_lag_": "billing needs STRIPE_SECRET_KEY",
    "logs_": "the log store needs the profile logs",
    "backup_pitr_": "point-in-time recovery needs BACKUP_SERVERS",
}


@dataclass(frozen=True)
class Empty:
    """A query without data."""

    dashboard: str
    panel: str
    ref_id: str
    expr: str

    @property
    def excused(self) -> bool:
        """Whether the panel may be empty."""
        may_be = (self.dashboard, self.panel) in MAY_BE_EMPTY
        return may_be or any(prefix in self.expr for prefix in OPTIONAL_PARTS)

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.ref_id}: no data: {self.expr}"


def committed() -> list[Json]:
    """Return all committed dashboards in the order of the catalogue."""
    names = map(catalogue.file_name, catalogue.boards())
    return [json.loads((catalogue.JSON_FOLDER / name).read_text(encoding="utf-8")) for name in names]


def empty_queries(
    prometheus: Prometheus, scope: Scope, dashboards: Iterable[Json] | None = None
) -> list[Empty]:
    """Return the queries without data.

    Raises:
        OpsError: Prometheus does not answer or rejects a query.
    """
    chosen = committed() if dashboards is None else dashboards
    return [problem for dashboard in chosen for problem in _empty_in(prometheus, dashboard, scope)]


def _empty_in(prometheus: Prometheus, dashboard: Json, scope: Scope) -> list[Empty]:
    return [
        Empty(dashboard["uid"], panel["title"], answer.ref_id, answer.expr)
        for panel in dashboard["panels"]
        for answer in answers(prometheus, dashboard, panel, scope)
        if answer.empty
    ]
