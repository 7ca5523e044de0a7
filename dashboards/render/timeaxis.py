"""Draws the time axis of a graph, in UTC."""

from datetime import UTC, datetime

from matplotlib.axes import Axes

from dashboards.resolve import Scope

_STEPS = (10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_LABEL_PIXELS = 70


def draw_time_axis(axes: Axes, scope: Scope, width: float) -> None:
    """Set limits and round ticks, about one in 70 pixels."""
    span = scope.end - scope.start
    wanted = span / max(1.0, width / _LABEL_PIXELS)
    step = next((step for step in _STEPS if step >= wanted), _STEPS[-1])
    first = -(-scope.start // step) * step
    ticks = [first + index * step for index in range(int((scope.end - first) // step) + 1)]
    axes.set_xlim(scope.start, scope.end)
    axes.set_xticks(ticks, [_label(at, step, span) for at in ticks])


def _label(at: float, step: float, span: float) -> str:
    pattern = (
        "%H:%M:%S" if step < 60 else "%d %b" if step >= 86400 else "%d %b %H:%M" if span > 172800 else "%H:%M"
    )
    return datetime.fromtimestamp(at, UTC).strftime(pattern)
