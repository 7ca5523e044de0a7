"""zstd as a reader: reading from it pulls bytes from the source through the compressor."""

import os
from collections.abc import Iterator

import zstandard

from backup.pipeline.source import CHUNK, Source
from backup.progress import Progress, silent

# More threads do not help next to one pg_dump, and each uses about 10 MiB.
MAX_THREADS = 8


def thread_count(wanted: int) -> int:
    """Number of compression threads; 0: one per core."""
    return min(wanted or os.cpu_count() or 1, MAX_THREADS)


class CompressedReader:
    """Compresses a source. It only ends after the source has ended without an error.

    Args:
        source: the plain bytes.
        level: zstd level.
        threads: see :func:`thread_count`.
        progress: called with the number of plain bytes that were read.
    """

    def __init__(
        self,
        source: Source,
        *,
        level: int,
        threads: int,
        progress: Progress = silent,
    ) -> None:
        self.raw_bytes = 0
        self.failure: BaseException | None = None
        self._source = source
        self._progress = progress
        # Pieces of equal size: at its end, a multi-threaded compressor returns all that its threads still have at once.
        self._chunker = zstandard.ZstdCompressor(
            level=level, threads=threads if threads > 1 else 0, write_checksum=True
        ).chunker(chunk_size=CHUNK)
        self._chunks = self._compress()
        self._ready = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Some compressed bytes; empty at the end."""
        if self.failure is not None:
            # If read again, a failed generator would look like one that has ended.
            raise self.failure
        if not self._ready:
            self._ready = memoryview(next(self._chunks, b""))
        end = len(self._ready) if size < 0 else size
        data, self._ready = self._ready[:end], self._ready[end:]
        return bytes(data)

    def _compress(self) -> Iterator[bytes]:
        while data := self._pull():
            yield from self._chunker.compress(data)
        yield from self._chunker.finish()  # type: ignore[no-untyped-call]  # its stub has no types

    def _pull(self) -> bytes | bytearray:
        try:
            data = self._source.read()
        except BaseException as error:
            # pyrage wraps our exception; re-raise the original.
            self.failure = error
            raise
        self.raw_bytes += len(data)
        self._progress(len(data))
        return data
