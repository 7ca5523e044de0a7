"""The objects of a backup as plain files, each held against the manifest."""

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


def check_space(folder: Path, needed: int, what: str) -> None:
    """See that there is room before anything is begun.

    Raises:
        SpaceError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceError(
            f"{what} needs about {needed >> 20} MiB in {folder.parent}, there are {free >> 20} MiB",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        )


def download(
    wiring: Wiring, entry: Entry, folder: Path, progress: Progress = silent
) -> tuple[dict[str, Path], list[Difference]]:
    """All objects of a backup as plain files by their role, and what is wrong with them."""

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
    """What a fetched object is not that the manifest says it is."""

    def difference(expected: str, found: str) -> list[Difference]:
        return [Difference(kind="object", object=stored.name, expected=expected, found=found)]

    if got.sha256 is None:
        return difference("it is there", "nothing")
    if got.stored_bytes != stored.stored_bytes:
        return difference(f"{stored.stored_bytes} bytes", f"{got.stored_bytes} bytes, SHA-256 {got.sha256}")
    if got.sha256 != stored.sha256:
        return difference(f"SHA-256 {stored.sha256}", f"SHA-256 {got.sha256}")
    if got.problem:
        return difference("it can be unpacked", got.problem)
    if got.raw_bytes != stored.raw_bytes:
        return difference(f"{stored.raw_bytes} bytes unpacked", f"{got.raw_bytes} bytes unpacked")
    return []
