"""Thresholds, value mappings and colours: what good, doubtful and bad look like everywhere."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as dashboard_builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardRangeMapOptions,
    RangeMap,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMapping,
    ValueMappingResult,
)

GOOD, DOUBTFUL, BAD, NEUTRAL = "green", "orange", "red", "blue"


@dataclass(frozen=True)
class Steps:
    """Colours by value: `base` from minus infinity, then each colour from its value on."""

    base: str
    steps: tuple[tuple[float, str], ...] = ()

    def build(self) -> dashboard_builder.ThresholdsConfig:
        """Return the thresholds as Grafana has them."""
        found = [Threshold(value=None, color=self.base)]
        found += [Threshold(value=float(value), color=color) for value, color in self.steps]
        return dashboard_builder.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(found)


PLAIN = Steps(NEUTRAL)


def high_is_bad(warning: float | None = None, critical: float | None = None) -> Steps:
    """Return colours for a value that an alert watches from above."""
    return Steps(GOOD, _steps((warning, DOUBTFUL), (critical, BAD)))


def low_is_bad(warning: float | None = None, critical: float | None = None) -> Steps:
    """Return colours for a value that an alert watches from below."""
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


UP = words(_0=("Down", BAD), _1=("Up", GOOD))
YES_GOOD = words(_0=("No", BAD), _1=("Yes", GOOD))
YES_BAD = words(_0=("No", GOOD), _1=("Yes", BAD))

# The time since a moment that is 0, which is how exporters say that it never came: decades.
_DECADES = 1e9
_FOREVER = 1e12


def never(text: str = "Never", color: str = BAD) -> list[ValueMapping]:
    """Return the mapping for "time since" when there was no such moment yet."""
    result = ValueMappingResult(text=text, color=color, index=0)
    return [RangeMap(options=DashboardRangeMapOptions(from_val=_DECADES, to=_FOREVER, result=result))]
