"""Anomalies of a new backup: its size and the rows of each table, compared with the median of recent backups."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from backup.catalogue.manifest import Manifest
from sidecar.logs import fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What counts as an anomaly.

    Attributes:
        drop: a value below this share of the median.
        growth: a value above this multiple of the median.
        min_rows: minimum number of rows of a table that is judged; smaller ones vary too much.
        min_history: number of earlier backups that a judgement needs.
        window: number of recent backups that the median is taken of.
    """

    drop: float = 0.5
    growth: float = 5.0
    min_rows: int = 100
    min_history: int = 3
    window: int = 7


def judged(manifest: Manifest, before: Sequence[Manifest], limits: Limits) -> Manifest:
    """The manifest with its anomalies: differences from the backups before."""
    found = anomalies(manifest, before, limits)
    for anomaly in found:
        log.warning("anomaly %s", fields(id=manifest.id, database=manifest.database, what=anomaly))
    return manifest.model_copy(update={"anomalies": found})


def anomalies(new: Manifest, before: Sequence[Manifest], limits: Limits) -> tuple[str, ...]:
    """Describe the anomalies of a backup; ``before`` is oldest first and may be long."""
    recent = [manifest for manifest in before if _comparable(manifest, new)][-limits.window :]
    if len(recent) < limits.min_history:
        return ()
    found = list(_judge("size in bytes", new.raw_bytes, median(m.raw_bytes for m in recent), limits))
    rows, usual = rows_by_table(new), [rows_by_table(manifest) for manifest in recent]
    for table in sorted({name for known in usual for name in known}):
        # A table that is newer than half the window has a median of 0 and is not judged.
        middle = median(known.get(table, 0) for known in usual)
        if middle >= limits.min_rows:
            found += _judge(f"rows of {table}", rows.get(table, 0), middle, limits)
    return tuple(found)


def _comparable(before: Manifest, new: Manifest) -> bool:
    """Whether two backups are of the same kind and exclude the same tables."""
    return (before.kind, before.excluded_tables, before.excluded_rows) == (
        new.kind,
        new.excluded_tables,
        new.excluded_rows,
    )


def rows_by_table(manifest: Manifest) -> dict[str, int]:
    """Number of rows by table; for Redis, number of keys by database."""
    tables = {table.label: table.rows for table in manifest.tables}
    return tables or {f"db{space.number}": space.keys for space in manifest.keyspaces}


def _judge(what: str, value: int, usual: float, limits: Limits) -> Iterable[str]:
    if value < usual * limits.drop:
        yield f"{what} fell to {value} from a median of {usual:.0f}"
    elif usual and value > usual * limits.growth:
        yield f"{what} rose to {value} from a median of {usual:.0f}"
