"""PromQL text: every selector is written here, so that every panel obeys the dashboard's variables."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus as prometheus_builder
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")

ENVIRONMENT = 'environment=~"$environment"'
SCOPE = (ENVIRONMENT, 'job=~"$job"', 'instance=~"$instance"')


@dataclass(frozen=True)
class Query:
    """One query of a panel: what is asked, and how a series is named in the legend."""

    expr: str
    legend: str = ""
    instant: bool = False
    table: bool = False
    heatmap: bool = False


def select(metric: str, *matchers: str) -> str:
    """Return a selector of `metric` within the chosen environment, jobs and instances."""
    return f"{metric}{{{', '.join((*SCOPE, *matchers))}}}"


def recorded(metric: str, *matchers: str) -> str:
    """Return a selector of a recorded series or of ALERTS.

    These are the whole Prometheus' own: job and instance are summed up, and the environment is an external label.
    """
    return f"{metric}{{{', '.join(matchers)}}}" if matchers else metric


def rate(metric: str, *matchers: str) -> str:
    """Return the per-second rate of a counter at the resolution of the panel."""
    return f"rate({select(metric, *matchers)}[$__rate_interval])"


def increase(metric: str, *matchers: str, over: str = "$__rate_interval") -> str:
    """Return by how much a counter grew."""
    return f"increase({select(metric, *matchers)}[{over}])"


def quantile(q: float, metric: str, *matchers: str, by: str = "") -> str:
    """Return a quantile of a classic histogram (`metric` without `_bucket`)."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) ({rate(f'{metric}_bucket', *matchers)}))"


def or_none(expr: str, label: str, witness: str, text: str = "none") -> str:
    """Draw a zero line named `text` while `expr` has no series.

    The zero comes from `witness`, a metric that the same exporter always has: when that exporter is
    gone, the panel says "no data" instead of a comforting zero.
    """
    return f'{expr} or label_replace(0 * sum({witness}), "{label}", "{text}", "", "")'


def target(query: Query, index: int) -> prometheus_builder.Dataquery:
    """Return the Grafana query with the ref id that its place in the panel gives it."""
    built = prometheus_builder.Dataquery().expr(query.expr).ref_id(ref_id(index)).datasource(DATASOURCE)
    built = built.legend_format(query.legend or "__auto")
    built = built.instant() if query.instant else built.range()
    if query.table:
        built = built.format(PromQueryFormat.TABLE)
    return built.format(PromQueryFormat.HEATMAP) if query.heatmap else built


def ref_id(index: int) -> str:
    """Return A, B, C … for the queries of a panel."""
    return chr(ord("A") + index)
