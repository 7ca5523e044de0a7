"""The end of a pipeline: hashes the stored bytes, splits them into growing parts, and sends each while the next fills."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from backup.cancellation import carry
from backup.errors import StoreError
from backup.pipeline.spill import Spill
from backup.progress import Progress, silent
from backup.store import PartSizes, Upload
from sidecar import OpsError

# Maximum memory of all parts together, the one that fills and those in transit. One part is always allowed.
BUDGET = 40 << 20


class PartSink:
    """Writes into an upload. Readers see nothing before :meth:`commit`.

    Args:
        upload: an open upload. The sink completes or aborts it.
        sizes: how parts grow.
        threads: number of parts sent at the same time.
        sent: called with the number of bytes of each part that has arrived.
        spill: takes parts for which there is no memory, so that writing does not wait for the store.
    """

    def __init__(
        self,
        upload: Upload,
        sizes: PartSizes,
        *,
        threads: int = 3,
        sent: Progress = silent,
        spill: Spill | None = None,
    ) -> None:
        self.size = 0
        self._upload = upload
        self._sizes = sizes
        self._sent = sent
        self._spill = spill
        self._digest = hashlib.sha256()
        self._number = 1
        self._offset = 0
        self._buffers = _Buffers(BUDGET)
        self._buffer = self._buffers.take(sizes.of(1))
        self._filled = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="upload")
        self._failure: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Take some bytes. Waits while too many are in transit.

        Raises:
            StoreError: an earlier part could not be stored.
        """
        self._digest.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            if self._filled == len(self._buffer):
                self._send()
            rest = rest[self._fill(rest) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: parts are sent when they are full. Encryption calls it."""

    def finish(self) -> str:
        """Send the rest, wait until all parts have arrived, and return the SHA-256 of all bytes."""
        del self._buffer[self._filled :]
        if self._buffer or self._number == 1:
            self._hand_over()
        self._pool.shutdown(wait=True)
        self._close()
        self.raise_failure()
        return self._digest.hexdigest()

    def commit(self) -> None:
        """Make the object appear. Call it after :meth:`finish`, and after every other stage has succeeded."""
        self._upload.complete()

    def abort(self) -> None:
        """Drop everything that was sent. If the store does not answer, the next run's sweep drops the parts."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._close()
        with suppress(OpsError):
            self._upload.abort()

    def _fill(self, data: memoryview) -> int:
        """Copy what fits into the current part; returns its size."""
        with memoryview(self._buffer)[self._filled :] as room:
            count = min(len(room), len(data))
            room[:count] = data[:count]
        self._filled += count
        return count

    def _send(self) -> None:
        """Send the full part, and begin the next."""
        self._hand_over()
        self._number, self._offset, self._filled = self._number + 1, self._offset + self._filled, 0
        self._buffer = self._buffers.take(self._sizes.of(min(self._number, self._sizes.limit)))

    def _hand_over(self) -> None:
        self.raise_failure()
        if self._number > self._sizes.limit:
            raise StoreError(
                f"the backup needs more than {self._sizes.limit} parts",
                hint="allow more parts with BACKUP_S3_MAX_PARTS",
                operation="part",
            )
        place = self._spilled()
        if place is None:
            self._pool.submit(carry(self._store), self._number, self._offset, self._buffer)
        else:
            store, length = carry(self._store_spilled), len(self._buffer)
            self._pool.submit(store, self._number, self._offset, place, length)
            self._buffers.give(self._buffer)

    def _spilled(self) -> int | None:
        """The place of the full part on the disk, if the next one would have to wait for memory."""
        following = self._sizes.of(min(self._number + 1, self._sizes.limit))
        if self._spill is None or not self._buffers.is_full(following):
            return None
        return self._spill.keep(self._buffer)

    def _store_spilled(self, number: int, offset: int, place: int, length: int) -> None:
        assert self._spill is not None
        try:
            if self._failure is None:
                part = self._spill.read(place, length)
                self._upload.part(number, offset, part)
                self._sent(length)
        except BaseException as error:
            self._failure = error

    def _close(self) -> None:
        if self._spill is not None:
            self._spill.close()

    def _store(self, number: int, offset: int, part: bytearray) -> None:
        try:
            if self._failure is None:
                self._upload.part(number, offset, part)
                self._sent(len(part))
        except BaseException as error:
            self._failure = error
        finally:
            self._buffers.give(part)

    def raise_failure(self) -> None:
        """Raise the exception of a sending thread, if any."""
        if self._failure is not None:
            raise self._failure


class _Buffers:
    """Reusable buffers: allocating blocks of this size each time would cost more than keeping them.

    The buffers in use have a maximum total size. One buffer is always allowed.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._out = 0
        self._idle: list[bytearray] = []
        self._changed = threading.Condition()

    def take(self, size: int) -> bytearray:
        with self._changed:
            self._changed.wait_for(lambda: self._out == 0 or self._out + size <= self._budget)
            self._out += size
            # Parts only grow, so a buffer of a different size is not needed again.
            self._idle = [buffer for buffer in self._idle if len(buffer) == size]
            return self._idle.pop() if self._idle else bytearray(size)

    def is_full(self, size: int) -> bool:
        """Whether a buffer of this size would have to be waited for."""
        with self._changed:
            return self._out + size > self._budget

    def give(self, buffer: bytearray) -> None:
        with self._changed:
            self._out -= len(buffer)
            self._idle.append(buffer)
            self._changed.notify_all()
