"""Formats numbers as Grafana does, by its unit IDs; tests/dashboards compares the texts with those of its library."""

import math
from collections.abc import Callable

# From this number of seconds on: the size of the unit, or the number of units in a second, and the name. Grafana's year
# is the tropical one, but begins at 365 days.
_SECONDS: tuple[tuple[float, int, int, str], ...] = (
    (365 * 86400, 31_556_900, 1, "year"),
    (7 * 86400, 7 * 86400, 1, "week"),
    (86400, 86400, 1, "day"),
    (3600, 3600, 1, "hour"),
    (60, 60, 1, "min"),
    (1, 1, 1, "s"),
    (1e-3, 1, 1000, "ms"),
    (1e-6, 1, 1_000_000, "µs"),
    (0, 1, 1_000_000_000, "ns"),
)
_WITH_PLURAL = {"year", "week", "day", "hour", "min"}
_SHORT = ("", " K", " Mil", " Bil", " Tri", " Quadr", " Quint", " Sext", " Sept")
_COUNT = ("", "K", "M", "B", "T")
_BINARY = tuple(f" {prefix}B" for prefix in ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"))
_SI = tuple(
    f" {prefix}B/s" for prefix in ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y")
)
_DIGITS = 3

Format = Callable[[float, int | None], str]


def text(value: float, unit: str = "none", decimals: int | None = None) -> str:
    """Return `value` in its unit: three digits, unless the panel asks for a number of decimals."""
    return "NaN" if math.isnan(value) else _FORMATS.get(unit, _number)(value, decimals)


def mark(value: float, unit: str = "none", decimals: int | None = None) -> str:
    """Return the text of a value at an axis: without trailing zeros."""
    number, space, name = text(value, unit, decimals).partition(" ")
    sign = "%" if number.endswith("%") else ""
    number = number.removesuffix("%")
    return (number.rstrip("0").rstrip(".") if "." in number else number) + sign + space + name


def _seconds(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    _, size, parts, name = next(unit for unit in _SECONDS if abs(value) >= unit[0])
    value = value * parts / size
    plural = "s" if name in _WITH_PLURAL and abs(value) > 1 else ""
    return f"{_number(value, decimals)} {name}{plural}"


def _dollars(value: float, decimals: int | None) -> str:
    return f"{'-' if value < 0 else ''}${_scaled(1000, _COUNT)(abs(value), decimals)}"


def _percent(value: float, decimals: int | None) -> str:
    return _number(value * 100, decimals) + "%"


def _scaled(factor: float, names: tuple[str, ...], base: int = 0, unit: str = "") -> Format:
    """Numbers with a name for each power of a factor; `base` is the position of the name of 1."""

    def scale(value: float, decimals: int | None) -> str:
        if not math.isfinite(value):
            return _number(value, decimals)
        power = math.floor(math.log10(abs(value)) / math.log10(factor)) if value else 0
        power = min(max(power, -base), len(names) - base - 1)
        return _number(value / factor**power, decimals) + names[base + power] + unit

    return scale


_FORMATS: dict[str, Format] = {
    "s": _seconds,
    "percentunit": _percent,
    "currencyUSD": _dollars,
    "short": _scaled(1000, _SHORT),
    "bytes": _scaled(1024, _BINARY),
    "Bps": _scaled(1000, _SI, base=_SI.index(" B/s")),
    "ops": _scaled(1000, _COUNT, unit=" ops/s"),
    "reqps": _scaled(1000, _COUNT, unit=" req/s"),
    "cps": _scaled(1000, _COUNT, unit=" c/s"),
}


def _number(value: float, decimals: int | None) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    places = _places(value) if decimals is None else decimals
    factor = 10.0**places
    # Halves are rounded upwards, also below zero; and there is no negative zero.
    return f"{math.floor(value * factor + 0.5) / factor + 0.0:.{places}f}"


def _places(value: float) -> int:
    """The number of decimals of a number with three digits; whole numbers have none."""
    if value == math.floor(value):
        return 0
    return max(0, _DIGITS - 1 - math.floor(math.log10(abs(value))))
