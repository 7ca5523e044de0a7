"""The moment a backup begins to exist, and the moment it ends: both are its manifest's."""

from datetime import datetime

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest, StoredObject
from backup.errors import DumpError
from backup.store import Refusal, Store


def commit(store: Store, manifest: Manifest, *, retain_until: datetime | None = None) -> None:
    """Write the manifest, and take it back if an object is gone meanwhile.

    Raises:
        DumpError: an object is not there, or has another size; nothing claims that it is.
    """
    folder, key = _places(manifest.database, manifest.id)
    store.put(key, manifest.encode(), retain_until=retain_until)
    try:
        # A run on another host may have swept what had no manifest yet.
        confirm(store, folder, manifest.objects)
    except DumpError:
        store.delete([key])
        raise


def confirm(store: Store, folder: str, objects: tuple[StoredObject, ...]) -> None:
    """See that the store has each object whole before anything claims so.

    Raises:
        DumpError: one is not there, or has another size.
    """
    for stored in objects:
        found = store.head(f"{folder}/{stored.name}")
        if found is None or found.size != stored.stored_bytes:
            size = f"{found.size} bytes" if found else "nothing"
            raise DumpError(
                f"the store took {stored.stored_bytes} bytes of {stored.name} and has {size}",
                hint="run again; if it happens again, do not trust this store",
            )


def discard(store: Store, database: str, backup_id: str) -> list[Refusal]:
    """Delete a backup, or what there is of one: the manifest by itself and first, so that nothing is ever half there.

    Returns:
        What the store refused. A backup whose manifest it refused stays whole.
    """
    folder, key = _places(database, backup_id)
    return store.delete([key]) or store.delete([info.key for info in store.walk(f"{folder}/")])


def _places(database: str, backup_id: str) -> tuple[str, str]:
    return layout.folder(database, backup_id), layout.manifest(database, backup_id)
