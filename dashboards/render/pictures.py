"""Selects dashboards, time range and output files."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dashboards.durations import seconds
from dashboards.live_check import committed
from dashboards.render.page import draw_page
from dashboards.render.theme import THEMES
from dashboards.resolve import SCRAPE_INTERVAL, Scope
from sidecar.errors import OpsError, UsageError
from sidecar.prometheus import Prometheus

# About the number of points that Grafana requests for a panel of this width.
_POINTS = 240


def render_all(
    prometheus_url: str,
    wanted: tuple[str, ...],
    span: str,
    theme: str,
    out: Path,
    *,
    end: float | None = None,
    scrape_interval: float = SCRAPE_INTERVAL,
    only_with_data: bool = False,
) -> Iterator[Path]:
    """Draw the named dashboards (default: all) and yield the files.

    Args:
        only_with_data: leave out panels without data, and a dashboard that has no others.

    Raises:
        UsageError: a name or the time range is invalid.
        OpsError: Prometheus does not answer, or a file cannot be written.
    """
    prometheus = Prometheus(prometheus_url)
    scope = _scope(seconds(span), time.time() if end is None else end, scrape_interval)
    for dashboard in _choose(committed(), wanted):
        path = out / f"{dashboard['uid']}.png"
        with _writing(path):
            drawn = draw_page(
                prometheus, dashboard, scope, THEMES[theme], path, only_with_data=only_with_data
            )
        if drawn:
            yield path


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise OpsError(
            f"cannot write {path} ({error.strerror})", hint="set --out to a writable folder"
        ) from error


def _scope(span: float, end: float, scrape_interval: float) -> Scope:
    step = max(1.0, scrape_interval / 3, round(span / _POINTS))
    # Aligned to the step, as in Grafana, so that pictures are reproducible.
    aligned = end // step * step
    return Scope(aligned - span, aligned, step, scrape_interval=scrape_interval)


def _choose(dashboards: list[dict[str, Any]], wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    by_name = {
        name: dashboard
        for dashboard in dashboards
        for name in (dashboard["uid"], dashboard["uid"].removeprefix("posthub-"))
    }
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        known = ", ".join(dashboard["uid"] for dashboard in dashboards)
        raise UsageError(f"unknown dashboard {', '.join(unknown)}", hint=f"choose from {known}")
    return [by_name[name] for name in wanted] if wanted else dashboards
