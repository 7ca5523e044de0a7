"""Round tick values for the value axis."""

import math

_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_DAY = 86400


def ticks(low: float, high: float, unit: str, count: int = 4) -> list[float]:
    """Return about `count` ticks between `low` and `high`."""
    if not high > low:
        return [low]
    step = _step((high - low) / count, unit)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _step(rough: float, unit: str) -> float:
    if unit == "s" and rough >= 1:
        return float(next((one for one in _SECONDS if one >= rough), _nice(rough / _DAY) * _DAY))
    if unit == "bytes" and rough >= 1:
        scale = 1024.0 ** math.floor(math.log(rough, 1024))
        return _nice(rough / scale) * scale
    return _nice(rough)


def _nice(rough: float) -> float:
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(one for one in (1, 2, 2.5, 5, 10) if one >= rough / scale - 1e-9) * scale
