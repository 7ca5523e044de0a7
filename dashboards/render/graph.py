"""Values over time: lines, areas and bars, with thresholds, annotations and a legend."""

import numpy as np
from matplotlib.axes import Axes

from dashboards.render.canvas import Box, Canvas, width_of
from dashboards.render.panel import Drawable, limits
from dashboards.render.theme import series_colors
from dashboards.render.ticks import ticks
from dashboards.render.timeaxis import draw_time_axis
from sidecar.prometheus import Series

_LEGEND_LINE = 16
_LEGEND_SIZE = 7.5
_MARK_ALPHA = 0.55

Numbers = np.typing.NDArray[np.float64]


def draw_graph(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw a time series panel."""
    named = panel.named_series
    colors = series_colors(panel.theme, [name for name, _ in named], _fixed_colors(panel))
    lines = _legend_lines(panel, named, box.width)
    axes = canvas.axes(box.inset(52, 4, 6, 20 + _LEGEND_LINE * len(lines)))
    _draw_series(axes, panel, named, colors)
    _scale(axes, panel)
    _draw_limits(axes, panel)
    draw_time_axis(axes, panel.scope, box.width - 58)
    for at, color in panel.marks:
        axes.axvline(at, color=color, linewidth=0.9, linestyle=(0, (2, 2)), alpha=_MARK_ALPHA)
    _draw_legend(canvas, box, lines, dict(zip([name for name, _ in named], colors, strict=True)))


def _fixed_colors(panel: Drawable) -> dict[str, str]:
    """Return the colours that overrides set for series by name."""
    found = {}
    for override in panel.panel["fieldConfig"].get("overrides", []):
        for setting in override["properties"]:
            if setting["id"] == "color":
                found[override["matcher"]["options"]] = panel.theme.color(setting["value"]["fixedColor"])
    return found


def _draw_series(axes: Axes, panel: Drawable, named: list[tuple[str, Series]], colors: list[str]) -> None:
    custom = panel.defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode", "none") == "normal"
    grid = np.arange(panel.scope.start, panel.scope.end + panel.scope.step / 2, panel.scope.step)
    below = np.zeros(len(grid))
    for (_, series), color in zip(named, colors, strict=True):
        heights = _on_grid(series, grid, panel.scope.step)
        top = below + np.nan_to_num(heights) if stacked else heights
        if custom.get("drawStyle") == "bars":
            axes.bar(grid, heights, width=panel.scope.step * 0.8, color=color, alpha=0.8, linewidth=0)
        else:
            axes.fill_between(
                grid, below, top, color=color, alpha=custom.get("fillOpacity", 8) / 100, linewidth=0
            )
            axes.plot(grid, top, color=color, linewidth=1.3, solid_joinstyle="round")
        below = top if stacked else below


def _on_grid(series: Series, grid: Numbers, step: float) -> Numbers:
    """Place samples on the grid of the panel. Where there is no sample, a gap remains, as in Grafana."""
    values = np.full(len(grid), np.nan)
    places = np.rint((np.asarray(series.times) - grid[0]) / step).astype(int)
    inside = (places >= 0) & (places < len(grid))
    values[places[inside]] = np.asarray(series.values)[inside]
    values[~np.isfinite(values)] = np.nan
    return values


def _scale(axes: Axes, panel: Drawable) -> None:
    low, high = axes.get_ylim()
    least, most = panel.defaults.get("min"), panel.defaults.get("max")
    soft = panel.defaults.get("custom", {}).get("axisSoftMax")
    # In Grafana, the axis of a graph that has only zeros ends at 100, whatever the unit.
    flat = not any(value for _, series in panel.named_series for value in series.values)
    low = least if least is not None else 0 if flat else low
    high = low + 100 if flat else high
    if soft is not None:
        high = soft if flat else max(high, soft)
    high = most if most is not None else high
    axes.set_ylim(low, high if high > low else low + 1)
    axes.set_yticks(marks := ticks(*axes.get_ylim(), panel.unit), [panel.mark(mark) for mark in marks])
    axes.grid(axis="both", color=panel.theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_limits(axes: Axes, panel: Drawable) -> None:
    low, high = axes.get_ylim()
    for value, color in limits(panel.defaults, panel.theme):
        if low <= value <= high:
            axes.axhline(value, color=color, linewidth=1.1, linestyle=(0, (5, 4)))


def _legend_lines(
    panel: Drawable, named: list[tuple[str, Series]], width: float
) -> list[list[tuple[str, str]]]:
    """Return legend entries (name, name and last value) broken into at most two lines."""
    entries = [(name, f"{name}  {panel.format(series.last)}") for name, series in named]
    lines: list[list[tuple[str, str]]] = [[]]
    left = 12.0
    for entry in entries:
        taken = _entry_width(entry[1])
        if left + taken > width and lines[-1]:
            lines.append([])
            left = 12.0
        lines[-1].append(entry)
        left += taken
    hidden = sum(len(line) for line in lines[2:])
    return [lines[0], [*lines[1][:-1], ("", f"+{hidden + 1} more")]] if hidden else lines


def _entry_width(text: str) -> float:
    return 24 + width_of(text, _LEGEND_SIZE)


def _draw_legend(
    canvas: Canvas, box: Box, lines: list[list[tuple[str, str]]], colors: dict[str, str]
) -> None:
    for index, line in enumerate(lines):
        x, y = box.x + 12, box.y + box.height - _LEGEND_LINE * (len(lines) - index) + 6
        for name, text in line:
            canvas.rectangle(Box(x, y - 1.5, 10, 3), colors.get(name, canvas.theme.card))
            canvas.text(x + 14, y, text, size=_LEGEND_SIZE, color=canvas.theme.quiet, room=box.width - 30)
            x += _entry_width(text)
