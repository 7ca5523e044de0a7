"""A store in memory for tests, which can be made to fail."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count

from backup.errors import NotFoundError, StoreError
from backup.store.base import PIECE, ObjectInfo, PendingUpload, Refusal, Store, Upload

Fault = Callable[[str, str], None]


def _no_fault(operation: str, key: str) -> None:
    """Let everything succeed."""


class MemoryStore(Store):
    """Objects in a dictionary.

    Args:
        fault: called with the operation and the key before each step; raises to make the step fail.
        clock: the source of modification times, which retention locks are compared with.
    """

    def __init__(
        self,
        name: str = "main",
        *,
        fault: Fault = _no_fault,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.name = name
        self.url = f"memory://{name}"
        self.fault = fault
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.uploads: dict[str, MemoryUpload] = {}
        self.locked: dict[str, datetime] = {}
        self._clock = clock
        self._ids = count(1)

    def check(self) -> None:
        self.fault("check", "")

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        self.fault("put", key)
        self.objects[key] = (bytes(data), self._clock())
        if retain_until:
            self.locked[key] = retain_until

    def get(self, key: str) -> bytes:
        self.fault("get", key)
        if key not in self.objects:
            raise not_found(key, self.url, "get")
        return self.objects[key][0]

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        data = self.get(key)
        for offset in range(start, len(data), PIECE):
            self.fault("read", key)
            yield data[offset : offset + PIECE]

    def head(self, key: str) -> ObjectInfo | None:
        self.fault("head", key)
        found = self.objects.get(key)
        return _info(key, *found) if found else None

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self.fault("list", prefix)
        # A copy: other threads put and delete meanwhile.
        for key, (data, modified) in sorted(self.objects.copy().items()):
            if key.startswith(prefix):
                yield _info(key, data, modified)

    def folders(self, prefix: str = "") -> list[str]:
        self.fault("list", prefix)
        below = [key.removeprefix(prefix) for key in self.objects.copy() if key.startswith(prefix)]
        return sorted({key.partition("/")[0] for key in below if "/" in key})

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        refused = []
        for key in keys:
            self.fault("delete", key)
            until = self.locked.get(key)
            if until and until > self._clock():
                refused.append(Refusal(key, f"locked until {until:%Y-%m-%d %H:%M}"))
            else:
                self.objects.pop(key, None)
        return refused

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        self.fault("begin", key)
        upload = MemoryUpload(self, key, str(next(self._ids)), retain_until)
        self.uploads[upload.upload_id] = upload
        return upload

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        for upload_id, upload in list(self.uploads.items()):
            if upload.key.startswith(prefix):
                yield PendingUpload(upload.key, upload_id)

    def abort(self, upload: PendingUpload) -> None:
        self.uploads.pop(upload.upload_id, None)


class MemoryUpload(Upload):
    """Parts in a dictionary."""

    def __init__(self, store: MemoryStore, key: str, upload_id: str, retain_until: datetime | None) -> None:
        self.key = key
        self.upload_id = upload_id
        self._store = store
        self._retain_until = retain_until
        self._parts: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:  # noqa: ARG002 - S3 has no offsets
        self._store.fault("part", self.key)
        if self.upload_id not in self._store.uploads:
            raise upload_gone(self.key, "part")
        with self._lock:
            self._parts[number] = bytes(data)

    def complete(self) -> None:
        self._store.fault("complete", self.key)
        if self._store.uploads.pop(self.upload_id, None) is None:
            raise upload_gone(self.key, "complete")
        whole = b"".join(self._parts[number] for number in sorted(self._parts))
        self._store.put(self.key, whole, retain_until=self._retain_until)

    def abort(self) -> None:
        self._store.abort(PendingUpload(self.key, self.upload_id))


def _info(key: str, data: bytes, modified: datetime) -> ObjectInfo:
    return ObjectInfo(key, len(data), modified, hashlib.sha256(data).hexdigest())


def not_found(key: str, url: str, operation: str) -> NotFoundError:
    return NotFoundError(
        f"{key} is not in {url}", hint="list the backups: python -m backup list", operation=operation
    )


def upload_gone(key: str, operation: str) -> StoreError:
    return StoreError(
        f"the upload of {key} no longer exists: it was aborted elsewhere",
        hint="run it again; if it happens again, look for a second service that sweeps the same prefix",
        operation=operation,
    )
