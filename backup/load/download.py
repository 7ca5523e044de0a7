"""Downloads the objects of a backup as plain files and compares each with the manifest."""

import shutil
from pathlib import Path

from backup.catalogue import layout
from backup.catalogue.manifest import StoredObject
from backup.catalogue.reader import Entry
from backup.catalogue.records import Difference
from backup.errors import SpaceError
from backup.load.fetch import Fetched, fetch
from backup.postgres.archive import RowEnds, write_positions
from backup.progress import Progress, silent
from backup.wiring import Wiring
from sidecar.humanize import size


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check for disk space before anything begins.

    Raises:
        SpaceError: there is too little.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceError(
            f"{what} needs about {size(needed)} in {folder.parent}, {size(free)} are free",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        )


def download(
    wiring: Wiring, entry: Entry, folder: Path, progress: Progress = silent
) -> tuple[dict[str, Path], list[Difference]]:
    """Download all objects of a backup; returns the plain files by role, and the differences."""

    def passed(count: int) -> None:
        wiring.stop.check()
        progress(count)

    files: dict[str, Path] = {}
    differences: list[Difference] = []
    manifest, store = entry.manifest, wiring.store_named(entry.store)
    for stored in manifest.objects:
        key = f"{layout.folder(manifest.database, manifest.id)}/{stored.name}"
        files[stored.role] = folder / stored.role
        ends = RowEnds() if stored.role == "archive" else None
        got = fetch(
            store, key, stored, files[stored.role], wiring.identities, passed, ends.feed if ends else None
        )
        found = object_differences(stored, got)
        if ends and not found:
            write_positions(files[stored.role], ends.found)
        differences += found
    return files, differences


def object_differences(stored: StoredObject, got: Fetched) -> list[Difference]:
    """The differences between a fetched object and the manifest."""

    def difference(expected: str, found: str) -> list[Difference]:
        return [Difference(kind="object", object=stored.name, expected=expected, found=found)]

    if got.sha256 is None:
        return difference("it exists", "nothing")
    if got.stored_bytes != stored.stored_bytes:
        return difference(f"{stored.stored_bytes} bytes", f"{got.stored_bytes} bytes, SHA-256 {got.sha256}")
    if got.sha256 != stored.sha256:
        return difference(f"SHA-256 {stored.sha256}", f"SHA-256 {got.sha256}")
    if got.problem:
        return difference("it can be decompressed", got.problem)
    if got.raw_bytes != stored.raw_bytes:
        return difference(f"{stored.raw_bytes} bytes uncompressed", f"{got.raw_bytes} bytes uncompressed")
    return []
