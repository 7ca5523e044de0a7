"""Draws panels with one value per series: stat, gauge and bar gauge."""

import math

import numpy as np

from dashboards.render.canvas import Box, Canvas, width_of
from dashboards.render.panel import Drawable, threshold_color
from sidecar.prometheus import Series

_SWEEP = 240.0
_ROW = 30.0


def draw_stat(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw one value, with a sparkline if the panel has one."""
    series = panel.named_series[0][1]
    verdict = panel.verdict(series.last)
    spark = panel.panel["options"].get("graphMode") == "area" and len(series.values) > 1
    if spark:
        _sparkline(canvas, box.inset(2, box.height * 0.55, 2, 0), panel, series, verdict.color)
    fits = 10 * (box.width - 28) / max(1.0, width_of(verdict.text, 10))
    size = min(26.0, fits, box.height * 0.36)
    height = box.y + box.height * (0.36 if spark else 0.46)
    canvas.text(
        box.x + box.width / 2, height, verdict.text, size=size, color=verdict.color, bold=True, align="center"
    )


def _sparkline(canvas: Canvas, box: Box, panel: Drawable, series: Series, color: str) -> None:
    axes = canvas.axes(box)
    heights = np.asarray(series.values)
    axes.plot(series.times, heights, color=color, linewidth=1.1)
    axes.fill_between(series.times, 0, heights, color=color, alpha=0.15, linewidth=0)
    axes.set_axis_off()
    axes.set_xlim(panel.scope.start, panel.scope.end)
    top = float(np.nanmax(heights)) if np.isfinite(heights).any() else 1.0
    axes.set_ylim(min(0.0, float(np.nanmin(heights))), top * 1.15 or 1.0)


def draw_gauge(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw a dial with the thresholds along its rim."""
    value = panel.named_series[0][1].last
    low, high = float(panel.defaults.get("min", 0)), float(panel.defaults.get("max", 1))
    radius = min(box.width / 2 - 16, box.height * 0.58)
    x, y = box.x + box.width / 2, box.y + radius + 8
    start = -_SWEEP / 2

    def angle(at: float) -> float:
        return start + _SWEEP * min(1.0, max(0.0, (at - low) / (high - low)))

    canvas.arc(x, y, radius - 7, radius * 0.24, start, -start, canvas.theme.grid)
    verdict = panel.verdict(value)
    canvas.arc(x, y, radius - 7, radius * 0.24, start, angle(value), verdict.color)
    steps = [(low, threshold_color(low, panel.defaults, panel.theme))]
    steps += [
        (step["value"], panel.theme.color(step["color"]))
        for step in panel.defaults["thresholds"]["steps"]
        if step["value"] is not None
    ]
    for index, (at, color) in enumerate(steps):
        until = steps[index + 1][0] if index + 1 < len(steps) else high
        canvas.arc(x, y, radius, 4, angle(at), angle(until), color)
    canvas.text(x, y + 4, verdict.text, size=radius * 0.24, color=verdict.color, bold=True, align="center")


def draw_bars(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw a bar for each series, as many as fit."""
    named = [(name, series.last) for name, series in panel.named_series if math.isfinite(series.last)]
    most = panel.defaults.get("max") or max((value for _, value in named), default=1) or 1
    rows = max(1, int(box.height // 22))
    height = min(_ROW, box.height / max(1, min(rows, len(named))))
    label, room = box.width * 0.36, box.width * 0.64 - 84
    for index, (name, value) in enumerate(named[:rows]):
        y = box.y + height * (index + 0.5)
        verdict = panel.verdict(value)
        canvas.text(box.x + 10, y, name, size=8, color=canvas.theme.text, room=label - 14)
        canvas.rectangle(Box(box.x + label, y - height * 0.3, room, height * 0.6), canvas.theme.grid)
        share = min(1.0, max(0.0, value / most))
        canvas.rectangle(Box(box.x + label, y - height * 0.3, room * share, height * 0.6), verdict.color)
        canvas.text(
            box.x + box.width - 10, y, verdict.text, size=8.5, color=verdict.color, bold=True, align="right"
        )
