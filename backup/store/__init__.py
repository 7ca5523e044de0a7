"""Where backups are kept: S3, a local folder, memory."""

from backup.store.base import ObjectInfo, PendingUpload, Refusal, Store, Upload
from backup.store.local import LocalStore
from backup.store.memory import MemoryStore
from backup.store.nodelete import NoDeleteStore
from backup.store.parts import PartSizes
from backup.store.retry import RetryingStore, RetryPolicy
from backup.store.s3 import S3Options, S3Store

__all__ = [
    "LocalStore", "MemoryStore", "NoDeleteStore", "ObjectInfo", "PartSizes", "PendingUpload", "Refusal", "RetryPolicy",
    "RetryingStore", "S3Options", "S3Store", "Store", "Upload",
]  # fmt: skip
