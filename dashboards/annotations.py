"""Annotations: events drawn over every graph."""

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.dashboard import AnnotationQuery, AnnotationTarget

from dashboards.prebuilt import Prebuilt
from dashboards.query import DATASOURCE, ENVIRONMENT


class DeployTag(AnnotationTarget, Dataquery):
    """A query to Grafana's annotation store; the SDK has no type for it."""


# Grafana's own annotation store: deploy scripts post there with the tag "deploy".
GRAFANA = DataSourceRef(type_val="grafana", uid="-- Grafana --")

# Selected by environment only, so that backups are visible on the dashboards of other jobs.
_MARKS = {
    "Backups": ("green", "backup_last_success_timestamp_seconds", "Backup of {{database}} finished"),
    "Verifications": ("purple", "backup_last_verified_timestamp_seconds", "Backup of {{database}} verified"),
    "Drills": ("blue", "backup_last_drill_timestamp_seconds", "Restore drill of {{database}}"),
}


def all_annotations() -> list[Builder[AnnotationQuery]]:
    """Return deploys, firing alerts, backups, verifications and drills."""
    marks = [_timestamp(name, *how) for name, how in _MARKS.items()]
    return [_deploys(), _alerts(), *marks]


def _deploys() -> Builder[AnnotationQuery]:
    query = builder.AnnotationQuery().name("Deploys").datasource(GRAFANA).icon_color("yellow")
    model = query.enable(True).hide(False).build()
    model.target = DeployTag(type_val="tags", tags=["deploy"], limit=100, match_any=False)
    return Prebuilt(model)


def _alerts() -> builder.AnnotationQuery:
    expr = 'ALERTS{alertstate="firing", severity=~"critical|warning"}'
    return (
        _prometheus("Alerts", "red", expr, "{{alertname}}")
        .text_format("{{severity}} {{component}}")
        .step("60s")
    )


def _timestamp(name: str, color: str, metric: str, title: str) -> builder.AnnotationQuery:
    expr = f"max by (database) ({metric}{{{ENVIRONMENT}}}) * 1000"
    return _prometheus(name, color, expr, title).use_value_for_time(True).step("60s")


def _prometheus(name: str, color: str, expr: str, title: str) -> builder.AnnotationQuery:
    query = builder.AnnotationQuery().name(name).datasource(DATASOURCE).icon_color(color)
    return query.enable(True).hide(False).expr(expr).title_format(title)
