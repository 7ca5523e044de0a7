"""Formats numbers by Grafana's unit IDs."""

import math
from collections.abc import Callable

_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_DECIMAL = ((1e9, "G"), (1e6, "M"), (1e3, "K"))
_BINARY = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_DECIMAL_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_RATES = {"ops": "/s", "reqps": "/s", "cps": "/s"}


def text(value: float, unit: str = "short", decimals: int | None = None) -> str:
    """Return `value` in its unit, short enough for an axis."""
    if not math.isfinite(value):
        return "–"
    return _FORMATS.get(unit, _short)(value, decimals)


def _short(value: float, decimals: int | None) -> str:
    return _scaled(value, _DECIMAL, "", decimals, joint="")


def _seconds(value: float, decimals: int | None) -> str:
    return _scaled(value, _SECONDS, "s", decimals)


def _bytes(value: float, decimals: int | None) -> str:
    return _scaled(value, _BINARY, "B", decimals)


def _bytes_rate(value: float, decimals: int | None) -> str:
    return _scaled(value, _DECIMAL_BYTES, "B", decimals) + "/s"


def _percent(value: float, decimals: int | None) -> str:
    return _number(value * 100, decimals) + " %"


def _rate(value: float, decimals: int | None) -> str:
    return _short(value, decimals) + "/s"


_FORMATS: dict[str, Callable[[float, int | None], str]] = {
    "s": _seconds,
    "bytes": _bytes,
    "Bps": _bytes_rate,
    "percentunit": _percent,
    **dict.fromkeys(_RATES, _rate),
}


def _scaled(
    value: float, scales: tuple[tuple[float, str], ...], plain: str, decimals: int | None, joint: str = " "
) -> str:
    for size, name in scales:
        if abs(value) >= size:
            return _number(value / size, decimals) + joint + name
    if value and scales is _SECONDS:
        return _number(value * 1e9, decimals) + " ns"
    return _number(value, decimals) + (joint + plain if plain else "")


def _number(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    if value == 0:
        return "0"
    places = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    shown = f"{value:.{places}f}"
    shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    return shown if float(shown) else f"{value:.1g}"
