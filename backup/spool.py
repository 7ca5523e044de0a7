"""What was backed up while the store was away is brought there when it is back."""

import logging

from backup import layout
from backup.catalogue import Catalogue, History, Reader
from backup.copying import Route, copy_backup
from backup.hostlock import host_lock
from backup.journal import added
from backup.records import Record, encode
from backup.store import RetryingStore
from backup.wiring import Wiring

log = logging.getLogger(__name__)


def forward(wiring: Wiring) -> int:
    """Bring everything in the spool into the main store; returns how many backups were brought.

    Raises:
        StoreError: the store is still away; what was not brought stays.
    """
    if wiring.spool is None:
        return 0
    brought = 0
    for name, spooled in Reader(wiring.spool).read(wiring.clock()).databases.items():
        with host_lock(wiring.lock_folder, name):
            brought += _forward(wiring, wiring.spool, spooled)
    return brought


def merged(main: Catalogue, spool: Catalogue) -> Catalogue:
    """One catalogue of both; what is in both counts once."""
    names = sorted({*main.databases, *spool.databases})
    return Catalogue(main.read, {name: _merged(main.history(name), spool.history(name)) for name in names})


def _merged(main: History, spool: History) -> History:
    known = {entry.id for entry in main.backups}
    entries = (*main.backups, *(entry for entry in spool.backups if entry.id not in known))
    records = (*main.records, *continued(main, spool.records))
    return History(
        main.database,
        tuple(sorted(entries, key=lambda entry: entry.id)),
        (*main.broken, *spool.broken),
        tuple(sorted(records, key=lambda record: record.started)),
    )


def continued(main: History, spooled: tuple[Record, ...]) -> list[Record]:
    """Records of the spool, whose totals began at nothing, as if they had been written to the main store."""
    known = {(record.kind, record.id) for record in main.records}
    newest = {record.kind: record.totals for record in main.records if record.totals}
    finished = [record for record in main.records if record.finished]
    errors = finished[-1].store_errors if finished else {}
    found = []
    for record in sorted(spooled, key=lambda record: record.started):
        if (record.kind, record.id) in known:
            continue
        totals = dict(newest.get(record.kind, {}))
        if record.finished:
            totals[record.outcome] = totals.get(record.outcome, 0) + 1
        newest[record.kind] = totals
        errors = added(errors, record.new_errors)
        found.append(record.model_copy(update={"totals": totals, "store_errors": errors}))
    return found


def _forward(wiring: Wiring, spool: RetryingStore, spooled: History) -> int:
    main = Reader(wiring.store).read(wiring.clock(), [spooled.database]).history(spooled.database)
    known = {entry.id for entry in main.backups}
    route = Route(spool, wiring.store, wiring.packing.sizes, wiring.stop.check)
    for entry in spooled.backups:
        if entry.id not in known:
            copy_backup(route, entry, retain_until=wiring.retain_until(entry.manifest.started))
        folder = layout.folder(spooled.database, entry.id)
        spool.delete([info.key for info in spool.walk(f"{folder}/")])
    for record in continued(main, spooled.records):
        key = layout.attempt(record.database, record.id, record.kind)
        if record.finished:
            wiring.store.put(key, encode(record))
            spool.delete([key])
    return len(spooled.backups)
