"""Positions of panels in Grafana's grid, after some were removed. Pure."""

from typing import Any

Json = dict[str, Any]


def compacted(places: list[Json]) -> list[Json]:
    """Move each panel up as far as the panels above it allow."""
    placed: list[Json] = []
    for place in places:
        above = [
            other["y"] + other["h"]
            for other in placed
            if other["x"] < place["x"] + place["w"] and place["x"] < other["x"] + other["w"]
        ]
        placed.append({**place, "y": max(above, default=0)})
    return placed


def without_empty_rows(panels: list[Json]) -> list[Json]:
    """Panels from top to bottom, without empty rows."""
    kept: list[Json] = []
    for panel in sorted(panels, key=lambda each: (each["gridPos"]["y"], each["gridPos"]["x"])):
        if panel["type"] == "row" and kept and kept[-1]["type"] == "row":
            kept.pop()
        kept.append(panel)
    while kept and kept[-1]["type"] == "row":
        kept.pop()
    return kept


def rearranged(panels: list[Json]) -> list[Json]:
    """The remaining panels of a dashboard, moved up to fill the gaps."""
    kept = without_empty_rows(panels)
    places = compacted([panel["gridPos"] for panel in kept])
    return [{**panel, "gridPos": place} for panel, place in zip(kept, places, strict=True)]
