"""What a store has of a server's WAL, for a service that looks each minute: listed once, and then only where it grows.

A month of WAL takes dozens of requests to list, and each name has a signature. New WAL continues what is stored, or begins a
timeline, or follows the record of a gap; anything else is found when everything is listed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from backup.physical import lsn
from backup.physical.archive import Archive, Listing, Stored, WalObject, server_prefix, systems
from backup.physical.spans import Span, spans
from backup.store import Store

# Up to this number of objects, a whole listing takes hardly more requests than looking for what is new.
FEW = 5000
# With more holes in the newest timeline than this, everything is listed.
MAX_ENDS = 8
# Segments before an end that are looked at again: a whole one replaces its pieces, and uploads overtake each other.
BACK = 8
# Segments whose names differ in their last digit only.
_GROUP = 16
Known = tuple[Archive, Listing]


@dataclass
class KnownWal:
    """The WAL of all clusters of a server in a store.

    Args:
        whole: lists everything.
    """

    store: Store
    server: str
    whole: Callable[[], Sequence[Known]]
    _known: Sequence[Known] = field(default=(), init=False)

    def forget(self) -> None:
        """List everything the next time."""
        self._known = ()

    def read(self, timeline: int | None) -> Sequence[Known]:
        """What the store has now.

        Args:
            timeline: the one that grows; None if not known. Everything is listed while it is not the newest that is stored,
                as after the end of a standby that had been promoted.

        Raises:
            StoreError: the store does not answer.
        """
        many = sum(len(listing.wal) for _, listing in self._known) > FEW
        newest = max((each for _, listing in self._known for each in listing.timelines), default=0)
        self._known = (self._grown() if many and (timeline or 0) >= newest else None) or self.whole()
        return self._known

    def _grown(self) -> list[Known] | None:
        """What is known, with what is new; None if only a whole listing can say that."""
        prefix = server_prefix(self.server)
        there = systems(self.server, (f"{prefix}{folder}/" for folder in self.store.folders(prefix)))
        if there != sorted(archive.system for archive, _ in self._known):
            return None
        grown = [(archive, self._with_new(archive, listing)) for archive, listing in self._known]
        found = [(archive, listing) for archive, listing in grown if listing is not None]
        return found if len(found) == len(grown) else None

    def _with_new(self, archive: Archive, known: Listing) -> Listing | None:
        before = {f"{each:08X}" for each in known.timelines}
        there = set(self.store.folders(archive.prefix))
        if not before or not before <= there:
            return None
        newest = max(before)
        stretches = [each for each in spans(known.wal) if each.timeline == int(newest, 16)]
        gaps = self._listing(archive, archive.gaps_prefix(newest)).gaps
        recorded = tuple(each for each in known.gaps if each.timeline == int(newest, 16))
        if len(stretches) > MAX_ENDS or gaps != recorded:
            return None
        others = [f"{archive.prefix}{timeline}/" for timeline in sorted(there - before)]
        found = [
            self._listing(archive, prefix) for prefix in (f"{archive.prefix}{newest}/{newest}.", *others)
        ]
        wal = known.wal
        for stretch in stretches:
            first, last, at_end = self._at_end(archive, stretch)
            wal = tuple(
                each for each in wal if each.timeline != stretch.timeline or not first <= each.start < last
            )
            wal += at_end
        return Listing.of(
            (*wal, *(each for more in found for each in more.wal)),
            {*known.histories, *(each for more in found for each in more.histories)},
            {*known.gaps, *(each for more in found for each in more.gaps)},
            known.strangers,
        )

    def _at_end(self, archive: Archive, stretch: Span) -> tuple[int, int, tuple[WalObject, ...]]:
        """What is stored around the end of a stretch: the positions from the first up to the last one, and the WAL there."""
        size = archive.segment_size
        step = min(_GROUP, lsn.segments_of_log(size))
        end = lsn.segment_of(stretch.end - 1, size)
        first = number = max(0, end - BACK) // step * step
        found: list[WalObject] = []
        while True:
            name = lsn.segment_name(stretch.timeline, number, size)
            wal = self._listing(archive, f"{archive.prefix}{name[:8]}/{name[:-1]}").wal
            found += wal
            number += step
            if number > end and not wal:
                return first * size, number * size, tuple(found)

    def _listing(self, archive: Archive, prefix: str) -> Listing:
        return archive.listing(Stored(info.key, info.size, info.modified) for info in self.store.walk(prefix))
