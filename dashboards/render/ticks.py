"""Round tick values for the value axis: decimal as in Grafana, also of seconds, but binary of bytes."""

import math


def ticks(low: float, high: float, unit: str, count: int = 4) -> list[float]:
    """Return about `count` ticks between `low` and `high`."""
    if not high > low:
        return [low]
    step = _step((high - low) / count, unit)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _step(rough: float, unit: str) -> float:
    if unit == "bytes" and rough >= 1:
        scale = 1024.0 ** math.floor(math.log(rough, 1024))
        return _nice(rough / scale) * scale
    return _nice(rough)


def _nice(rough: float) -> float:
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(factor for factor in (1, 2, 2.5, 5, 10) if factor >= rough / scale - 1e-9) * scale
