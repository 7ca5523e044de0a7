"""Parts that wait on a disk while the store is slower than the source, so that the source can end."""

import os
import shutil
import tempfile
from pathlib import Path


class Spill:
    """A file without a name, which the kernel removes with the process.

    Args:
        folder: where it is.
        percent: of the folder's disk that must stay free.
    """

    def __init__(self, folder: Path, percent: float) -> None:
        self._folder = folder
        self._percent = percent
        self._file = None if not folder.is_dir() else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - see close
        self._end = 0

    def keep(self, data: bytearray) -> int | None:
        """Keep some bytes; returns their place, or None if there is no room. One thread may call this."""
        if self._file is None or not self._has_room(len(data)):
            return None
        place, written = self._end, 0
        try:
            with memoryview(data) as whole:
                while written < len(data):
                    written += os.pwrite(self._file.fileno(), whole[written:], place + written)
        except OSError:
            return None  # the disk is full
        self._end += len(data)
        return place

    def read(self, place: int, length: int) -> bytearray:
        """The bytes of a place. Any number of threads may call this."""
        assert self._file is not None
        data = bytearray(length)
        done = 0
        with memoryview(data) as whole:
            while done < length:
                count = os.preadv(self._file.fileno(), [whole[done:]], place + done)
                if not count:
                    raise OSError(f"a part of {length} bytes is no longer in {self._folder}")
                done += count
        return data

    def close(self) -> None:
        """Free the disk space."""
        if self._file is not None:
            self._file.close()

    def _has_room(self, length: int) -> bool:
        usage = shutil.disk_usage(self._folder)
        return usage.free - length >= usage.total * self._percent / 100
