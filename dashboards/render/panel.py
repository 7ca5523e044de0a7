"""A panel to draw: its JSON, its query results, and the text and colour of its values."""

import math
from dataclasses import dataclass
from typing import Any

from dashboards.panel_queries import Answer
from dashboards.render import values
from dashboards.render.theme import Theme
from dashboards.resolve import Scope
from sidecar.prometheus import Series

Json = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The text of a value and its colour."""

    text: str
    color: str


@dataclass(frozen=True)
class Drawable:
    """A panel with everything needed to draw it."""

    panel: Json
    answers: list[Answer]
    scope: Scope
    theme: Theme
    marks: tuple[tuple[float, str], ...] = ()

    @property
    def defaults(self) -> Json:
        """The default field configuration."""
        found: Json = self.panel.get("fieldConfig", {}).get("defaults", {})
        return found

    @property
    def unit(self) -> str:
        """The unit of the values."""
        return str(self.defaults.get("unit", "none"))

    @property
    def named_series(self) -> list[tuple[str, Series]]:
        """All series with legend text, in query order."""
        found = [(answer.name(series), series) for answer in self.answers for series in answer.series]
        return [
            (name, series) for name, series in found if any(math.isfinite(value) for value in series.values)
        ]

    def format(self, value: float) -> str:
        """Return the text of a value in the panel's unit."""
        return values.text(value, self.unit, self.defaults.get("decimals"))

    def mark(self, value: float) -> str:
        """Return the text of a value at the axis."""
        return values.mark(value, self.unit, self.defaults.get("decimals"))

    def verdict(self, value: float) -> Verdict:
        """Return the text and colour of a value."""
        return judge(value, self.defaults, self.theme)


def judge(value: float, defaults: Json, theme: Theme) -> Verdict:
    """Return the text and colour of `value`: mappings take precedence over thresholds."""
    if math.isnan(value):
        return Verdict(defaults.get("noValue", values.text(value)), theme.quiet)
    for mapping in defaults.get("mappings", []):
        option = _mapped(mapping, value)
        if option:
            return Verdict(option["text"], theme.color(option["color"]))
    shown = values.text(value, defaults.get("unit", "none"), defaults.get("decimals"))
    return Verdict(shown, threshold_color(value, defaults, theme))


def _mapped(mapping: Json, value: float) -> Json | None:
    options: Json = mapping["options"]
    if mapping["type"] == "value":
        return options.get(f"{value:g}")
    inside = mapping["type"] == "range" and options["from"] <= value <= options["to"]
    return options["result"] if inside else None


def threshold_color(value: float, defaults: Json, theme: Theme) -> str:
    """Return the colour of the highest threshold that `value` reaches."""
    steps = defaults.get("thresholds", {}).get("steps", [])
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return theme.color(reached[-1]["color"]) if reached else theme.text


def limits(defaults: Json, theme: Theme) -> list[tuple[float, str]]:
    """Return the thresholds drawn as lines."""
    mode = defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off")
    steps = defaults.get("thresholds", {}).get("steps", []) if mode != "off" else []
    return [(step["value"], theme.color(step["color"])) for step in steps if step["value"] is not None]
