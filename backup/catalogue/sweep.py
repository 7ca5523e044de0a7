"""Removes what dead runs left behind. Requires the lock, so that no other run is writing."""

import logging
from dataclasses import dataclass

from backup.catalogue import layout
from backup.errors import StoreError
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
    kept = _delete(store, orphans)
    if uploads or orphans:
        log.info(
            "removed leftovers of %s uploads=%d objects=%d kept=%d",
            database,
            len(uploads),
            len(orphans) - kept,
            kept,
        )
    return Swept(len(uploads), len(orphans) - kept)


def _delete(store: Store, keys: list[str]) -> int:
    """Delete leftovers and return how many remain. They are in no one's way, so a key that cannot delete stops no run."""
    try:
        refused = store.delete(keys)
    except StoreError as error:
        log.warning("leftovers remain: %s", error.message)
        return len(keys)
    if refused:
        log.warning("leftovers remain: %s: %s", refused[0].key, refused[0].reason)
    return len(refused)


def uncommitted(store: Store, database: str) -> list[str]:
    """Objects of backups without a manifest."""
    parts = {info.key: layout.split(info.key) for info in store.walk(f"{database}/")}
    committed = {found[1] for found in parts.values() if found and found[2] == layout.MANIFEST}
    return [key for key, found in parts.items() if found and found[1] not in committed]
