"""Writes finished files to the disk while others are still being unpacked: the final sync then has little left to do."""

import os
import queue
import threading
from pathlib import Path
from typing import Self

from backup.errors import RecoveryError

# Smaller files are left to the final sync: each one of its own would cost more than it saves.
_LEAST = 1 << 20


class Flusher:
    """Flushes files in a thread. Use as a context manager: at the end of the block, all of them are on the disk."""

    def __init__(self) -> None:
        self._files: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._failure: OSError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="flush", daemon=True)

    def add(self, file: Path, size: int) -> None:
        """Flush a file of a number of bytes, which is not written any more."""
        if size >= _LEAST:
            self._files.put(file)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait for the rest; after a failure of the block, only for the file in progress.

        Raises:
            RecoveryError: a file could not be written to the disk. The kernel reports that only once.
        """
        if kind is not None:
            self._ended.set()
        self._files.put(None)
        self._thread.join()
        if kind is None and self._failure is not None:
            raise RecoveryError(
                f"the data could not be written to the disk: {self._failure.strerror}", hint="check the disk"
            ) from self._failure

    def _work(self) -> None:
        while (file := self._files.get()) is not None and not self._ended.is_set():
            try:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            except OSError as error:
                self._failure = self._failure or error
