"""Removes what dead runs left behind. Only for who holds the lock: then nobody else is writing."""

import logging
from dataclasses import dataclass

from backup.catalogue import layout
from backup.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """How much was removed."""

    uploads: int = 0
    objects: int = 0


def sweep(store: Store, database: str) -> Swept:
    """Abort uploads that nobody completed, delete objects of backups that were never committed."""
    uploads = list(store.pending(f"{database}/"))
    for upload in uploads:
        store.abort(upload)
    orphans = uncommitted(store, database)
    store.delete(orphans)
    if uploads or orphans:
        log.info("swept left-overs of %s uploads=%d objects=%d", database, len(uploads), len(orphans))
    return Swept(len(uploads), len(orphans))


def uncommitted(store: Store, database: str) -> list[str]:
    """Objects in folders of backups that have no manifest."""
    parts = {info.key: layout.split(info.key) for info in store.walk(f"{database}/")}
    committed = {found[1] for found in parts.values() if found and found[2] == layout.MANIFEST}
    return [key for key, found in parts.items() if found and found[1] not in committed]
