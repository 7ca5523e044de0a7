"""Panels whose colour carries the value: heat map and state timeline."""

import math

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm

from dashboards.render import values
from dashboards.render.canvas import Box, Canvas
from dashboards.render.panel import Drawable
from dashboards.render.timeaxis import draw_time_axis
from sidecar.prometheus import Series

# Maximum height of a band: one worker must not look more important than ten.
_BAND = 44.0


def draw_heatmap(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw a classic histogram: time to the right, buckets upwards, brightness for counts."""
    buckets = sorted((_bound(series), series) for answer in panel.answers for series in answer.series)
    grid = np.arange(panel.scope.start, panel.scope.end + panel.scope.step / 2, panel.scope.step)
    counts = _per_bucket([series for _, series in buckets], grid, panel.scope.step)
    rows = _rows_in_use(counts)
    unit = panel.panel["options"].get("yAxis", {}).get("unit", "short")
    axes = canvas.axes(box.inset(62, 4, 10, 24))
    scale = LinearSegmentedColormap.from_list("heat", panel.theme.heat)
    axes.pcolormesh(
        grid,
        np.arange(len(rows)),
        counts[rows],
        cmap=scale,
        norm=PowerNorm(0.5, 0, max(1.0, float(np.max(counts, initial=0.0)))),
        shading="nearest",
    )
    every = max(1, len(rows) // 7)
    ticks = list(range(0, len(rows), every))
    axes.set_yticks(ticks, [_bucket_name(buckets[rows[tick]][0], unit) for tick in ticks])
    draw_time_axis(axes, panel.scope, box.width - 72)


def _bound(series: Series) -> float:
    return float(series.labels["le"].replace("+Inf", "inf"))


def _bucket_name(bound: float, unit: str) -> str:
    return "more" if math.isinf(bound) else "≤ " + values.text(bound, unit)


def _per_bucket(
    cumulative: list[Series], grid: "np.typing.NDArray[np.float64]", step: float
) -> "np.typing.NDArray[np.float64]":
    """Turn "at most le" counts into counts for each bucket."""
    counts = np.zeros((len(cumulative), len(grid)))
    for row, series in enumerate(cumulative):
        places = np.rint((np.asarray(series.times) - grid[0]) / step).astype(int)
        inside = (places >= 0) & (places < len(grid))
        counts[row, places[inside]] = np.nan_to_num(np.asarray(series.values)[inside])
    return np.maximum(np.diff(counts, axis=0, prepend=0), 0)


def _rows_in_use(counts: "np.typing.NDArray[np.float64]") -> list[int]:
    """Return the buckets from the first to the last that is not empty, and one on each side."""
    used = np.flatnonzero(counts.sum(axis=1) > 0)
    if not len(used):
        return list(range(len(counts)))
    return list(range(max(0, used[0] - 1), min(len(counts), used[-1] + 2)))


def draw_timeline(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw a band for each series in the colour of its state."""
    named = panel.named_series
    rows = max(1, min(len(named), int((box.height - 24) // 16)))
    spare = max(0.0, box.height - 28 - rows * _BAND) / 2
    area = box.inset(box.width * 0.3, 4 + spare, 10, 24 + spare)
    axes = canvas.axes(area)
    for index, (name, series) in enumerate(named[:rows]):
        starts, widths, colors = _spans(panel, series)
        axes.broken_barh(list(zip(starts, widths, strict=True)), (rows - index - 0.9, 0.8), facecolors=colors)
        y = area.y + area.height * (index + 0.5) / rows
        canvas.text(box.x + 10, y, name, size=8, room=box.width * 0.3 - 16)
    axes.set_ylim(0, rows)
    axes.set_yticks([])
    draw_time_axis(axes, panel.scope, area.width)


def _spans(panel: Drawable, series: Series) -> tuple[list[float], list[float], list[str]]:
    """Merge equal neighbours, so that a long state is one band."""
    starts: list[float] = []
    widths: list[float] = []
    colors: list[str] = []
    for at, value in zip(series.times, series.values, strict=True):
        color = panel.verdict(value).color
        joined = starts and colors[-1] == color and at - (starts[-1] + widths[-1]) < panel.scope.step
        if joined:
            widths[-1] = at + panel.scope.step - starts[-1]
        else:
            starts.append(at)
            widths.append(panel.scope.step)
            colors.append(color)
    return starts, widths, colors
