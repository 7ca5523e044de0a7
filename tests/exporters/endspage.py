"""The tables of docs/exporter-ends.md: the events of every way in which a task can end, and what is counted."""

from collections.abc import Iterable

import celery

from tests.exporters.exporterkit import HERE

PAGE = HERE.parents[1] / "docs" / "exporter-ends.md"
# Of a row's cells: task, how it ends, events in 5.6 and 5.7, counted in 5.6 and 5.7.
EVENTS, COUNTED = 2, 4
IS_NEWER = not celery.__version__.startswith("5.6.")

# Client, worker and pool send these on separate connections.
FIRST = ("sent", "received", "started")
# A worker's shutdown event may come before or after the end of its last task.
LAST = "offline"

# Events in order, and what is counted.
Row = tuple[list[str], list[str]]


def ordered(kinds: Iterable[str]) -> list[str]:
    """The events, with those grouped whose order is random."""
    return sorted(kinds, key=lambda kind: FIRST.index(kind) if kind in FIRST else len(FIRST) + (kind == LAST))


def is_same(one: Row, other: Row) -> bool:
    return ordered(one[0]) == ordered(other[0]) and sorted(one[1]) == sorted(other[1])


def documented(pool: str) -> dict[str, Row]:
    """The rows of a pool's table for the installed Celery, by task."""
    rows = [_cells(line) for line in _table(pool).splitlines() if "`shop." in line]
    return {cells[0].strip("`"): _row(cells) for cells in rows}


def update(pool: str, found: dict[str, Row]) -> None:
    """Write the events of the installed Celery's workers into its columns."""
    before, heading, rest = PAGE.read_text().partition(f"## {pool}\n")
    table, following, after = rest.partition("\n## ")
    lines = []
    for line in table.splitlines():
        cells = _cells(line)
        row = found.get(cells[0].strip("`"))
        if row is None or is_same(row, _row(cells)):
            lines.append(line)
            continue
        cells[EVENTS + IS_NEWER], cells[COUNTED + IS_NEWER] = (" ".join(words) for words in row)
        lines.append(f"| {' | '.join(cells)} |")
    PAGE.write_text(before + heading + "\n".join(lines) + "\n" + following + after)


def _table(pool: str) -> str:
    return PAGE.read_text().partition(f"## {pool}\n")[2].partition("\n## ")[0]


def _row(cells: list[str]) -> Row:
    return cells[EVENTS + IS_NEWER].split(), cells[COUNTED + IS_NEWER].split()


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
