"""Copies the stored WAL of a server to another store."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from backup.errors import NotFoundError
from backup.physical import lsn
from backup.physical.archive import Archive, Gap, GapObject, HistoryObject, Listing, WalObject
from backup.physical.segments import MAX_OVERHEAD
from backup.physical.timelines import MAX_HISTORY_BYTES
from backup.physical.upkeep import stored
from backup.store import Store

log = logging.getLogger(__name__)

_Object = WalObject | HistoryObject | GapObject
# A timeline, and the position at which a segment starts.
_Segment = tuple[int, int]


class OffsiteCopy:
    """Copies WAL in rounds. It lists the other store only once: there is a round each minute, and listing a month of WAL takes
    dozens of requests.
    """

    def __init__(self, source: Store, target: Store) -> None:
        self._source = source
        self._target = target
        self._there: dict[Archive, _There] = {}

    def forget(self) -> None:
        """List the other store again in the next round: something else may have changed it."""
        self._there.clear()

    def copy(self, archive: Archive, here: Listing) -> int:
        """Copy the WAL of a cluster that the other store lacks, as it is stored; returns the number of objects.

        A piece there is deleted once its whole segment is there too.

        Args:
            here: what the source has of it.

        Raises:
            StoreError: a store does not answer. What was copied before remains.
        """
        if archive not in self._there:
            self._there[archive] = _There(archive)
            self._there[archive].add(_everything(archive.listing(stored(self._target, archive.server))))
        there, copied = self._there[archive], 0
        for each in _everything(here):
            key, size = each.stored.key, each.stored.size
            if key in there.keys:
                continue
            if size > _max_bytes(each, archive):
                log.warning("%s is not copied: it has %d bytes", key, size)
                continue
            try:
                self._target.put(key, self._source.get(key))
            except NotFoundError:
                continue  # a whole segment has replaced it meanwhile
            there.add([each])
            copied += 1
        self._target.delete(there.take_superseded())
        return copied


@dataclass
class _There:
    """What the other store has of a cluster."""

    archive: Archive
    keys: set[str] = field(default_factory=set)
    whole: set[_Segment] = field(default_factory=set)
    pieces: dict[_Segment, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, objects: Sequence[_Object]) -> None:
        for each in objects:
            self.keys.add(each.stored.key)
            if isinstance(each, WalObject):
                size = self.archive.segment_size
                segment = each.timeline, lsn.segment_start(each.start, size)
                if each.end - each.start == size:
                    self.whole.add(segment)
                else:
                    self.pieces[segment].append(each.stored.key)

    def take_superseded(self) -> list[str]:
        """The keys of pieces whose whole segment is there too. They stay known, so that they are not copied again."""
        return [key for segment in self.pieces.keys() & self.whole for key in self.pieces.pop(segment)]


def _everything(listing: Listing) -> Sequence[_Object]:
    return (*listing.histories, *listing.wal, *listing.gaps)


def _max_bytes(each: _Object, archive: Archive) -> int:
    """Maximum size of our objects; a larger one may not even fit into memory."""
    if isinstance(each, GapObject):
        return Gap.max_bytes
    plain = archive.segment_size if isinstance(each, WalObject) else MAX_HISTORY_BYTES
    return plain + MAX_OVERHEAD
