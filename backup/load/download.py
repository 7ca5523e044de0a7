"""Downloads the objects of a backup as plain files and compares each with the manifest."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from backup.catalogue import layout
from backup.catalogue.history import Entry
from backup.catalogue.manifest import StoredObject
from backup.catalogue.records import Difference
from backup.errors import SpaceError
from backup.load.fetch import Fetched, fetch
from backup.load.space import guarded
from backup.postgres.archive import RowEnds, write_positions
from backup.progress import Progress, silent
from backup.store import Store
from backup.wiring import Wiring
from sidecar.humanize import size

# An unsigned object is not unpacked if it would become larger than this and than this multiple of its size.
PLAUSIBLE_BYTES = 64 << 20
MAX_RATIO = 2000


def check_space(folder: Path, needed: int, what: str) -> None:
    """Check that a folder's disk has enough free space.

    Raises:
        SpaceError: there is not enough.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SpaceError(
            f"{what} needs about {size(needed)} in {folder.parent}, but only {size(free)} is free",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        )


def download(
    wiring: Wiring, entry: Entry, folder: Path, progress: Progress = silent
) -> tuple[dict[str, Path], list[Difference]]:
    """Download all objects of a backup; returns the plain files by role, and the differences."""

    check = guarded(wiring, folder)
    files: dict[str, Path] = {}
    manifest, store = entry.manifest, wiring.store_named(entry.store)
    differences = list(implausible(wiring, entry))
    if differences:
        return files, differences
    for stored in manifest.objects:
        key = f"{layout.folder(manifest.database, manifest.id)}/{stored.name}"
        if found := wrong_size(store, key, stored):
            differences.append(found)
            continue
        files[stored.role] = folder / stored.role
        ends = RowEnds() if stored.role == "archive" else None
        got = fetch(
            store,
            key,
            stored,
            files[stored.role],
            wiring.identities,
            progress,
            ends.feed if ends else None,
            check,
        )
        wrong = object_differences(stored, got)
        if ends and not wrong:
            write_positions(files[stored.role], ends.found)
        differences += wrong
    return files, differences


def implausible(wiring: Wiring, entry: Entry) -> Iterator[Difference]:
    """What makes an unsigned backup implausible; known before any of its bytes are fetched."""
    if entry.trust != "unchecked":
        return
    encrypts = bool(wiring.packing.recipients or wiring.identities)
    for stored in entry.manifest.objects:
        if encrypts and not stored.encryption:
            yield Difference(
                kind="encryption",
                object=stored.name,
                expected="encrypted, like all backups made here",
                found="plain",
            )
        if stored.raw_bytes > max(PLAUSIBLE_BYTES, MAX_RATIO * stored.stored_bytes):
            yield Difference(
                kind="size",
                object=stored.name,
                expected=f"at most {MAX_RATIO} times its stored bytes",
                found=f"{stored.raw_bytes} bytes unpacked",
            )


def wrong_size(store: Store, key: str, stored: StoredObject) -> Difference | None:
    """The difference if an object's size is not that in the manifest; such an object need not be fetched."""
    info = store.head(key)
    if info is None or info.size == stored.stored_bytes:
        return None
    return Difference(
        kind="object", object=stored.name, expected=f"{stored.stored_bytes} bytes", found=f"{info.size} bytes"
    )


def object_differences(stored: StoredObject, got: Fetched) -> list[Difference]:
    """The differences between a fetched object and the manifest."""

    def difference(expected: str, found: str) -> list[Difference]:
        return [Difference(kind="object", object=stored.name, expected=expected, found=found)]

    if got.sha256 is None:
        return difference("an object", "nothing")
    if got.stored_bytes != stored.stored_bytes:
        return difference(f"{stored.stored_bytes} bytes", f"{got.stored_bytes} bytes, SHA-256 {got.sha256}")
    if got.sha256 != stored.sha256:
        return difference(f"SHA-256 {stored.sha256}", f"SHA-256 {got.sha256}")
    if got.too_large:
        return difference(
            f"{stored.raw_bytes} bytes unpacked", f"more than {stored.raw_bytes} bytes unpacked"
        )
    if got.problem:
        return difference("decompressible data", got.problem)
    if got.raw_bytes != stored.raw_bytes:
        return difference(f"{stored.raw_bytes} bytes uncompressed", f"{got.raw_bytes} bytes uncompressed")
    return []
