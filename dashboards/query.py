"""Builds PromQL. All selectors are built here, so that every panel follows the dashboard's variables."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus as prometheus_builder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")

ENVIRONMENT = 'environment=~"$environment"'
SCOPE = (ENVIRONMENT, 'job=~"$job"', 'instance=~"$instance"')


@dataclass(frozen=True)
class Query:
    """One query of a panel and the legend of its series."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    heatmap: bool = False


def select(metric: str, *matchers: str) -> str:
    """Return a selector of `metric` in the selected environments, jobs and instances."""
    return f"{metric}{{{', '.join((*SCOPE, *matchers))}}}"


def recorded(metric: str, *matchers: str) -> str:
    """Return a selector of a recorded series or of ALERTS.

    They belong to a whole Prometheus: job and instance are aggregated, and the environment is an external label.
    """
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def rate(metric: str, *matchers: str) -> str:
    """Return the per-second rate of a counter over the panel's rate interval."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, over: str = "$__rate_interval") -> str:
    """Return the increase of a counter."""
    return f"increase({select(metric, *matchers)}[{over}])"


def quantile(q: float, metric: str, *matchers: str, by: str = "") -> str:
    """Return a quantile of a classic histogram (`metric` without `_bucket`)."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(f'{metric}_bucket', *matchers)}))"


def or_none(expr: str, label: str, witness: str, text: str = "none") -> str:
    """Return `expr`, or a zero series named `text` while `expr` has no series.

    The zero is derived from `witness`, a metric that the same exporter always has. When that exporter is
    gone, the panel shows "No data" instead of a false zero.
    """
    return f'{expr} or label_replace(0 * sum({witness}), "{label}", "{text}", "", "")'


def target(query: Query, index: int) -> prometheus_builder.Dataquery:
    """Return the Grafana query with the ref ID of its position."""
    built = prometheus_builder.Dataquery().expr(query.expr).ref_id(ref_id(index)).datasource(DATASOURCE)
    built = built.legend_format(query.legend or "__auto")
    built = built.instant() if query.instant else built.range()
    if query.table:
        built = built.format(PromQueryFormat.TABLE)
    return built.format(PromQueryFormat.HEATMAP) if query.heatmap else built


def ref_id(index: int) -> str:
    """Return the ref ID of a query: A, B, C …"""
    return chr(ord("A") + index)
