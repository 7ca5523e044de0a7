"""Streams the WAL of one server into the store: fill, cut, hand over, confirm.

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
from backup.catalogue.document import encode
from backup.catalogue.signatures import Keyring
from backup.errors import PreflightError, ReplicationError, StoreError
from backup.physical import archive as names
from backup.physical import lsn
from backup.physical.archive import SHA_DIGITS, Archive, Fork, Gap, Listing, Span, Stored, WalObject
from backup.physical.measures import Measures
from backup.physical.pack import Packed, pack
from backup.physical.resume import Place, place, timeline_at
from backup.physical.slot import APPLICATION, NAME, SlotStatus, provide, refuse_unsafe, renew
from backup.physical.uploads import MOST, THREADS, Parcel, Uploads
from backup.physical.walsender import Alive, Message, System, TimelineEnd, Wal, WalSender, WalStream
from backup.pipeline import PackingOptions
from backup.store import Store
from backup.targets import ServerTarget
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

# PostgreSQL's codes: the segment no longer exists; the slot is in use.
REMOVED = "58P01"
IN_USE = "55006"
STATUS_SECONDS = 1.0
# Seconds to wait while uploads are in transit, and while everything is stored.
BUSY_SECONDS = 0.05
IDLE_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0
LAST_FLUSH_SECONDS = 10.0
# For how long messages may gather in the socket.
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


class Streamer:
    """The stream of one server. :meth:`run` ends only on request."""

    def __init__(self, server: ServerTarget, outlet: Outlet, stop: Stop, measures: Measures) -> None:
        self._server = server
        self._outlet = outlet
        self._stop = stop
        self._measures = measures
        # Whether the server has reported that it no longer has the place where the stored WAL ends.
        self._lost = False

    def run(self) -> None:
        """Stream until a stop is requested; what was received is stored before it ends."""
        pause = FIRST_PAUSE_SECONDS
        while not self._stop.requested:
            began = time.monotonic()
            try:
                self._session()
                self._measures.problem = None
            except OpsError as error:
                self._failed(error)
            except Exception as error:
                log.exception("the stream of %s failed", self._server.name)
                self._measures.problem = f"{type(error).__name__}; see the log"
            finally:
                self._measures.streaming = False
            if time.monotonic() - began > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._stop.pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _failed(self, error: OpsError) -> None:
        if isinstance(error, ReplicationError) and error.sqlstate == REMOVED:
            self._lost = True
        message = error.message
        if isinstance(error, ReplicationError) and error.sqlstate == IN_USE:
            message = f"another sidecar streams this server, or one that just died did: {message}"
        if message != self._measures.problem and not self._stop.requested:
            log.error("%s: %s; try: %s", self._server.name, message, error.hint)
        self._measures.problem = message

    def _session(self) -> None:
        """One connection: from the place where the stored WAL ends to the end of the timeline, or a failure."""
        with WalSender.connect(
            self._server.address, application=APPLICATION, check=self._stop.check
        ) as sender:
            with self._stop.heeded():
                limit = refuse_unsafe(sender)
                system, size = sender.identify(), sender.segment_size()
                self._measures.segment_size = size
                archive = Archive(self._server.name, system.identifier, size, self._outlet.keys)
                listing = self._listing(archive)
                forks = self._lineage(sender, archive, system, listing)
                slot, _ = provide(sender, limit)
                begin = self._begin(sender, _Past(archive, listing, forks, system), slot)
            self._lost = False
            _Session(self._server.name, archive, listing, self._outlet, self._stop, self._measures).follow(
                sender, begin
            )

    def _listing(self, archive: Archive) -> Listing:
        """The stored WAL of this cluster.

        Raises:
            DivergenceError: the folder belongs to another cluster.
        """
        prefix = names.server_prefix(archive.server)
        found = [Stored(info.key, info.size, info.modified) for info in self._outlet.store.walk(prefix)]
        systems = names.systems(archive.server, (each.key for each in found))
        if systems and archive.system not in systems:
            raise DivergenceError(
                f"{archive.server} has the WAL of cluster {', '.join(systems)}, and the server is {archive.system}",
                hint="if it is another server, give it its own name in BACKUP_SERVERS; the stored WAL is not changed",
            )
        return archive.listing(found)

    def _lineage(
        self, sender: WalSender, archive: Archive, system: System, listing: Listing
    ) -> Sequence[Fork]:
        """The ancestors of the server's timeline, oldest first. Their histories are stored before any of their WAL."""
        if system.timeline == 1:
            return ()
        data = sender.history(system.timeline)
        forks = names.parse_history(data, system.timeline, lsn.history_name(system.timeline))
        self._keep_history(archive, listing, system.timeline, data)
        for fork in forks:
            if fork.timeline > 1 and not any(each.timeline == fork.timeline for each in listing.histories):
                try:
                    self._keep_history(archive, listing, fork.timeline, sender.history(fork.timeline))
                except ReplicationError as error:
                    # The newest one names all of them; an old one only helps to recover onto an abandoned timeline.
                    log.info("%s: %s", self._server.name, error.message)
        return forks

    def _keep_history(self, archive: Archive, listing: Listing, timeline: int, data: bytes) -> None:
        sha256 = hashlib.sha256(data).hexdigest()
        known = [each.sha for each in listing.histories if each.timeline == timeline]
        if any(sha != sha256[:SHA_DIGITS] for sha in known):
            raise DivergenceError(
                f"{archive.server} is on timeline {timeline}, and another timeline {timeline} of it is stored: two servers"
                " were promoted from the same one",
                hint="find out which of them is production; give the other one its own name in BACKUP_SERVERS",
            )
        if not known:
            packed = pack(data, self._outlet.packing)
            self._outlet.store.put(archive.history_key(timeline, sha256), packed.data)
            self._measures.put(len(packed.data))

    def _begin(self, sender: WalSender, past: "_Past", slot: SlotStatus) -> Place:
        """Where the stream begins. WAL that no longer exists is recorded as a gap first."""
        size = past.archive.segment_size
        stretches = names.spans(
            past.listing.wal, [Span(gap.timeline, gap.start, gap.end) for gap in past.listing.gaps]
        )
        before = place(past.forks, past.system.timeline, stretches, slot.position, segment_size=size)
        if before is not None and not self._lost:
            return before
        start = lsn.segment_start(slot.kept, size)
        if before is not None and start <= before.position:
            start = lsn.segment_start(renew(sender).kept, size)  # the slot kept less than it promised
        begin = Place(timeline_at(past.forks, past.system.timeline, start, size), start)
        if past.listing.wal:
            self._record_gap(past, before, begin)
        return begin

    def _record_gap(self, past: "_Past", before: Place | None, begin: Place) -> None:
        ends = [each.end for each in past.listing.wal if each.end <= begin.position]
        start = before.position if before is not None else max(ends, default=0)
        if start >= begin.position:
            return
        reason = (
            "the server no longer has it"
            if before
            else "the server's timeline does not descend from the stored one"
        )
        gap = Gap(
            server=past.archive.server,
            system_identifier=past.archive.system,
            timeline=begin.timeline,
            start=start,
            end=begin.position,
            noticed=self._outlet.clock(),
            reason=reason,
        )
        key = past.archive.gap_key(begin.timeline, start, begin.position)
        self._outlet.store.put(key, encode(gap, self._outlet.keys))
        self._measures.gaps += 1
        self._measures.gap_noticed = gap.noticed
        log.error(
            "WAL of %s is lost forever, a base backup is needed at once: %s",
            past.archive.server,
            fields(start=lsn.text(start), end=lsn.text(begin.position), reason=reason),
        )


@dataclass(frozen=True)
class _Past:
    archive: Archive
    listing: Listing
    forks: Sequence[Fork]
    system: System


@dataclass
class _Segment:
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
class _Session:
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
            for each in names.cover(self.listing.wal, begin.timeline, start, begin.position)
            if each.start >= start
        ]
        with self.stop.heeded():
            self._take_stock(size)
        self._segment = _Segment(start, bytearray(size), start, begin.position)
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
            now = time.monotonic()
            if message is not None:
                self.measures.streaming = True
            if self.measures.streaming:
                self.measures.problem = self._uploads.problem
            if isinstance(message, TimelineEnd):
                log.info("%s continues on timeline %d", self.server, message.timeline)
                return True
            if isinstance(message, Wal):
                self._take(message, now)
            elif message is not None:
                self.measures.arrived(0, self._segment.received, message.latest, now)
            self._refuse_synchronous()
            self._keep_up(stream, now, wanted=isinstance(message, Alive) and message.wanted)
        return False

    def _next(self, stream: WalStream) -> Message | None:
        if self._uploads.outstanding < MOST:
            return stream.read(self._wait(), gather=GATHER_SECONDS)
        # The server waits for us and keeps its WAL; it only needs keepalive messages.
        self.stop.pause(BUSY_SECONDS)
        return None

    def _refuse_synchronous(self) -> None:
        if self.measures.synchronous:
            raise PreflightError(
                f"{self.server}: commits wait for this sidecar, so it disconnects",
                hint=f"take {APPLICATION} and * out of synchronous_standby_names",
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

        A piece of it would soon be stored again with the whole. It is waited for only once.
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
        self.measures.clock_skew = (message.sent - self.outlet.clock()) / timedelta(seconds=1)
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
        self.measures.arrived(len(message.data), self._segment.received, message.latest, now)

    def _compare(self) -> None:
        """Compare what is received again with what is stored."""
        while self._known and self._known[0].end <= self._segment.received:
            known = self._known.pop(0)
            sha256 = hashlib.sha256(self._segment.between(known.start, known.end)).hexdigest()
            if sha256[:SHA_DIGITS] != known.sha:
                raise self._diverges(known)

    def _diverges(self, known: WalObject) -> DivergenceError:
        return DivergenceError(
            f"{self.server} sends other WAL from {lsn.text(known.start)} to {lsn.text(known.end)} than is stored",
            hint="the server was restored to an earlier state, or it is another one: see docs/pitr.md; nothing that is stored was changed",
        )

    def _complete(self) -> None:
        segment = self._segment
        self._uploads.hand_over(Parcel(self._timeline, segment.start, segment.end, segment.data))
        self._segment = _Segment(segment.end, bytearray(len(segment.data)), segment.end, segment.end)

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
            parcel.packed = pack(parcel.data, self.outlet.packing)
        parcel.data = b""
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
