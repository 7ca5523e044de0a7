"""Positions of panels in Grafana's grid, after some were taken out. Pure."""

from typing import Any

Json = dict[str, Any]


def compacted(places: list[Json]) -> list[Json]:
    """Positions, each as high as what is above it allows."""
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
    """Panels from top to bottom, without the rows that have none below them."""
    kept: list[Json] = []
    for panel in sorted(panels, key=lambda each: (each["gridPos"]["y"], each["gridPos"]["x"])):
        if panel["type"] == "row" and kept and kept[-1]["type"] == "row":
            kept.pop()
        kept.append(panel)
    while kept and kept[-1]["type"] == "row":
        kept.pop()
    return kept


def rearranged(panels: list[Json]) -> list[Json]:
    """What is left of a dashboard's panels, moved up to where there is room."""
    kept = without_empty_rows(panels)
    places = compacted([panel["gridPos"] for panel in kept])
    return [{**panel, "gridPos": place} for panel, place in zip(kept, places, strict=True)]
