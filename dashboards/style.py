"""Thresholds, value mappings and colours shared by all dashboards."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardRangeMapOptions,
    DashboardSpecialValueMapOptions,
    RangeMap,
    SpecialValueMap,
    SpecialValueMatch,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

GOOD, DOUBTFUL, BAD, NEUTRAL = "green", "orange", "red", "blue"

# Colours of series whose names are known in advance. Grafana's palette by name gives some of them the same colour.
STATE_COLORS = {
    "sent": "blue",
    "received": "light-blue",
    "started": "purple",
    "succeeded": "green",
    "failed": "red",
    "retried": "orange",
    "revoked": "yellow",
    "rejected": "dark-red",
}
SEVERITY_COLORS = {"critical": BAD, "warning": DOUBTFUL, "info": NEUTRAL}


@dataclass(frozen=True)
class Steps:
    """Colours by value: `base` below the first step, then the colour of each step from its value upwards."""

    base: str
    steps: tuple[tuple[float, str], ...] = ()

    def build(self) -> dashboard_builder.ThresholdsConfig:
        """Return Grafana's thresholds."""
        thresholds = [Threshold(value=None, color=self.base)]
        thresholds += [Threshold(value=float(value), color=color) for value, color in self.steps]
        return dashboard_builder.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)


PLAIN = Steps(NEUTRAL)


def high_is_bad(warning: float | None = None, critical: float | None = None) -> Steps:
    """Return colours for a value whose alerts fire above a threshold."""
    return Steps(GOOD, _steps((warning, DOUBTFUL), (critical, BAD)))


def low_is_bad(warning: float | None = None, critical: float | None = None) -> Steps:
    """Return colours for a value whose alerts fire below a threshold."""
    if critical is None:
        return Steps(DOUBTFUL, _steps((warning, GOOD)))
    return Steps(BAD, _steps((critical, DOUBTFUL if warning is not None else GOOD), (warning, GOOD)))


def _steps(*pairs: tuple[float | None, str]) -> tuple[tuple[float, str], ...]:
    return tuple((value, color) for value, color in pairs if value is not None)


def words(**texts: tuple[str, str]) -> list[ValueMapping]:
    """Return value mappings from `_0=("Down", BAD), _1=("Up", GOOD)`."""
    options = {
        key.removeprefix("_"): ValueMappingResult(text=text, color=color, index=index)
        for index, (key, (text, color)) in enumerate(texts.items())
    }
    return [ValueMap(options=options)]


def missing(text: str) -> list[ValueMapping]:
    """Return the mapping of NaN and null, which Grafana shows as "NaN" or as an empty tile."""
    result = ValueMappingResult(text=text, index=99)
    options = DashboardSpecialValueMapOptions(match=SpecialValueMatch.NULL_AND_NAN, result=result)
    return [SpecialValueMap(options=options)]


UP = words(_0=("Down", BAD), _1=("Up", GOOD))
YES_GOOD = words(_0=("No", BAD), _1=("Yes", GOOD))
YES_BAD = words(_0=("No", GOOD), _1=("Yes", BAD))

# Exporters report 0 for a timestamp that never occurred; the time since then is decades.
_DECADES = 1e9
_FOREVER = 1e12


def never(text: str = "Never", color: str = BAD) -> list[ValueMapping]:
    """Return the mapping of a "time since" value for an event that never occurred."""
    result = ValueMappingResult(text=text, color=color, index=0)
    return [RangeMap(options=DashboardRangeMapOptions(from_val=_DECADES, to=_FOREVER, result=result))]
