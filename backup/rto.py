"""How long a restore takes: what was last measured, scaled to another size."""

from backup.catalogue import Entry, History
from backup.records import Report


def projected_rto(history: History, held: list[Report]) -> float:
    """The last measured restore, scaled to the size of the newest backup; 0 unknown."""
    return projected(history, held, history.latest)


def projected(history: History, held: list[Report], entry: Entry | None) -> float:
    """The last measured restore, scaled to the size of one backup; 0 unknown."""
    if not held or entry is None:
        return 0.0
    restored = history.find(held[-1].backup)
    if restored is None or not restored.manifest.raw_bytes:
        return held[-1].restore_seconds
    return held[-1].restore_seconds * entry.manifest.raw_bytes / restored.manifest.raw_bytes
