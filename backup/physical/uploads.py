"""Stores what the stream hands over: two uploads at a time, confirmed in order, repeated until they succeed."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from backup.cancellation import StoppedError, carry
from backup.errors import StoreError
from backup.physical.pack import Packed
from sidecar.humanize import duration

log = logging.getLogger(__name__)

THREADS = 2
# The uploads in transit and one that waits, each at most a segment. Beyond that, the stream stops reading.
MAX_OUTSTANDING = THREADS + 1
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 10.0
# A store that has not responded for this long is a problem, although it may still respond.
SILENT_SECONDS = 60.0


@dataclass(eq=False)
class Parcel:
    """WAL on its way into the store, from ``start`` up to ``end``.

    Attributes:
        packed: what is stored, once it is packed. It takes the place of ``data``: both would not fit into memory.
    """

    timeline: int
    start: int
    end: int
    data: bytes | bytearray
    packed: Packed | None = None
    begun: bool = False
    stored: bool = False
    since: float = field(default_factory=time.monotonic)

    def take(self) -> bytes | bytearray:
        """The plain bytes, which the parcel then no longer holds."""
        data, self.data = self.data, b""
        return data


class Uploads:
    """A bounded queue of parcels, and the threads that empty it. Use as a context manager.

    Args:
        put: stores one parcel; repeated after a :class:`StoreError`, until it succeeds or the queue is abandoned.
        after: called in the same thread once a parcel is stored.
    """

    def __init__(self, put: Callable[[Parcel], None], after: Callable[[Parcel], None]) -> None:
        self._problem: str | None = None
        self._put = put
        self._after = after
        self._parcels: deque[Parcel] = deque()
        self._stored = 0
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._abandoned = threading.Event()
        # A store that is silent is not waited for once the queue is abandoned.
        work = carry(self._work, over=self._abandoned.is_set)
        self._threads = [
            threading.Thread(target=work, name=f"wal upload {number}", daemon=True)
            for number in range(THREADS)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._abandoned.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def problem(self) -> str | None:
        """Why the oldest parcel cannot be stored; None if there is no problem."""
        with self._changed:
            waits = time.monotonic() - self._parcels[0].since if self._parcels else 0.0
        if self._problem is None and waits > SILENT_SECONDS:
            return f"the store has not taken the WAL for {duration(waits)}"
        return self._problem

    @property
    def outstanding(self) -> int:
        """The number of parcels that are not yet stored, or wait for an earlier one."""
        with self._changed:
            return len(self._parcels)

    @property
    def stored(self) -> int:
        """The position up to which everything that was handed over is stored; 0 if nothing was.

        Raises:
            BaseException: a parcel failed for a reason other than the store's own failures.
        """
        with self._changed:
            if self._failure is not None:
                raise self._failure
            return self._stored

    def hand_over(self, parcel: Parcel) -> None:
        """Queue a parcel; parcels must come in the order of their ends. It does not wait: see :data:`MAX_OUTSTANDING`."""
        with self._changed:
            self._parcels.append(parcel)
            self._changed.notify_all()

    def flush(self, seconds: float, check: Callable[[], None]) -> bool:
        """Wait until everything is stored, up to a time limit; returns whether it is.

        Args:
            check: called while it waits; raises to end the wait.
        """
        with self._changed:
            waited = 0.0
            while self._parcels and self._failure is None and waited < seconds:
                self._changed.wait(0.1)
                waited += 0.1
                check()
            return not self._parcels

    def _work(self) -> None:
        while (parcel := self._next()) is not None:
            try:
                if self._insist(parcel):
                    self._arrived(parcel)
                    self._after(parcel)
            except BaseException as error:
                with self._changed:
                    self._failure = self._failure or error
                    self._changed.notify_all()
                return

    def _next(self) -> Parcel | None:
        with self._changed:
            while not self._abandoned.is_set():
                for parcel in self._parcels:
                    if not parcel.begun:
                        parcel.begun = True
                        return parcel
                self._changed.wait()
        return None

    def _insist(self, parcel: Parcel) -> bool:
        """Store a parcel, however long it takes; False if the queue was abandoned."""
        wait = FIRST_WAIT_SECONDS
        while not self._abandoned.is_set():
            try:
                self._put(parcel)
            except StoreError as error:
                if self._problem != error.message:
                    log.warning("the WAL waits for the store: %s", error.message)
                self._problem = error.message
            except StoppedError:  # a stop was requested between two attempts
                return False
            else:
                self._problem = None
                return True
            self._abandoned.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)
        return False

    def _arrived(self, parcel: Parcel) -> None:
        with self._changed:
            parcel.stored = True
            parcel.packed = None
            while self._parcels and self._parcels[0].stored:
                self._stored = max(self._stored, self._parcels.popleft().end)
            self._changed.notify_all()
