"""Draws tables and alert lists."""

from dataclasses import dataclass
from typing import Any

from dashboards.render.canvas import Box, Canvas
from dashboards.render.panel import Drawable, Verdict, judge

Json = dict[str, Any]
_ROW = 24.0


@dataclass(frozen=True)
class Heading:
    """A column: its title, its label or query, and its field configuration."""

    title: str
    source: str
    numeric: bool
    defaults: Json


def draw_table(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw the query results joined by their labels, in the panel's sort order."""
    headings = _headings(panel)
    rows = _rows(panel, headings)
    widths = _widths(headings, box.width - 20)
    fits = max(1, int((box.height - _ROW) // _ROW))
    _line(
        canvas,
        box,
        0,
        widths,
        [Verdict(heading.title, canvas.theme.quiet) for heading in headings],
        headings,
        bold=True,
    )
    for index, row in enumerate(rows[:fits]):
        y = box.y + _ROW * (index + 1)
        canvas.rectangle(Box(box.x + 8, y, box.width - 16, 0.8), canvas.theme.grid)
        _line(canvas, box, index + 1, widths, [row[heading.source] for heading in headings], headings)


def _headings(panel: Drawable) -> list[Heading]:
    organize = next(
        transformation
        for transformation in panel.panel["transformations"]
        if transformation["id"] == "organize"
    )["options"]
    renamed = organize["renameByName"]
    order = sorted(renamed, key=lambda name: organize["indexByName"][name])
    return [_heading(panel, source, renamed[source]) for source in order]


def _heading(panel: Drawable, source: str, title: str) -> Heading:
    overrides = panel.panel["fieldConfig"].get("overrides", [])
    mine = [override["properties"] for override in overrides if override["matcher"]["options"] == title]
    defaults = {setting["id"]: setting["value"] for properties in mine for setting in properties}
    return Heading(title, source, source.startswith("Value"), defaults)


def _rows(panel: Drawable, headings: list[Heading]) -> list[dict[str, Verdict]]:
    labels = [heading for heading in headings if not heading.numeric]
    found: dict[tuple[str, ...], dict[str, float]] = {}
    for answer in panel.answers:
        source = "Value" if len(panel.answers) == 1 else f"Value #{answer.ref_id}"
        for series in answer.series:
            key = tuple(series.labels.get(heading.source, "") for heading in labels)
            found.setdefault(key, {})[source] = series.last
    ordered = _sorted(found, panel, headings)
    return [_row(key, numbers, headings, panel) for key, numbers in ordered]


def _sorted(
    found: dict[tuple[str, ...], dict[str, float]], panel: Drawable, headings: list[Heading]
) -> list[tuple[tuple[str, ...], dict[str, float]]]:
    rows = sorted(found.items())
    for by in panel.panel["options"].get("sortBy", []):
        labels = [heading.title for heading in headings if not heading.numeric]
        source = next((heading.source for heading in headings if heading.title == by["displayName"]), "")
        if by["displayName"] in labels:
            place = labels.index(by["displayName"])
            rows.sort(key=lambda item: item[0][place], reverse=by["desc"])
        else:
            rows.sort(key=lambda item: item[1].get(source, float("-inf")), reverse=by["desc"])
    return rows


def _row(
    key: tuple[str, ...], numbers: dict[str, float], headings: list[Heading], panel: Drawable
) -> dict[str, Verdict]:
    labels = iter(key)
    text = panel.theme.text
    row = {}
    for heading in headings:
        if not heading.numeric:
            row[heading.source] = Verdict(next(labels), text)
        elif heading.source not in numbers:
            row[heading.source] = Verdict("", text)
        else:
            verdict = judge(numbers[heading.source], heading.defaults, panel.theme)
            row[heading.source] = (
                verdict if "custom.cellOptions" in heading.defaults else Verdict(verdict.text, text)
            )
    return row


def _widths(headings: list[Heading], room: float) -> list[float]:
    shares = [1.0 if heading.numeric else 1.8 for heading in headings]
    shares[0] += 0.6
    return [room * share / sum(shares) for share in shares]


def _line(
    canvas: Canvas,
    box: Box,
    index: int,
    widths: list[float],
    cells: list[Verdict],
    headings: list[Heading],
    *,
    bold: bool = False,
) -> None:
    x, y = box.x + 12, box.y + _ROW * (index + 0.5)
    for width, cell, heading in zip(widths, cells, headings, strict=True):
        at, align = (x + width - 10, "right") if heading.numeric else (x, "left")
        canvas.text(at, y, cell.text, size=8, color=cell.color, bold=bold, align=align, room=width - 10)
        x += width


def draw_alert_list(canvas: Canvas, box: Box, panel: Drawable) -> None:
    """Draw pending and firing alerts."""
    colors = {"critical": "red", "warning": "orange"}
    alerts = [series.labels for _, series in panel.named_series]
    fits = max(1, int(box.height // _ROW))
    for index, alert in enumerate(sorted(alerts, key=lambda alert: alert["alertname"])[:fits]):
        y = box.y + _ROW * (index + 0.5)
        color = canvas.theme.color(colors.get(alert.get("severity", ""), "green"))
        canvas.rectangle(Box(box.x + 12, y - 7, 4, 14), color)
        canvas.text(box.x + 24, y, alert["alertname"], size=8, room=box.width - 100)
        canvas.text(box.x + box.width - 12, y, alert["alertstate"], size=8, color=color, align="right")
