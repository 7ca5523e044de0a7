"""The data model of a dashboard, and its conversion into Grafana's model."""

import zlib
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard as builder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    RowPanel,
)

from dashboards import variables
from dashboards.annotations import all_annotations

SCREEN = 24
TAG = "posthub"
# The newest version that the Grafana in docker-compose.prod.yml knows; newer ones migrate the JSON when they load it.
SCHEMA_VERSION = 41


@dataclass(frozen=True)
class Row:
    """A row of panels that together answer one question, which the docs page explains."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Args:
        jobs: regular expression of the jobs that it reads.
        choices: its variables, in addition to data source, environment, job and instance.
        span: start of the default time range.
        hide_scope: hide the variables job and instance.
    """

    uid: str
    title: str
    description: str
    jobs: str
    rows: tuple[Row, ...]
    choices: tuple[variables.Choice, ...] = ()
    tags: tuple[str, ...] = field(default_factory=tuple)
    span: str = "now-1h"
    # The overview spans all jobs: selecting one would blank the other panels.
    hide_scope: bool = False


def assemble(board: Board) -> Dashboard:
    """Return Grafana's model of `board`."""
    built = (
        builder.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG, *board.tags])
        .timezone("utc")
        .time(board.span, "now")
        .refresh("30s")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(
            [*variables.common(board.jobs, hidden=board.hide_scope), *map(variables.choice, board.choices)]
        )
        .annotations(list(all_annotations()))
        .links([_siblings()])
        .build()
    )
    built.panels = list(_place(board.rows))
    built.version = 1
    built.schema_version = SCHEMA_VERSION
    return built


def _siblings() -> builder.DashboardLink:
    link = builder.DashboardLink("PostHub dashboards").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.as_dropdown(True).keep_time(True).include_vars(True)


def _place(rows: tuple[Row, ...]) -> list[Panel | RowPanel]:
    placed: list[Panel | RowPanel] = []
    top = 0
    for row in rows:
        placed.append(
            RowPanel(
                title=row.title, id_val=_stable_id(row.title), grid_pos=GridPos(h=1, w=SCREEN, x=0, y=top)
            )
        )
        top = _flow(row.panels, top + 1)
        placed.extend(row.panels)
    return placed


def _flow(panels: tuple[Panel, ...], top: int) -> int:
    """Place panels from left to right like words in a text; return the y position of the next row."""
    left = tallest = 0
    for panel in panels:
        assert panel.grid_pos is not None
        assert panel.title is not None
        if left + panel.grid_pos.w > SCREEN:
            left, top, tallest = 0, top + tallest, 0
        panel.grid_pos.x, panel.grid_pos.y = left, top
        panel.id_val = _stable_id(panel.title)
        left, tallest = left + panel.grid_pos.w, max(tallest, panel.grid_pos.h)
    return top + tallest


def _stable_id(title: str) -> int:
    # From the title, not the position: links to a panel survive when another panel is inserted.
    return zlib.crc32(title.encode()) % 1_000_000 + 1
