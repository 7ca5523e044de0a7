"""Documents that change: the record of an attempt, a hold, the notified faults.

A bucket that locks every object and keeps no versions does not allow them to be replaced. There the next state of a document is a
further object, and the newest one counts. Versions that do not know this read the first one.
"""

from backup.catalogue import layout
from backup.errors import KeptError
from backup.store import ObjectInfo, Store


def states(store: Store, key: str) -> list[ObjectInfo]:
    """The objects of a document: several, if the store does not allow the first one to be replaced.

    Raises:
        StoreError: the store does not list them.
    """
    return [info for info in store.walk(layout.stem(key)) if layout.is_state(info.key, key)]


def forget_others(store: Store, key: str, present: str) -> None:
    """Delete the states of a document other than the present one. They do not count, even if they stay.

    Raises:
        StoreError: the store does not answer.
    """
    if others := [info.key for info in states(store, key) if info.key != present]:
        store.delete(others)


def renew(store: Store, key: str, data: bytes) -> str:
    """Store the present state of a document.

    Returns:
        The key that it is stored under.

    Raises:
        StoreError: the store did not accept it.
    """
    try:
        store.put(key, data)
    except KeptError:
        further = layout.further(key, data)
        store.put(further, data)
        return further
    return key
