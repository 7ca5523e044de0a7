"""Turns the stored WAL into the files that a server replays: whole segments and timeline histories.

An object's name contains the SHA-256 of its plain bytes, so only what was streamed is handed over.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import zstandard

from backup.errors import NoIdentityError, NotFoundError, VerificationError
from backup.physical import lsn
from backup.physical.archive import Archive, HistoryObject, Listing, Stored, WalObject
from backup.physical.spans import Span, cover
from backup.physical.timelines import MAX_HISTORY_BYTES
from backup.pipeline.encrypt import Identity, decrypt
from backup.store import Store

# The maximum that encryption and compression add to incompressible bytes.
MAX_OVERHEAD = 1 << 16
# Number of times that a segment is listed while its objects are being replaced.
_TRIES = 3
_HINT = "choose a target before it, or another base backup: python -m backup wal status"


@dataclass(frozen=True)
class Segments:
    """The stored WAL of one cluster, as files with PostgreSQL's names.

    Attributes:
        path: the spans to replay, in order; see :class:`backup.physical.windows.Window`.
        timeline: the one that recovery follows.
    """

    store: Store
    archive: Archive
    listing: Listing
    path: tuple[Span, ...]
    timeline: int
    identities: Sequence[Identity] = field(default=(), repr=False)

    def promised(self, first: str = "") -> list[str]:
        """The names of the files that replay needs, in their order: the histories, then each segment of the path.

        Args:
            first: the segment to begin with, on any timeline.
        """
        size = self.archive.segment_size
        segments = [
            lsn.segment_name(span.timeline, number, size)
            for span in self.path
            for number in range(span.start // size, -(-span.end // size))
        ]
        known = {each.timeline for each in self.listing.histories}
        ancestors = {span.timeline for span in self.path} | {self.timeline}
        histories = [lsn.history_name(each) for each in sorted(ancestors & known)]
        return [*histories, *(name for name in segments if name[8:] >= first[8:])]

    def fetch(self, name: str, target: Path) -> None:
        """Write one of these files. The last segment is filled with zeros, as on the original's disk.

        Raises:
            VerificationError: it is missing, damaged, or not what was stored.
            StoreError: the store does not answer.
        """
        if name.endswith(".history"):
            target.write_bytes(self._history(int(name[:8], 16)))
            return
        timeline, number = lsn.parse_segment(name, self.archive.segment_size)
        self._segment(timeline, number * self.archive.segment_size, target)

    def _segment(self, timeline: int, start: int, target: Path) -> None:
        size = self.archive.segment_size
        # The path may leave a timeline in the middle of a segment; everything that is stored of the segment is handed over.
        ends = [
            min(span.end, start + size)
            for span in self.path
            if span.timeline == timeline and span.end > start
        ]
        end = max(ends, default=start)
        wal = self.listing.between(timeline, start, end)
        for left in reversed(range(_TRIES)):
            try:
                self._write(wal, timeline, start, end, target)
            except NotFoundError:
                if not left:
                    raise
                # The stream replaces the pieces of a segment once the whole segment is stored.
                wal = self._listed(timeline, start)
            else:
                return

    def _write(self, wal: Sequence[WalObject], timeline: int, start: int, end: int, target: Path) -> None:
        size = self.archive.segment_size
        pieces = cover(wal, timeline, start, end)
        if not pieces or pieces[-1].end < end:
            reached = pieces[-1].end if pieces else start
            name = lsn.segment_name(timeline, start // size, size)
            raise VerificationError(
                f"{name} is missing from the store from {lsn.text(reached)} on", hint=_HINT
            )
        with target.open("wb") as file:
            file.truncate(size)
            for piece in pieces:
                file.seek(piece.start - start)
                file.write(self._plain(piece, piece.end - piece.start))

    def _listed(self, timeline: int, start: int) -> tuple[WalObject, ...]:
        """What the store has of one segment now."""
        name = lsn.segment_name(timeline, start // self.archive.segment_size, self.archive.segment_size)
        found = self.store.walk(f"{self.archive.prefix}{timeline:08X}/{name}")
        return self.archive.listing(Stored(info.key, info.size, info.modified) for info in found).wal

    def _history(self, timeline: int) -> bytes:
        found = next(each for each in self.listing.histories if each.timeline == timeline)
        return self._plain(found, None)

    def _plain(self, stored: WalObject | HistoryObject, size: int | None) -> bytes:
        most = MAX_HISTORY_BYTES if size is None else size
        data = unpacked(self.store, stored.stored, most, self.identities)
        if size is not None and len(data) != size:
            raise _damaged(stored.stored, f"it has {len(data)} bytes, not {size}")
        if not hashlib.sha256(data).hexdigest().startswith(stored.sha):
            raise _damaged(stored.stored, "its SHA-256 is not the one in its name")
        return data


def unpacked(store: Store, stored: Stored, most: int, identities: Sequence[Identity]) -> bytes:
    """The plain bytes of a WAL object.

    Args:
        most: maximum number of plain bytes.

    Raises:
        VerificationError: it is missing, damaged, too large, or no identity decrypts it.
        StoreError: the store does not answer.
    """
    if not identities:
        raise NoIdentityError(
            "the WAL is encrypted, and no identity is set",
            hint="set BACKUP_AGE_IDENTITY to the secret key, or BACKUP_AGE_IDENTITY_FILE to the output file of age-keygen",
        )
    if stored.size > most + MAX_OVERHEAD:
        raise _damaged(stored, f"it has {stored.size} bytes, more than the maximum of {most + MAX_OVERHEAD}")
    packed = BytesIO()
    decrypt(BytesIO(store.get(stored.key)), packed, identities)
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(packed.getvalue()))
        data = reader.read(most + 1)
    except zstandard.ZstdError as error:
        raise _damaged(stored, f"decompression failed: {error}") from None
    if len(data) > most:
        raise _damaged(stored, f"it unpacks to more than {most} bytes")
    return data


def _damaged(stored: Stored, how: str) -> VerificationError:
    return VerificationError(f"{stored.key} is damaged: {how}", hint=_HINT)
