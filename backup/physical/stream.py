"""Streams the WAL of one server: after each interruption, it connects and resumes where the stored WAL ends."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from backup.cancellation import Stop
from backup.catalogue.document import encode
from backup.errors import ReplicationError
from backup.physical import archive as names
from backup.physical import lsn
from backup.physical.archive import SHA_DIGITS, Archive, Gap, Listing, Stored
from backup.physical.follower import DivergenceError, Follower
from backup.physical.measures import Measures
from backup.physical.pack import pack
from backup.physical.resume import ResumePoint, resume_point, timeline_at
from backup.physical.slot import APPLICATION, SlotStatus, provide, refuse_unsafe, renew
from backup.physical.spans import Span, spans
from backup.physical.storage import Outlet
from backup.physical.timelines import Fork, parse_history
from backup.physical.walsender import System, WalSender
from backup.targets import ServerTarget
from sidecar import OpsError
from sidecar.logs import fields

log = logging.getLogger(__name__)

# PostgreSQL's codes: the segment no longer exists; the slot is in use.
REMOVED = "58P01"
IN_USE = "55006"
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 15.0


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
            Follower(self._server.name, archive, listing, self._outlet, self._stop, self._measures).follow(
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
        forks = parse_history(data, system.timeline, lsn.history_name(system.timeline))
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

    def _begin(self, sender: WalSender, past: "_Past", slot: SlotStatus) -> ResumePoint:
        """Where the stream begins. WAL that no longer exists is recorded as a gap first."""
        size = past.archive.segment_size
        stretches = spans(
            past.listing.wal, [Span(gap.timeline, gap.start, gap.end) for gap in past.listing.gaps]
        )
        before = resume_point(past.forks, past.system.timeline, stretches, slot.position, segment_size=size)
        if before is not None and not self._lost:
            return before
        start = lsn.segment_start(slot.kept, size)
        if before is not None and start <= before.position:
            start = lsn.segment_start(renew(sender).kept, size)  # the slot kept less than it promised
        begin = ResumePoint(timeline_at(past.forks, past.system.timeline, start, size), start)
        if past.listing.wal:
            self._record_gap(past, before, begin)
        return begin

    def _record_gap(self, past: "_Past", before: ResumePoint | None, begin: ResumePoint) -> None:
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
