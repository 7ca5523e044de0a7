"""Commits and deletes backups. A backup exists for exactly as long as its manifest."""

from datetime import datetime

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest, StoredObject
from backup.catalogue.signatures import Keyring
from backup.errors import DumpError
from backup.store import Refusal, Store


def commit(
    store: Store,
    manifest: Manifest,
    keys: Keyring,
    *,
    retain_until: datetime | None = None,
    data: bytes | None = None,
) -> None:
    """Write the manifest, and remove it again if it or an object is not in the store.

    Args:
        data: the manifest as it was stored elsewhere; by default it is serialised and signed again.

    Raises:
        DumpError: an object is missing or differs in size. The manifest was removed.
    """
    folder, key = _places(manifest.database, manifest.id)
    document = data or manifest.encode(keys)
    store.put(key, document, retain_until=retain_until)
    try:
        _confirm(store, key, layout.MANIFEST, len(document))
        # A run on another host may have swept the objects before they had a manifest.
        confirm(store, folder, manifest.objects)
    except DumpError:
        store.delete([key])
        raise


def confirm(store: Store, folder: str, objects: tuple[StoredObject, ...]) -> None:
    """Check that the store has every object in its full size.

    Raises:
        DumpError: an object is missing or differs in size.
    """
    for stored in objects:
        _confirm(store, f"{folder}/{stored.name}", stored.name, stored.stored_bytes)


def _confirm(store: Store, key: str, name: str, size: int) -> None:
    found = store.head(key)
    if found is None or found.size != size:
        has = f"{found.size} bytes" if found else "nothing"
        raise DumpError(
            f"the store accepted {size} bytes of {name} but has {has}",
            hint="run it again; if it happens again, do not trust this store",
        )


def discard(store: Store, database: str, backup_id: str) -> list[Refusal]:
    """Delete a backup, complete or not. The manifest goes first and alone, so that no backup is ever incomplete.

    Returns:
        The objects that the store refused to delete. A backup whose manifest it refuses to delete remains complete.
    """
    folder, key = _places(database, backup_id)
    return store.delete([key]) or store.delete([info.key for info in store.walk(f"{folder}/")])


def _places(database: str, backup_id: str) -> tuple[str, str]:
    return layout.folder(database, backup_id), layout.manifest(database, backup_id)
