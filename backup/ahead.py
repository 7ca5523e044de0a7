"""Reads a stream ahead of who uses it, so that the network and the processor work at the same time."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress

PIECES = 8
_LOOK_SECONDS = 0.1
Seen = Callable[[bytes], object]


def ahead(pieces: Iterator[bytes], *, seen: Seen, limit: int = PIECES) -> Generator[bytes, None, None]:
    """The same pieces, read by a thread; what reading them raises comes in its turn.

    Args:
        seen: called in the thread with each piece, in their order.
        limit: pieces that wait at the most.
    """
    belt = _Belt(limit)
    thread = threading.Thread(target=_read, args=(pieces, seen, belt), name="read ahead", daemon=True)
    thread.start()
    try:
        while (piece := belt.take()) is not None:
            yield piece
    finally:
        belt.closing.set()
        thread.join()


def _read(pieces: Iterator[bytes], seen: Seen, belt: "_Belt") -> None:
    try:
        for piece in pieces:
            seen(piece)
            belt.put(piece)
            if belt.closing.is_set():
                return
        belt.put(None)
    except BaseException as error:
        belt.put(error)


class _Belt:
    """What was read and is not used yet; None is its end."""

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
                self._ready.put(piece, timeout=_LOOK_SECONDS)
                return
