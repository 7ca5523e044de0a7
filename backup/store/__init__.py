"""Where backups are kept: S3, a local folder, memory."""

from backup.store.base import ObjectInfo, PendingUpload, Refusal, Store, Upload
from backup.store.local import LocalStore
from backup.store.memory import MemoryStore
from backup.store.nodelete import NoDeleteStore
from backup.store.options import S3Options
from backup.store.parts import PartSizes
from backup.store.retry import RetryingStore, RetryPolicy

__all__ = [
    "LocalStore",
    "MemoryStore",
    "NoDeleteStore",
    "ObjectInfo",
    "PartSizes",
    "PendingUpload",
    "Refusal",
    "RetryPolicy",
    "RetryingStore",
    "S3Options",
    "Store",
    "Upload",
]
