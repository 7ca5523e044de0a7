"""Removes what dead runs left behind. Requires the lock, so that no other run is writing."""

import logging
from dataclasses import dataclass

from backup.catalogue import layout
from backup.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """Number of uploads and objects that were removed."""

    uploads: int = 0
    objects: int = 0


def sweep(store: Store, database: str) -> Swept:
    """Abort incomplete uploads, and delete the objects of backups that were never committed."""
    uploads = list(store.pending(f"{database}/"))
    for upload in uploads:
        store.abort(upload)
    orphans = uncommitted(store, database)
    store.delete(orphans)
    if uploads or orphans:
        log.info("removed leftovers of %s uploads=%d objects=%d", database, len(uploads), len(orphans))
    return Swept(len(uploads), len(orphans))


def uncommitted(store: Store, database: str) -> list[str]:
    """Objects of backups without a manifest."""
    parts = {info.key: layout.split(info.key) for info in store.walk(f"{database}/")}
    committed = {found[1] for found in parts.values() if found and found[2] == layout.MANIFEST}
    return [key for key, found in parts.items() if found and found[1] not in committed]
