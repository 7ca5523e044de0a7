"""zstd as a reader: whoever reads from it pulls bytes from the source through the compressor."""

import os

import zstandard

from backup.pipeline.source import Source
from backup.progress import Progress, silent

# More threads than this buy nothing beside one pg_dump, and each holds some 10 MiB.
MOST_THREADS = 8


def thread_count(wanted: int) -> int:
    """Compression threads: as many as wanted, 0 for all cores."""
    return min(wanted or os.cpu_count() or 1, MOST_THREADS)


class CompressedReader:
    """Compresses a source; the end comes only after the source has ended well.

    Args:
        source: the plain bytes.
        level: zstd level.
        threads: see :func:`thread_count`.
        progress: told the plain bytes that were read.
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
        self._compressor = zstandard.ZstdCompressor(
            level=level, threads=threads if threads > 1 else 0, write_checksum=True
        ).compressobj()
        self._ready = b""
        self._position = 0
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """Some compressed bytes; empty at the end."""
        if self._position == len(self._ready):
            self._fill()
        end = len(self._ready) if size < 0 else self._position + size
        data = self._ready[self._position : end]
        self._position += len(data)
        return data

    def _fill(self) -> None:
        self._ready, self._position = b"", 0
        while not self._ready and not self._ended:
            try:
                data = self._source.read()
            except BaseException as error:
                # Encryption reports a reader's failure in its own words; these are the better ones.
                self.failure = error
                raise
            self._ready = self._compressor.compress(data) if data else self._compressor.flush()
            self._ended = not data
            self.raw_bytes += len(data)
            self._progress(len(data))
