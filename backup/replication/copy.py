"""Copies a backup to another store: from the spool, or off-site. The manifest is written last there too."""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from backup.cancellation import never
from backup.catalogue import layout
from backup.catalogue.commit import commit, confirm
from backup.catalogue.history import Entry
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest, StoredObject
from backup.catalogue.records import Report
from backup.catalogue.renewal import renew
from backup.catalogue.signatures import Keyring
from backup.errors import CatalogueError
from backup.pipeline.sink import PartSink
from backup.store import ObjectInfo, PartSizes, Store
from sidecar.logs import fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """Source and target of a copy."""

    source: Store
    target: Store
    sizes: PartSizes
    keys: Keyring
    check: Callable[[], None] = never


def copy_backup(route: Route, entry: Entry, *, retain_until: datetime | None = None) -> None:
    """Copy one backup with its verification reports.

    Raises:
        CatalogueError: an object does not match the manifest. Nothing was committed.
        StoreError: a store failed. Nothing was committed.
    """
    manifest, folder = entry.manifest, layout.folder(entry.manifest.database, entry.id)
    for stored in manifest.objects:
        if _is_there(route, f"{folder}/{stored.name}", stored):
            continue
        digest = _copy_object(route, f"{folder}/{stored.name}", retain_until)
        if digest != stored.sha256:
            route.target.delete([f"{folder}/{stored.name}"])
            raise CatalogueError(
                f"{stored.name} of {entry.id} in {route.source.url} has SHA-256 {digest}, not {stored.sha256}",
                hint=f"the object is damaged; take a new backup and check the disk of {route.source.url}",
            )
    confirm(route.target, folder, manifest.objects)
    commit(
        route.target,
        manifest,
        route.keys,
        retain_until=retain_until,
        data=_as_stored(route, folder, manifest),
    )
    here = {info.key: info for info in route.source.walk(f"{folder}/")}
    copy_reports(route, here.values(), {info.key for info in route.target.walk(f"{folder}/")})
    log.info("copied %s", fields(id=entry.id, database=manifest.database, to=route.target.url))


def _as_stored(route: Route, folder: str, manifest: Manifest) -> bytes | None:
    """The manifest's own bytes, so that its reports still match; None if it was changed in transit."""
    key = f"{folder}/{layout.MANIFEST}"
    data = route.source.get(key)
    with suppress(CatalogueError):
        if Manifest.decode(data, key) == manifest:
            return data
    return None


def copy_reports(route: Route, here: Iterable[ObjectInfo], there: Collection[str]) -> None:
    """Copy the verification reports that the target lacks, and a hold as it is now.

    Args:
        here: objects of the source.
        there: keys of the target.
    """
    for info in here:
        name = info.key.rpartition("/")[2]
        wanted = layout.is_report(name) and info.size <= Report.max_bytes
        if wanted and info.key not in there:
            route.target.put(info.key, route.source.get(info.key))
        if layout.is_hold(name) and info.size <= Hold.max_bytes:
            data = route.source.get(info.key)
            further = layout.further(info.key, data)
            if further not in there and (info.key not in there or route.target.get(info.key) != data):
                renew(route.target, info.key, data)


def _is_there(route: Route, key: str, stored: StoredObject) -> bool:
    """Whether an interrupted earlier copy left the object, and the target did not let it be deleted."""
    info = route.target.head(key)
    if info is None or info.size != stored.stored_bytes:
        return False
    digest = hashlib.sha256()
    for piece in route.target.stream(key):
        route.check()
        digest.update(piece)
    return digest.hexdigest() == stored.sha256


def _copy_object(route: Route, key: str, retain_until: datetime | None) -> str:
    sink = PartSink(route.target.begin(key, retain_until=retain_until), route.sizes)
    digest = hashlib.sha256()
    try:
        for piece in route.source.stream(key):
            route.check()
            digest.update(piece)
            sink.write(piece)
        sink.finish()
        sink.commit()
    except BaseException:
        sink.abort()
        raise
    return digest.hexdigest()
