"""What a person sees of a value, in each panel: its text in the panel's unit, its colour, and the words for no value.

After an intended change of a panel: ``python -m tests.dashboards.test_dashboards_looks``, and read the difference in
looks.yml.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from dashboards.lint.rules import panels
from dashboards.live_check import committed
from dashboards.render.panel import Json, judge, limits
from dashboards.render.theme import DARK

LOOKS = Path(__file__).with_name("looks.yml")
# Shows the unit of panels without limits.
SAMPLE = 1234.5
NAMES = {color: name for name, color in DARK.named.items()}


def looks() -> dict[str, str]:
    """How each field of each panel looks, by dashboard, title and field."""
    return {
        ": ".join(filter(None, (dashboard["uid"].removeprefix("posthub-"), panel["title"], name))): text
        for dashboard in committed()
        for panel in panels(dashboard)
        for name, text in _of(panel)
    }


def _of(panel: Json) -> Iterator[tuple[str, str]]:
    config = panel.get("fieldConfig")
    if not config:
        return
    defaults = config["defaults"]
    yield "", ", ".join([*_values(defaults), *_lines(defaults)])
    for override in config["overrides"]:
        changed = {one["id"]: one["value"] for one in override["properties"]}
        fixed = changed.get("color", {}).get("fixedColor")
        yield override["matcher"]["options"], fixed or ", ".join(_values({**defaults, **changed}))


def _values(field: Json) -> Iterator[str]:
    steps = [one["value"] for one in field.get("thresholds", {}).get("steps", [])]
    mapped = [float(key) for mapping in field.get("mappings", []) for key in _keys(mapping)]
    numbers = {0.0, SAMPLE, *mapped, *(one for one in steps if one is not None)}
    for number in (*sorted(numbers), math.nan):
        seen = judge(number, field, DARK)
        yield f"{seen.text} {NAMES.get(seen.color, '')}".strip()
    if "max" in field:
        yield f"full at {judge(field['max'], field, DARK).text}"


def _keys(mapping: Json) -> list[Any]:
    options = mapping["options"]
    return {"value": [*options], "range": [options.get("from"), options.get("to")]}.get(mapping["type"], [])


def _lines(field: Json) -> list[str]:
    return [f"line at {value:g} {NAMES.get(color, color)}" for value, color in limits(field, DARK)]


def test_every_panel_looks_as_intended() -> None:
    expected = yaml.safe_load(LOOKS.read_text(encoding="utf-8"))
    found = looks()
    assert list(found) == list(expected), "run python -m tests.dashboards.test_dashboards_looks"
    assert {name: text for name, text in found.items() if text != expected[name]} == {}, "is this intended?"


if __name__ == "__main__":
    LOOKS.write_text(
        "# What a person sees of some values in each panel; see test_dashboards_looks.py.\n"
        + yaml.safe_dump(looks(), sort_keys=False, allow_unicode=True, width=1000),
        encoding="utf-8",
    )
