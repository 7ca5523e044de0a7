"""Builds the entry of one backup from its documents."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from backup.catalogue import ids, layout
from backup.catalogue.cache import DocumentCache
from backup.catalogue.document import damaged
from backup.catalogue.history import Entry
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Report
from backup.errors import CatalogueError
from backup.store import ObjectInfo

log = logging.getLogger(__name__)


def read_entry(
    documents: DocumentCache,
    objects: Mapping[str, ObjectInfo],
    database: str,
    backup_id: str,
    names: Sequence[str],
    store: str,
) -> Entry:
    """The entry of a backup with these objects.

    Raises:
        CatalogueError: its manifest is damaged, or belongs to another backup.
        NotFoundError: it was deleted in the meantime.
    """
    key = layout.manifest(database, backup_id)
    manifest, trust = documents.document(Manifest, objects[key])
    if (manifest.id, manifest.database) != (backup_id, database):
        raise CatalogueError(
            f"{key} is the manifest of {manifest.database}/{manifest.id}",
            hint="it was copied there; delete the folder",
        )
    if not ids.fits(backup_id, manifest.started):
        raise CatalogueError(
            f"{key} states that it started at {manifest.started}, but its ID does not",
            hint="no run writes such a manifest; delete the folder",
        )
    if odd := manifest.oddity:
        raise damaged(key, f"no run writes {odd}")
    folder = layout.folder(database, backup_id)
    reports = [
        _report(documents, objects[f"{folder}/{name}"], manifest) for name in names if layout.is_report(name)
    ]
    there = {name: objects[f"{folder}/{name}"].size for name in names}
    missing = [each.name for each in manifest.objects if there.get(each.name) != each.stored_bytes]
    # By the signed time: anyone could give a report a newer name.
    found = tuple(sorted(filter(None, reports), key=lambda report: report.finished))
    entry = Entry(manifest, found, tuple(missing), store, trust)
    holds = [
        _hold(documents, objects[f"{folder}/{name}"], manifest) for name in names if layout.is_hold(name)
    ]
    known = [hold for hold in holds if hold is not None]
    if not holds:
        return entry
    newest = max(known, key=lambda hold: hold.moment, default=None)
    doubt = len(known) < len(holds)
    held = newest if newest and newest.held else None
    return replace(entry, on_hold=doubt or held is not None, hold=held)


def _hold(documents: DocumentCache, info: ObjectInfo, manifest: Manifest) -> Hold | None:
    """Our record of a hold on this backup; None if it cannot be trusted."""
    hold = documents.believed(Hold, info)
    fits = hold is not None and (hold.backup, hold.database) == (manifest.id, manifest.database)
    return hold if fits else None


def _report(documents: DocumentCache, info: ObjectInfo, manifest: Manifest) -> Report | None:
    """A report about this manifest that one of our keys has signed."""
    report = documents.believed(Report, info)
    if report is None:
        return None
    # Format 1 named no manifest; and no version that writes it has ever verified a backup of format 2.
    older = report.format == manifest.format == 1 and not report.manifest
    bound = report.manifest == manifest.digest or older
    if not bound or (report.backup, report.database) != (manifest.id, manifest.database):
        log.warning("%s is skipped: it is the report of another backup", info.key)
        return None
    return report
