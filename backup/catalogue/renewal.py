"""Documents that change: the record of an attempt, a hold, the notified faults.

A bucket that locks every object and keeps no versions lets nothing replace them. There the next state of a document is a
further object, and the newest one counts. Versions that do not know this read the first one.
"""

from backup.errors import KeptError
from backup.store import Store


def renew(store: Store, key: str, data: bytes, further: str) -> str:
    """Store the present state of a document.

    Args:
        further: where it goes if the store lets nothing replace the object.

    Returns:
        The key that it is stored under.

    Raises:
        StoreError: the store did not accept it.
    """
    try:
        store.put(key, data)
    except KeptError:
        store.put(further, data)
        return further
    return key
