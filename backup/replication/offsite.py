"""The off-site store: copies every backup to it and measures how far it is behind."""

from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue import layout
from backup.catalogue.history import Entry, History
from backup.catalogue.reader import Reader
from backup.catalogue.sweep import sweep, without_manifest
from backup.hostlock import host_lock
from backup.replication.copy import Route, copy_backup, copy_reports
from backup.targets import Target
from backup.wiring import Wiring


@dataclass(frozen=True)
class Offsite:
    """The backups in the off-site store: IDs by database, None while not known."""

    ids: dict[str, frozenset[str]] = field(default_factory=dict)

    def lag(self, history: History, now: datetime) -> float:
        """Age of the oldest backup without a copy, in seconds; 0 if all are copied."""
        there = self.ids.get(history.database, frozenset())
        waiting = [
            entry.manifest.finished for entry in history.backups if entry.id not in there and _is_sound(entry)
        ]
        return max(0.0, (now - min(waiting)).total_seconds()) if waiting else 0.0


def read_offsite(reader: Reader, names: list[str], now: datetime) -> Offsite:
    """Read which of our backups the off-site store has."""
    catalogue = reader.read(now, names)
    return Offsite({name: _ids(catalogue.history(name)) for name in names})


def copy_missing(wiring: Wiring, target: Target) -> int:
    """Copy every backup of a database that the off-site store lacks, the newest first.

    Raises:
        OpsError: a copy failed. The copies before it remain.
    """
    assert wiring.offsite is not None
    route = Route(wiring.store, wiring.offsite, wiring.packing.sizes, wiring.keys, wiring.stop.check)
    limit = wiring.stop.limit(wiring.settings.timeout, silence=wiring.settings.stall_timeout)
    with limit, host_lock(wiring.lock_folder, f"offsite-{target.name}", wiring.stop.sleep):
        history, here = wiring.reader().read_listed(wiring.clock(), target.name)
        copies, listed = wiring.reader(wiring.offsite).read_listed(wiring.clock(), target.name)
        there = _ids(copies)
        missing = [entry for entry in reversed(history.backups) if entry.id not in there and _is_sound(entry)]
        if missing or without_manifest(listed):
            # An interrupted copy is still missing.
            sweep(wiring.offsite, target.name, listed)
        for entry in missing:
            copy_backup(route, entry, retain_until=wiring.retain_until(entry.manifest.started))
        # What the two listings show, without reading either store again.
        known = {entry.id for entry in history.backups} & there
        ours = [info for key, info in here.items() if (parts := layout.split(key)) and parts[1] in known]
        copy_reports(route, ours, listed)
    return len(missing)


def _is_sound(entry: Entry) -> bool:
    """Whether no damage is known; a damaged backup is not copied."""
    return entry.state in {"verified", "unverified", "unprovable"}


def _ids(history: History) -> frozenset[str]:
    return frozenset(entry.id for entry in history.backups)
