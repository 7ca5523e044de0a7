"""Removes what dead runs left behind. Requires the lock, so that no other run is writing."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backup.catalogue import layout
from backup.errors import StoreError
from backup.store import Store

MAX_NAMED = 5
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Swept:
    """How much was removed.

    Attributes:
        problems: what could not be removed, and why. This is housekeeping, so it never fails a backup.
    """

    uploads: int = 0
    objects: int = 0
    problems: tuple[str, ...] = ()


def sweep(store: Store, database: str, listed: Iterable[str] | None = None) -> Swept:
    """Abort unfinished uploads, and delete objects of backups that were never committed.

    Args:
        listed: the keys of the database's objects, if they are known.
    """
    problems: list[str] = []
    uploads = _abort_all(store, database, problems)
    objects = 0
    with _noted("delete leftover objects", problems):
        orphans = uncommitted(store, database) if listed is None else without_manifest(listed)
        orphans = _without_hidden_manifest(store, orphans, problems)
        refused = store.delete(orphans)
        objects = len(orphans) - len(refused)
        problems += [f"left over: {refusal.key}: {refusal.reason}" for refusal in refused[:MAX_NAMED]]
    if uploads or objects:
        log.info("removed leftovers of %s uploads=%d objects=%d", database, uploads, objects)
    for problem in problems:
        log.warning("leftovers remain: %s: %s", database, problem)
    return Swept(uploads, objects, tuple(problems))


def _abort_all(store: Store, database: str, problems: list[str]) -> int:
    """Yield each upload as it is listed, so that a listing that fails midway has still made progress."""
    aborted = 0
    with _noted("list unfinished uploads", problems):
        for upload in store.pending(f"{database}/"):
            with _noted(f"abort the upload of {upload.key}", problems):
                store.abort(upload)
                aborted += 1
    return aborted


@contextmanager
def _noted(what: str, problems: list[str]) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        if len(problems) < MAX_NAMED:
            problems.append(f"cannot {what}: {error.message}")


def uncommitted(store: Store, database: str) -> list[str]:
    """Objects of backups without a manifest."""
    return without_manifest(info.key for info in store.walk(f"{database}/"))


def _without_hidden_manifest(store: Store, keys: list[str], problems: list[str]) -> list[str]:
    """Those of the keys whose backups really have no manifest: a store may leave one out of a listing."""
    committed = set()
    for database, backup_id in sorted({found[:2] for key in keys if (found := layout.split(key))}):
        if store.head(layout.manifest(database, backup_id)) is not None:
            committed.add(backup_id)
            problems.append(f"the store's listing lacked the manifest of {backup_id}; the backup was kept")
    return [key for key in keys if (found := layout.split(key)) and found[1] not in committed]


def without_manifest(keys: Iterable[str]) -> list[str]:
    """Those of the keys that belong to backups without a manifest."""
    parts = {key: layout.split(key) for key in keys}
    committed = {found[1] for found in parts.values() if found and found[2] == layout.MANIFEST}
    return [key for key, found in parts.items() if found and found[1] not in committed]
