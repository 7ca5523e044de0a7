"""Follows the WAL of one timeline into the store: fill, cut, hand over, confirm.

What is confirmed to the server's slot is what the store has. The server keeps everything else, up to its own limit, so
this process needs no disk and loses nothing when it is killed.
"""

import hashlib
import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from backup.cancellation import Stop
from backup.errors import PreflightError, ReplicationError
from backup.physical import lsn
from backup.physical.archive import SHA_DIGITS, Archive, Listing, WalObject
from backup.physical.measures import Measures
from backup.physical.open_segment import OpenSegment
from backup.physical.resume import ResumePoint
from backup.physical.slot import APPLICATION, NAME
from backup.physical.spans import cover
from backup.physical.storage import Outlet, Storage
from backup.physical.uploads import MAX_OUTSTANDING, THREADS, Parcel, Uploads
from backup.physical.walsender import Alive, Message, TimelineEnd, Wal, WalSender, WalStream
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


@dataclass
class Follower:
    """The stream of one timeline, from a given position."""

    server: str
    archive: Archive
    listing: Listing
    outlet: Outlet
    stop: Stop
    measures: Measures

    def follow(self, sender: WalSender, begin: ResumePoint) -> None:
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
        storage = Storage(self.archive, self.outlet, self.measures)
        with self.stop.heeded():
            storage.take_stock(self.listing, begin.timeline)
        self._segment = OpenSegment(start, bytearray(size), start, begin.position)
        self._confirmed = 0
        self._cut_at, self._reported_at = time.monotonic() + self.outlet.interval, 0.0
        with Uploads(storage.put, storage.remove_replaced_pieces) as uploads:
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
            if not self._segment.is_soon_full():
                self._cut()
            self._cut_at = now + self.outlet.interval
        if self._progress(now) or wanted or now - self._reported_at >= STATUS_SECONDS:
            self._report(stream)
            self._reported_at = now

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
        self._segment = OpenSegment(segment.end, bytearray(len(segment.data)), segment.end, segment.end)

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


def _never() -> None:
    """Only its time limit ends this wait."""
