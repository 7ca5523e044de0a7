"""Queries of Celery series. Several exporters may watch one broker, and each counts everything: one value is taken."""

from dashboards import query


def once(expr: str) -> str:
    """Return the highest value of all exporters that watch the same broker."""
    return f"max without (instance, pod) ({expr})"


def least(expr: str) -> str:
    """Return the lowest value of all exporters, for values that grow with what an exporter has missed."""
    return f"min without (instance, pod) ({expr})"


def select(metric: str, *matchers: str) -> str:
    """Return a selector as in :func:`dashboards.query.select`, of one exporter."""
    return once(query.select(metric, *matchers))


def rate(metric: str, *matchers: str) -> str:
    """Return the per-second rate of a counter, of one exporter."""
    return once(query.rate(metric, *matchers))


def increase(metric: str, *matchers: str) -> str:
    """Return the increase of a counter, of one exporter."""
    return once(query.increase(metric, *matchers))


def quantile(q: float, metric: str, *matchers: str, by: str) -> str:
    """Return a quantile of a classic histogram (`metric` without `_bucket`), of one exporter."""
    return f"histogram_quantile({q}, sum by (le, {by}) ({rate(f'{metric}_bucket', *matchers)}))"
