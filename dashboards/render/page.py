"""Draws a whole dashboard as one picture, with panels at the same positions as in Grafana."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dashboards.panel_queries import Answer, answers
from dashboards.render.bands import draw_heatmap, draw_timeline
from dashboards.render.canvas import Box, Canvas
from dashboards.render.graph import draw_graph
from dashboards.render.grid import draw_alert_list, draw_table
from dashboards.render.panel import Drawable
from dashboards.render.single import draw_bars, draw_gauge, draw_stat
from dashboards.render.theme import Theme
from dashboards.resolve import Scope, resolve
from sidecar.grid import rearranged
from sidecar.prometheus import Prometheus

Json = dict[str, Any]

WIDTH = 1440
MARGIN, HEADER, FOOTER = 12, 54, 34
# Grafana's grid: rows of 30 pixels with 8 between them.
ROW, GAP, COLUMNS = 30, 8, 24
NO_DATA = "No data"
TITLE = 30

_DRAWERS: dict[str, Callable[[Canvas, Box, Drawable], None]] = {
    "timeseries": draw_graph,
    "stat": draw_stat,
    "gauge": draw_gauge,
    "bargauge": draw_bars,
    "table": draw_table,
    "heatmap": draw_heatmap,
    "state-timeline": draw_timeline,
    "alertlist": draw_alert_list,
}


def draw_page(
    prometheus: Prometheus,
    dashboard: Json,
    scope: Scope,
    theme: Theme,
    path: Path,
    *,
    only_with_data: bool = False,
) -> bool:
    """Query Prometheus for every panel of `dashboard` and write the picture to `path`.

    Args:
        only_with_data: leave out panels without data.

    Returns:
        Whether there was anything to draw.
    """
    panels = [(panel, _answers(prometheus, dashboard, panel, scope)) for panel in dashboard["panels"]]
    if only_with_data:
        panels = _with_data(panels)
    if not panels:
        return False
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in panels)
    height = HEADER + bottom * (ROW + GAP) + FOOTER
    canvas = Canvas(WIDTH, height, theme)
    _draw_header(canvas, dashboard, scope)
    marks = _marks(prometheus, dashboard, scope, theme)
    for panel, found in panels:
        _draw_panel(canvas, Drawable(panel, found, scope, theme, marks))
    _draw_footer(canvas, dashboard, prometheus)
    canvas.save(str(path))
    return True


def _with_data(panels: list[tuple[Json, list[Answer]]]) -> list[tuple[Json, list[Answer]]]:
    """The panels that have data, and the rows above them; none if none has."""
    if not any(not answer.empty for _, found in panels for answer in found):
        return []
    answers_of = {panel["id"]: found for panel, found in panels}
    kept = rearranged([panel for panel, found in panels if panel["type"] == "row" or _has_data(panel, found)])
    return [(panel, answers_of[panel["id"]]) for panel in kept]


def _has_data(panel: Json, found: list[Answer]) -> bool:
    # A panel whose own text explains why it is empty counts as having data.
    is_explained = panel.get("fieldConfig", {}).get("defaults", {}).get("noValue", NO_DATA) != NO_DATA
    return is_explained or not found or not all(answer.empty for answer in found)


def _answers(prometheus: Prometheus, dashboard: Json, panel: Json, scope: Scope) -> list[Answer]:
    if panel["type"] == "alertlist":
        return [Answer("A", "ALERTS", "{{alertname}}", tuple(prometheus.instant("ALERTS", scope.end)))]
    return answers(prometheus, dashboard, panel, scope)


def _place(position: Json) -> Box:
    unit = (WIDTH - 2 * MARGIN + GAP) / COLUMNS
    return Box(
        MARGIN + position["x"] * unit,
        HEADER + position["y"] * (ROW + GAP),
        position["w"] * unit - GAP,
        position["h"] * (ROW + GAP) - GAP,
    )


def _draw_panel(canvas: Canvas, panel: Drawable) -> None:
    box = _place(panel.panel["gridPos"])
    title = panel.panel["title"]
    if panel.panel["type"] == "row":
        canvas.text(box.x + 4, box.y + 17, title, size=11, bold=True)
        return
    canvas.card(box)
    canvas.text(box.x + 12, box.y + 16, title, size=8.5, bold=True, room=box.width - 16)
    inside = box.inset(0, TITLE, 0, 6)
    if panel.answers and all(answer.empty for answer in panel.answers):
        middle = (inside.x + inside.width / 2, inside.y + inside.height / 2)
        canvas.text(
            *middle,
            panel.defaults.get("noValue", NO_DATA),
            size=11,
            color=canvas.theme.quiet,
            align="center",
        )
        return
    _DRAWERS[panel.panel["type"]](canvas, inside, panel)


def _draw_header(canvas: Canvas, dashboard: Json, scope: Scope) -> None:
    canvas.text(MARGIN + 4, 28, dashboard["title"], size=15, bold=True)
    start, end = (datetime.fromtimestamp(at, UTC) for at in (scope.start, scope.end))
    span = f"{start:%d %b %H:%M} – {end:%d %b %H:%M} UTC"
    canvas.text(WIDTH - MARGIN - 4, 28, span, size=9, color=canvas.theme.quiet, align="right")


def _draw_footer(canvas: Canvas, dashboard: Json, prometheus: Prometheus) -> None:
    footer = (
        f"A rendering of the dashboard {dashboard['uid']} from the Prometheus at {prometheus.shown}. "
        "Drawn by ./ops dashboards render, not by Grafana."
    )
    canvas.text(MARGIN + 4, canvas.height - 17, footer, size=8, color=canvas.theme.quiet)


def _marks(
    prometheus: Prometheus, dashboard: Json, scope: Scope, theme: Theme
) -> tuple[tuple[float, str], ...]:
    """Return time and colour of the annotations, except those in Grafana's own store."""
    listed = [annotation for annotation in dashboard["annotations"]["list"] if annotation.get("expr")]
    return tuple(
        mark
        for annotation in listed
        for mark in _annotation_marks(prometheus, dashboard, annotation, scope, theme)
    )


def _annotation_marks(
    prometheus: Prometheus, dashboard: Json, annotation: Json, scope: Scope, theme: Theme
) -> list[tuple[float, str]]:
    expr = resolve(annotation["expr"], dashboard, scope)
    found = prometheus.range(expr, scope.start, scope.end, scope.step)
    if annotation.get("useValueForTime"):
        moments = {value / 1000 for series in found for value in series.values}
    else:
        moments = {at for series in found for at in _beginnings(series.times, scope.step)}
    color = theme.color(annotation["iconColor"])
    return [(at, color) for at in sorted(moments) if scope.start < at < scope.end]


def _beginnings(times: tuple[float, ...], step: float) -> list[float]:
    """Return the times at which a series appeared: the first sample after each gap."""
    before = (-math.inf, *times)
    return [at for last, at in zip(before, times, strict=False) if at - last > 1.5 * step]
