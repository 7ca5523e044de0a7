"""Follows the WAL of one timeline into the store: fill, cut, hand over, confirm.

What is confirmed to the server's slot is what the store has. The server keeps everything else, up to its own limit, so
this process needs no disk and loses nothing when it is killed.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from backup.cancellation import Stop
from backup.catalogue.signatures import Keyring
from backup.errors import PreflightError, ReplicationError, StoreError
from backup.physical import lsn
from backup.physical.archive import SHA_DIGITS, Archive, Listing, WalObject
from backup.physical.measures import Measures
from backup.physical.pack import Packed, pack
from backup.physical.resume import Place
from backup.physical.slot import APPLICATION, NAME
from backup.physical.spans import cover
from backup.physical.uploads import MAX_OUTSTANDING, THREADS, Parcel, Uploads
from backup.physical.walsender import Alive, Message, TimelineEnd, Wal, WalSender, WalStream
from backup.pipeline import PackingOptions
from backup.store import Store
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

STATUS_SECONDS = 1.0
# Seconds to wait while uploads are in transit, and while everything is stored.
BUSY_SECONDS = 0.05
IDLE_SECONDS = 0.5
LAST_FLUSH_SECONDS = 10.0
# How long messages may accumulate in the socket.
GATHER_SECONDS = 0.05
UNLIMITED_SECONDS = 10.0 * 365 * 86400


class DivergenceError(OpsError):
    """The server's WAL differs from its stored WAL: it is another server, or one that was restored to an earlier state."""


@dataclass(frozen=True)
class Outlet:
    """Where the WAL is stored, and how.

    Attributes:
        interval: seconds between two pieces of a segment that is not full.
        retain_until: the end of the lock that the store is asked to set on a segment that is stored now.
    """

    store: Store
    keys: Keyring
    packing: PackingOptions
    interval: float
    clock: Callable[[], datetime]
    retain_until: Callable[[datetime], datetime | None]


@dataclass
class _Filling:
    """The segment that is being filled."""

    start: int
    data: bytearray
    received: int
    cut: int
    waited_for: bool = False

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    def fill(self, data: memoryview) -> int:
        """Take as many bytes as fit; returns their number."""
        at = self.received - self.start
        count = min(len(data), len(self.data) - at)
        self.data[at : at + count] = data[:count]
        self.received += count
        return count

    def between(self, start: int, end: int) -> bytes:
        return bytes(memoryview(self.data)[start - self.start : end - self.start])


@dataclass
class Follower:
    """The stream of one timeline, from a given position."""

    server: str
    archive: Archive
    listing: Listing
    outlet: Outlet
    stop: Stop
    measures: Measures
    _pieces: dict[int, list[str]] = field(default_factory=dict)
    _whole: set[int] = field(default_factory=set)
    _packing: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, sender: WalSender, begin: Place) -> None:
        """Stream until the end of the timeline.

        Raises:
            ReplicationError: the connection was lost. What was received has been stored.
            DivergenceError: the server sends something other than what is stored.
        """
        size = self.archive.segment_size
        start = lsn.segment_start(begin.position, size)
        self._timeline, self._begin = begin.timeline, begin.position
        self._known = [
            each
            for each in cover(self.listing.wal, begin.timeline, start, begin.position)
            if each.start >= start
        ]
        with self.stop.heeded():
            self._take_stock(size)
        self._segment = _Filling(start, bytearray(size), start, begin.position)
        self._confirmed = 0
        self._cut_at, self._reported_at = time.monotonic() + self.outlet.interval, 0.0
        with Uploads(self._put, self._after) as uploads:
            self._uploads = uploads
            stream = sender.stream(start, begin.timeline, slot=NAME)
            self.measures.timeline = begin.timeline
            log.info(
                "streaming %s", fields(server=self.server, timeline=begin.timeline, start=lsn.text(start))
            )
            try:
                ended = self._receive(stream)
            except (ReplicationError, PreflightError):
                # Only the connection is gone. What was received may be all that still exists.
                self._flush(UNLIMITED_SECONDS)
                raise
            self._flush(UNLIMITED_SECONDS if ended else LAST_FLUSH_SECONDS)
            if not ended:
                self._report(stream)

    def _take_stock(self, size: int) -> None:
        """The pieces that are stored; those that a whole segment has replaced are removed."""
        self._whole = {
            each.start
            for each in self.listing.wal
            if each.timeline == self._timeline and each.end - each.start == size
        }
        for each in self.listing.wal:
            if each.timeline == self._timeline and each.end - each.start < size:
                self._pieces.setdefault(lsn.segment_start(each.start, size), []).append(each.stored.key)
        self._remove([key for segment in self._whole for key in self._pieces.pop(segment, [])])

    def _receive(self, stream: WalStream) -> bool:
        """Receive until the end of the timeline or a stop request; returns whether it was the former."""
        while not self.stop.requested:
            message = self._next(stream)
            if message is not None:
                self.measures.streaming = True
            if self.measures.streaming:
                self.measures.problem = self._uploads.problem
            now, wanted = time.monotonic(), False
            if message is not None:
                last, wanted = self._take_all(stream, message, now)
                if isinstance(last, TimelineEnd):
                    log.info("%s continues on timeline %d", self.server, last.timeline)
                    return True
            self._refuse_synchronous()
            self._keep_up(stream, now, wanted=wanted)
        return False

    def _take_all(self, stream: WalStream, message: Message, now: float) -> tuple[Message, bool]:
        """Take a message and those that were read together with it.

        A busy server sends one for each commit, so whatever can wait is done only once for all of them.

        Returns: the last one, and whether one requires a report.
        """
        before, wanted = self._segment.received, False
        following: Message | None = message
        while following is not None and not isinstance(following, TimelineEnd):
            message = following
            if isinstance(message, Wal):
                self._take(message, now)
            wanted = wanted or (isinstance(message, Alive) and message.wanted)
            following = stream.buffered()
        if isinstance(message, Wal | Alive):
            self.measures.clock_skew = (message.sent - self.outlet.clock()) / timedelta(seconds=1)
            received = self._segment.received
            self.measures.arrived(received - before, received, message.latest, now)
        return following or message, wanted

    def _next(self, stream: WalStream) -> Message | None:
        if self._uploads.outstanding < MAX_OUTSTANDING:
            return stream.read(self._wait(), gather=GATHER_SECONDS)
        # The server waits for us and keeps its WAL; it only needs keepalive messages.
        self.stop.pause(BUSY_SECONDS)
        return None

    def _refuse_synchronous(self) -> None:
        if self.measures.synchronous:
            raise PreflightError(
                f"{self.server}: commits wait for this sidecar, so it disconnects",
                hint=f"remove {APPLICATION} and * from synchronous_standby_names",
            )

    def _keep_up(self, stream: WalStream, now: float, *, wanted: bool) -> None:
        """Cut what is due, and report what is stored."""
        if now >= self._cut_at and self._uploads.outstanding < THREADS:
            if not self._is_soon_full():
                self._cut()
            self._cut_at = now + self.outlet.interval
        if self._progress(now) or wanted or now - self._reported_at >= STATUS_SECONDS:
            self._report(stream)
            self._reported_at = now

    def _is_soon_full(self) -> bool:
        """Whether the segment will be full within an interval, at the pace at which its last bytes arrived.

        A piece of it would soon be stored again as part of the whole segment. The stream waits only once for each segment.
        """
        segment = self._segment
        if segment.waited_for or segment.end - segment.received > segment.received - segment.cut:
            return False
        segment.waited_for = True
        return True

    def _wait(self) -> float:
        if self._uploads.outstanding:
            return BUSY_SECONDS
        if self._segment.received > self._segment.cut:
            return min(max(self._cut_at - time.monotonic(), 0.0), IDLE_SECONDS)
        return IDLE_SECONDS

    def _take(self, message: Wal, now: float) -> None:
        if message.start != self._segment.received:
            raise ReplicationError(
                f"{self.server} sent WAL from {lsn.text(message.start)}, after {lsn.text(self._segment.received)}",
                hint="check the PostgreSQL server's log",
            )
        rest = memoryview(message.data)
        while rest:
            rest = rest[self._segment.fill(rest) :]
            self._compare()
            if self._segment.received == self._segment.end:
                self._complete()
                # Everything before the new segment is on its way.
                self._cut_at = now + self.outlet.interval

    def _compare(self) -> None:
        """Compare what is received again with what is stored."""
        while self._known and self._known[0].end <= self._segment.received:
            known = self._known.pop(0)
            sha256 = hashlib.sha256(self._segment.between(known.start, known.end)).hexdigest()
            if sha256[:SHA_DIGITS] != known.sha:
                raise self._diverges(known)

    def _diverges(self, known: WalObject) -> DivergenceError:
        return DivergenceError(
            f"{self.server} sends WAL from {lsn.text(known.start)} to {lsn.text(known.end)} that differs from what is stored",
            hint="the server was restored to an earlier state, or it is a different server: see docs/pitr.md; the stored WAL was not changed",
        )

    def _complete(self) -> None:
        segment = self._segment
        self._uploads.hand_over(Parcel(self._timeline, segment.start, segment.end, segment.data))
        self._segment = _Filling(segment.end, bytearray(len(segment.data)), segment.end, segment.end)

    def _cut(self) -> None:
        """Hand over the bytes of the segment that are not stored yet, if any."""
        segment = self._segment
        if segment.received > segment.cut:
            data = segment.between(segment.cut, segment.received)
            self._uploads.hand_over(Parcel(self._timeline, segment.cut, segment.received, data))
            segment.cut = segment.received

    def _progress(self, now: float) -> bool:
        """Whether more is stored than was reported."""
        if self._known:
            return False  # only after everything that is stored was compared
        stored = max(self._uploads.stored, self._begin)
        if stored <= self._confirmed:
            return False
        self._confirmed = stored
        self.measures.kept(stored, now)
        return True

    def _report(self, stream: WalStream) -> None:
        stream.confirm(self._segment.received, self._confirmed)

    def _flush(self, seconds: float) -> None:
        self._cut()
        if not self._uploads.flush(seconds, self._unless_stopped if seconds > LAST_FLUSH_SECONDS else _never):
            log.warning("%s: the last WAL was not stored; the server still has it", self.server)
        self._progress(time.monotonic())

    def _unless_stopped(self) -> None:
        """End an endless wait on a stop request; the server keeps what is not stored."""
        self.stop.check()

    def _put(self, parcel: Parcel) -> None:
        """Store one parcel. Called in the upload threads."""
        packed = parcel.packed or self._pack(parcel)
        key = self.archive.wal_key(parcel.timeline, parcel.start, parcel.end, packed.sha256)
        whole = self._is_whole(parcel)
        until = self.outlet.retain_until(self.outlet.clock()) if whole else None
        self.outlet.store.put(key, packed.data, retain_until=until)
        self.measures.put(len(packed.data))
        if not whole:
            self._pieces.setdefault(lsn.segment_start(parcel.start, self.archive.segment_size), []).append(
                key
            )

    def _pack(self, parcel: Parcel) -> Packed:
        """Pack a parcel, one at a time: packing takes more memory than waiting for the store does."""
        with self._packing:
            parcel.packed = pack(parcel.take(), self.outlet.packing)
        return parcel.packed

    def _after(self, parcel: Parcel) -> None:
        """Delete the pieces that a whole segment replaces, including those that arrive after it."""
        segment = lsn.segment_start(parcel.start, self.archive.segment_size)
        if self._is_whole(parcel):
            self._whole.add(segment)
        if segment in self._whole:
            self._remove(self._pieces.pop(segment, []))

    def _is_whole(self, parcel: Parcel) -> bool:
        return parcel.end - parcel.start == self.archive.segment_size

    def _remove(self, keys: Sequence[str]) -> None:
        try:
            self.outlet.store.delete(keys)
        except StoreError as error:
            log.warning("pieces of a whole segment remain: %s", error.message)


def _never() -> None:
    """Only its time limit ends this wait."""
