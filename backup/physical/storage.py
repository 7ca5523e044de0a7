"""Stores the WAL that was received, and removes the pieces of a segment once the whole segment is stored."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue.signatures import Keyring
from backup.errors import StoreError
from backup.physical import lsn
from backup.physical.archive import Archive, Listing
from backup.physical.measures import Measures
from backup.physical.pack import Packed, pack
from backup.physical.uploads import Parcel
from backup.pipeline import PackingOptions
from backup.store import Store

log = logging.getLogger(__name__)


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
class Storage:
    """The stored WAL of a server: whole segments, and pieces of the newest one."""

    archive: Archive
    outlet: Outlet
    measures: Measures
    _pieces: dict[int, list[str]] = field(default_factory=dict)
    _whole: set[int] = field(default_factory=set)
    _packing: threading.Lock = field(default_factory=threading.Lock)

    def take_stock(self, listing: Listing, timeline: int) -> None:
        """Note the pieces of a timeline that are stored; those that a whole segment has replaced are removed."""
        size = self.archive.segment_size
        self._whole = {
            each.start for each in listing.wal if each.timeline == timeline and each.end - each.start == size
        }
        for each in listing.wal:
            if each.timeline == timeline and each.end - each.start < size:
                self._pieces.setdefault(lsn.segment_start(each.start, size), []).append(each.stored.key)
        self._remove([key for segment in self._whole for key in self._pieces.pop(segment, [])])

    def put(self, parcel: Parcel) -> None:
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

    def remove_replaced_pieces(self, parcel: Parcel) -> None:
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
