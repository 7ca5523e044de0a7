"""A store that this process never deletes from, even if its key may."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from backup.store.base import ObjectInfo, PendingUpload, Refusal, Store, Upload

REASON = "BACKUP_DELETE=never"


class NoDeleteStore(Store):
    """A wrapper that refuses deletions without asking the store.

    Parts of an interrupted upload are not objects, and are still dropped.
    """

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.name = inner.name
        self.url = inner.url
        self.parallel = inner.parallel

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        self.inner.put(key, data, retain_until=retain_until)

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        return self.inner.stream(key, start=start)

    def head(self, key: str) -> ObjectInfo | None:
        return self.inner.head(key)

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self.inner.walk(prefix)

    def folders(self, prefix: str = "") -> list[str]:
        return self.inner.folders(prefix)

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        return [Refusal(key, REASON) for key in keys]

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        return self.inner.begin(key, retain_until=retain_until)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        return self.inner.pending(prefix)

    def abort(self, upload: PendingUpload) -> None:
        self.inner.abort(upload)

    def check(self) -> None:
        self.inner.check()
