"""The end of a pipeline: stored bytes are hashed, cut into parts that grow, and sent while the next part fills."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from backup.errors import StoreError
from backup.progress import Progress, silent
from backup.store import PartSizes, Upload

# Parts on their way hold at most this much memory together; one part may always go.
BUDGET = 32 << 20


class PartSink:
    """Writes into an upload. Nothing is there for readers before :meth:`commit`.

    Args:
        upload: begun, and this sink's to complete or abort.
        sizes: how parts grow.
        threads: parts sent at the same time.
        sent: told the bytes of each part that has arrived.
    """

    def __init__(
        self,
        upload: Upload,
        sizes: PartSizes,
        *,
        threads: int = 3,
        sent: Progress = silent,
    ) -> None:
        self.size = 0
        self._upload = upload
        self._sizes = sizes
        self._sent = sent
        self._digest = hashlib.sha256()
        self._buffer = bytearray()
        self._number = 1
        self._offset = 0
        self._wanted = sizes.of(1)
        self._room = _Room(BUDGET)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Take some bytes; waits while too many are on their way.

        Raises:
            StoreError: an earlier part could not be stored.
        """
        self._digest.update(data)
        self._buffer += data
        self.size += len(data)
        while len(self._buffer) >= self._wanted:
            self._send(self._wanted)
        return len(data)

    def flush(self) -> None:
        """Nothing to do: parts go when they are full. Encryption calls it."""

    def finish(self) -> str:
        """Send the rest, wait until all parts have arrived, and return the SHA-256 of all bytes."""
        if self._buffer or self._number == 1:
            self._send(len(self._buffer))
        self._pool.shutdown(wait=True)
        self.raise_failure()
        return self._digest.hexdigest()

    def commit(self) -> None:
        """Make the object appear. Call after :meth:`finish` and after every other stage has ended well."""
        self._upload.complete()

    def abort(self) -> None:
        """Drop everything that was sent. A store that does not answer keeps it for the next run's sweep."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        with suppress(StoreError):
            self._upload.abort()

    def _send(self, size: int) -> None:
        self.raise_failure()
        if self._number > self._sizes.limit:
            raise StoreError(
                f"the backup needs more than {self._sizes.limit} parts",
                hint="allow more parts with BACKUP_S3_MAX_PARTS",
                operation="part",
            )
        part, self._buffer = self._cut(size)
        self._room.take(size)
        self._pool.submit(self._store, self._number, self._offset, part)
        self._number, self._offset = self._number + 1, self._offset + size
        self._wanted = self._sizes.of(min(self._number, self._sizes.limit))

    def _cut(self, size: int) -> tuple[bytearray, bytearray]:
        rest = self._buffer[size:]
        del self._buffer[size:]
        return self._buffer, rest

    def _store(self, number: int, offset: int, part: bytearray) -> None:
        try:
            if self._failure is None:
                self._upload.part(number, offset, part)
                self._sent(len(part))
        except BaseException as error:
            self._failure = error
        finally:
            self._room.give(len(part))

    def raise_failure(self) -> None:
        """Raise what a sending thread ran into, if anything."""
        if self._failure is not None:
            raise self._failure


class _Room:
    """So many bytes and no more; one taker always gets in."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    def take(self, count: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._used == 0 or self._used + count <= self._size)
            self._used += count

    def give(self, count: int) -> None:
        with self._changed:
            self._used -= count
            self._changed.notify_all()
