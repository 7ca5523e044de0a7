"""Writes files to the disk: finished ones while others are still being unpacked, and all of them at the end."""

import os
import queue
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Self

from backup.errors import RecoveryError

# Smaller files are left to the final sync: syncing each one would cost more than it saves.
_LEAST = 1 << 20
# Number of files that are synced at the same time: each waits for the disk, and the disk takes many together.
_THREADS = 8
# Number of files between two checks of whether the work must end.
_TOGETHER = 64


class Flusher:
    """Flushes files in a thread. Use as a context manager: after its block, nothing more is flushed."""

    def __init__(self) -> None:
        self._files: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._failure: OSError | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="flush", daemon=True)

    def add(self, file: Path, size: int) -> None:
        """Flush a finished file of ``size`` bytes. If it is written again, the final sync flushes that."""
        if size >= _LEAST:
            self._files.put(file)

    def finish(self) -> None:
        """Wait until all of them are on the disk.

        Raises:
            RecoveryError: one could not be written. The kernel reports that only once.
        """
        self._files.put(None)
        self._thread.join()
        if self._failure is not None:
            raise _failed(self._failure) from self._failure

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait only for the file in progress."""
        self._ended.set()
        self._files.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (file := self._files.get()) is not None and not self._ended.is_set():
            try:
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
            except OSError as error:
                self._failure = self._failure or error


def sync_all(folder: Path, check: Callable[[], None]) -> None:
    """Write a folder and everything in it to the disk. Links are not followed: code in a server may have made them.

    Args:
        check: called every few files; raises to stop.

    Raises:
        RecoveryError: something could not be written.
    """
    try:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="sync") as pool:
            files = _files(folder)
            while some := list(islice(files, _TOGETHER)):
                check()
                list(pool.map(_sync, some))
        for each in _folders(folder):
            check()
            _sync(each)
    except OSError as error:
        raise _failed(error) from error


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, for example after a file was renamed.

    Raises:
        RecoveryError: they could not be written.
    """
    try:
        _sync(folder)
    except OSError as error:
        raise _failed(error) from error


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _folders(folder: Path) -> Iterator[Path]:
    for parent, _, _ in os.walk(folder, onerror=_raise):
        yield Path(parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _raise(error: OSError) -> None:
    raise error


def _failed(error: OSError) -> RecoveryError:
    return RecoveryError(
        f"the data could not be written to the disk: {error.strerror}", hint="check the disk"
    )
