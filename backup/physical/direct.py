"""Writes large files past the kernel's page cache: copying them there takes a processor longer than a disk takes to write them.

What is written is on the disk, so that the final sync has little left to do, and no other file leaves the page cache.
"""

import errno
import fcntl
import mmap
import os
from typing import Self

# Smaller files are written as usual.
LEAST = 1 << 20
# Direct writes need this alignment, in memory and in the file. No disk has larger blocks.
_BLOCK = 4096
_BUFFER = 4 << 20


class DirectFile:
    """A new file, written from its beginning to its end. Use as a context manager.

    Args:
        handle: its descriptor, which is closed in the end.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        # Mapped memory is aligned.
        self._buffer = mmap.mmap(-1, _BUFFER)
        self._filled = 0
        self._set(os.O_DIRECT)

    def write(self, data: memoryview) -> None:
        """Write the next bytes."""
        while data:
            count = min(len(data), _BUFFER - self._filled)
            self._buffer[self._filled : self._filled + count] = data[:count]
            self._filled, data = self._filled + count, data[count:]
            if self._filled == _BUFFER:
                self._flush(_BUFFER)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            os.close(self._handle)

    def _finish(self) -> None:
        rest = self._filled % _BLOCK
        end = bytes(self._buffer[self._filled - rest : self._filled])
        self._flush(self._filled - rest)
        if rest:
            self._set(0)
            self._buffer[:rest] = end
            self._flush(rest)

    def _flush(self, size: int) -> None:
        written = 0
        with memoryview(self._buffer) as buffer:
            while written < size:
                try:
                    written += os.write(self._handle, buffer[written:size])
                except OSError as error:
                    # The file system cannot do that, or needs a larger alignment.
                    if error.errno != errno.EINVAL or not self._set(0):
                        raise
        self._filled = 0

    def _set(self, direct: int) -> bool:
        """Turn direct writes on or off; returns whether that changed anything."""
        before = fcntl.fcntl(self._handle, fcntl.F_GETFL)
        wanted = before & ~os.O_DIRECT | direct
        try:
            fcntl.fcntl(self._handle, fcntl.F_SETFL, wanted)
        except OSError:
            return False  # the file system does not know them
        return wanted != before
