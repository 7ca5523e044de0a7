"""Moves backups from the spool to the main store once it is available again."""

from dataclasses import replace

from backup.catalogue import layout
from backup.catalogue.history import History
from backup.catalogue.journal import record
from backup.catalogue.records import continued
from backup.hostlock import host_lock
from backup.policy.anomaly import judged
from backup.replication.copy import Route, copy_backup
from backup.store import RetryingStore
from backup.wiring import Wiring


def forward(wiring: Wiring) -> int:
    """Move everything in the spool to the main store; returns the number of backups that were moved.

    Raises:
        StoreError: the store is still unavailable. What was not moved remains in the spool.
    """
    if wiring.spool is None:
        return 0
    moved = 0
    for name, spooled in wiring.reader(wiring.spool).read(wiring.clock()).databases.items():
        limit = wiring.stop.limit(wiring.settings.timeout, silence=wiring.settings.stall_timeout)
        with limit, host_lock(wiring.lock_folder, name, wiring.stop.sleep):
            moved += _forward(wiring, wiring.spool, spooled)
    return moved


def _forward(wiring: Wiring, spool: RetryingStore, spooled: History) -> int:
    main = wiring.reader().read(wiring.clock(), [spooled.database]).history(spooled.database)
    known = {entry.id for entry in main.backups}
    route = Route(spool, wiring.store, wiring.packing.sizes, wiring.keys, wiring.stop.check)
    before = [entry.manifest for entry in main.backups]
    for entry in spooled.backups:
        if entry.id not in known:
            # The spool had nothing to compare it with.
            manifest = judged(entry.manifest, before, wiring.limits)
            retain = wiring.retain_until(manifest.started)
            copy_backup(route, replace(entry, manifest=manifest), retain_until=retain)
            before.append(manifest)
        folder = layout.folder(spooled.database, entry.id)
        spool.delete([info.key for info in spool.walk(f"{folder}/")])
    for attempt in continued(main.attempts, spooled.attempts):
        if attempt.finished:
            record(wiring.store, attempt, wiring.keys)
            spool.delete([layout.attempt(attempt.database, attempt.id, attempt.kind)])
    return len(spooled.backups)
