"""Read-ahead and write-behind threads, so that pipeline stages overlap."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import Self

from backup.cancellation import carry
from backup.pipeline.encrypt import Reader

PIECES = 8
# Encryption writes 8 KiB at a time, and each transfer between threads has a cost.
GATHERED = 1 << 17
_POLL_SECONDS = 0.1
Seen = Callable[[bytes], object]


def read_ahead(pieces: Iterator[bytes], *, seen: Seen, limit: int = PIECES) -> Generator[bytes, None, None]:
    """Yield the same pieces, read ahead by a thread. An exception while reading is raised after the pieces before it.

    Args:
        seen: called in the thread with each piece, in order.
        limit: maximum number of pieces that wait.
    """
    pending = _BoundedQueue(limit)
    thread = threading.Thread(
        target=carry(_read), args=(pieces, seen, pending), name="read ahead", daemon=True
    )
    thread.start()
    try:
        while (piece := pending.take()) is not None:
            yield piece
    finally:
        pending.closing.set()
        thread.join()


def _read(pieces: Iterator[bytes], seen: Seen, pending: "_BoundedQueue") -> None:
    try:
        for piece in pieces:
            seen(piece)
            pending.put(piece)
            if pending.closing.is_set():
                return
        pending.put(None)
    except BaseException as error:
        pending.put(error)


class BackgroundWriter:
    """A writer whose bytes another thread processes. Use as a context manager.

    Args:
        work: called in the thread with a reader of what is written. When it returns, the rest is discarded.
        limit: maximum number of pieces of :data:`GATHERED` bytes that wait.

    Attributes:
        failure: the exception of the work; writing and finishing raise it.
    """

    def __init__(self, work: Callable[[Reader], object], *, limit: int = PIECES) -> None:
        self.failure: BaseException | None = None
        self._work = work
        self._pending = _BoundedQueue(limit)
        self._gathered: list[bytes] = []
        self._size = 0
        self._thread = threading.Thread(target=carry(self._run), name="work behind", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> int:
        if len(data) >= GATHERED:
            self._hand_over()
            self._pending.put(data)
        else:
            self._gathered.append(data)
            self._size += len(data)
            if self._size >= GATHERED:
                self._hand_over()
        return len(data)

    def flush(self) -> None:
        """Do nothing. Encryption calls it; only :meth:`finish` matters."""

    def finish(self) -> None:
        """Wait until everything is processed."""
        self._hand_over()
        self._end()
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def _hand_over(self) -> None:
        if self._gathered:
            self._pending.put(b"".join(self._gathered))
            self._gathered.clear()
            self._size = 0
        self._raise()

    def _raise(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _end(self) -> None:
        self._pending.put(None)
        self._thread.join()

    def _run(self) -> None:
        source = _Pieces(iter(self._pending.take, None))
        try:
            self._work(source)
            while source.read():
                pass
        except BaseException as error:
            self.failure = error
            self._pending.closing.set()


class _Pieces:
    """A reader over pieces. It returns one piece at a time, regardless of the requested size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1, /) -> bytes:  # noqa: ARG002 - a reader may return more than requested
        return next(self._pieces, b"")


class _BoundedQueue:
    """A bounded queue of pieces. None marks the end."""

    def __init__(self, limit: int) -> None:
        self.closing = threading.Event()
        self._ready: queue.Queue[bytes | BaseException | None] = queue.Queue(limit)

    def take(self) -> bytes | None:
        piece = self._ready.get()
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def put(self, piece: bytes | BaseException | None) -> None:
        while not self.closing.is_set():
            with suppress(queue.Full):
                self._ready.put(piece, timeout=_POLL_SECONDS)
                return
