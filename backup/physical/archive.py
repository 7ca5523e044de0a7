"""The names of stored WAL. Pure.

::

    .wal/{server}/{system}/{timeline}/{segment}-{seal}.zst.age                    a whole segment
    .wal/{server}/{system}/{timeline}/{segment}.{from}-{to}-{seal}.zst.age        a piece of one
    .wal/{server}/{system}/{timeline}/{timeline}.history-{seal}.zst.age           where timelines branch
    .wal/{server}/{system}/{timeline}/gaps/{from}-{to}.json                       what can never be recovered

``system`` is the cluster's identifier, ``timeline`` has 8 hexadecimal digits, ``segment`` is PostgreSQL's own file name.
``from`` and ``to`` are positions, of a piece within its segment (8 digits), of a gap in the WAL (16 digits); ``to`` is
the first position that is no longer included.

``seal`` is ``{sha}`` without a manifest key, and ``{sha}-{key}-{mac}`` with one. ``sha`` begins the SHA-256 of the plain
bytes, so no object ever replaces another one, and two servers that both believe they are production show up as two objects
of one name. ``mac`` signs the whole key up to there: write access to the store is not enough to forge WAL.

Everything that is read from a store is untrusted: an object without a valid name or our signature is ignored.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Self

from backup.catalogue.document import Count, Document, Moment
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.physical import lsn

ROOT = ".wal"
SUFFIX = ".zst.age"
# Hexadecimal digits of a SHA-256 in a name: enough that no one can find other bytes with the same digits.
SHA_DIGITS = 32
_DOMAIN = "wal"
_SEAL = rf"(?P<sha>[0-9a-f]{{{SHA_DIGITS}}})(?:-(?P<key>[0-9a-f]{{12}})-(?P<mac>[0-9a-f]{{64}}))?"
_FOLDER = r"(?P<timeline>[0-9A-F]{8})/"
_WAL = re.compile(
    rf"{_FOLDER}(?P<segment>[0-9A-F]{{24}})(?:\.(?P<from>[0-9A-F]{{8}})-(?P<to>[0-9A-F]{{8}}))?-{_SEAL}{re.escape(SUFFIX)}"
)
_HISTORY = re.compile(rf"{_FOLDER}(?P<name>[0-9A-F]{{8}})\.history-{_SEAL}{re.escape(SUFFIX)}")
_GAP = re.compile(rf"{_FOLDER}gaps/(?P<from>[0-9A-F]{{16}})-(?P<to>[0-9A-F]{{16}})\.json")


@dataclass(frozen=True)
class Stored:
    """The store's metadata of one object."""

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True)
class WalObject:
    """WAL in the store: the positions from ``start`` up to ``end``, exclusive.

    Attributes:
        sha: the beginning of the SHA-256 of the plain bytes, :data:`SHA_DIGITS` digits.
        stored: its key, stored size and age.
    """

    timeline: int
    start: int
    end: int
    sha: str
    stored: Stored


@dataclass(frozen=True)
class HistoryObject:
    """A timeline's history file in the store."""

    timeline: int
    sha: str
    stored: Stored


@dataclass(frozen=True)
class GapObject:
    """A record of WAL that is lost. Read it: only its content is signed."""

    timeline: int
    start: int
    end: int
    stored: Stored


class Gap(Document):
    """WAL that was never stored and no longer exists: nothing in it can be recovered, and no earlier base backup leads past it."""

    kind_of_document: ClassVar[str] = "wal-gap"

    server: str
    system_identifier: str
    timeline: Count
    start: Count
    end: Count
    noticed: Moment
    reason: str


@dataclass(frozen=True)
class Listing:
    """The WAL of one cluster in a store.

    Attributes:
        wal: in order of timelines and positions. There may be a hundred thousand objects.
        strangers: keys that are not ours: unsigned, signed by someone else, or without a valid name.
    """

    wal: tuple[WalObject, ...] = ()
    histories: tuple[HistoryObject, ...] = ()
    gaps: tuple[GapObject, ...] = ()
    strangers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        wal: Iterable[WalObject],
        histories: Iterable[HistoryObject],
        gaps: Iterable[GapObject],
        strangers: Iterable[str],
    ) -> Self:
        """From objects in any order."""
        return cls(
            tuple(sorted(wal, key=lambda each: (each.timeline, each.start, each.end, each.sha))),
            tuple(sorted(histories, key=lambda each: (each.timeline, each.sha))),
            tuple(sorted(gaps, key=lambda each: (each.timeline, each.start, each.end))),
            tuple(strangers),
        )

    @property
    def timelines(self) -> list[int]:
        """The timelines that have WAL, in order."""
        return sorted({each.timeline for each in self.wal})

    def between(self, timeline: int, start: int, end: int) -> tuple[WalObject, ...]:
        """The WAL that starts at a position from ``start`` up to ``end``, exclusive."""
        first, last = (self._place(timeline, position) for position in (start, end))
        return self.wal[first:last]

    def continues(self, timeline: int, position: int) -> bool:
        """Whether any WAL of a timeline starts at a position or later."""
        return self._place(timeline, position) < self._place(timeline + 1, 0)

    def _place(self, timeline: int, position: int) -> int:
        return bisect_left(self.wal, (timeline, position), key=lambda each: (each.timeline, each.start))


@dataclass(frozen=True)
class Archive:
    """The names of one cluster's WAL.

    Attributes:
        server: the name of the server in our settings.
        system: the identifier of its cluster, in decimal digits.
        segment_size: bytes of a WAL segment.
        keys: sign the names, and decide whose names are accepted.
    """

    server: str
    system: str
    segment_size: int
    keys: Keyring = field(default=NO_KEYS, repr=False)

    @property
    def prefix(self) -> str:
        """The prefix of all its keys."""
        return system_prefix(self.server, self.system)

    def wal_key(self, timeline: int, start: int, end: int, sha256: str) -> str:
        """The key of the WAL between two positions of one segment.

        Args:
            sha256: of the plain bytes, in hexadecimal digits.

        Raises:
            ValueError: the positions are not in one segment.
        """
        size = self.segment_size
        first = lsn.segment_start(start, size)
        if not start < end <= first + size:
            raise ValueError(f"{lsn.text(start)} to {lsn.text(end)} is not within one segment")
        name = lsn.segment_name(timeline, lsn.segment_of(start, size), size)
        piece = "" if (start, end) == (first, first + size) else f".{start - first:08X}-{end - first:08X}"
        return self._sealed(timeline, f"{name}{piece}", sha256)

    def history_key(self, timeline: int, sha256: str) -> str:
        """The key of a timeline's history file."""
        return self._sealed(timeline, lsn.history_name(timeline), sha256)

    def gap_key(self, timeline: int, start: int, end: int) -> str:
        """The key of the record of a gap."""
        return f"{self.gaps_prefix(f'{timeline:08X}')}{start:016X}-{end:016X}.json"

    def gaps_prefix(self, timeline: str) -> str:
        """The prefix of the keys of all gaps in a timeline, which is given by its folder."""
        return f"{self.prefix}{timeline}/gaps/"

    def listing(self, objects: Iterable[Stored]) -> Listing:
        """The objects below :attr:`prefix`, in order of their positions. Other keys are left out."""
        wal: list[WalObject] = []
        histories: list[HistoryObject] = []
        gaps: list[GapObject] = []
        strangers: list[str] = []
        for stored in objects:
            if not stored.key.startswith(self.prefix):
                continue
            match self.parse(stored):
                case WalObject() as found:
                    wal.append(found)
                case HistoryObject() as found:
                    histories.append(found)
                case GapObject() as found:
                    gaps.append(found)
                case None:
                    strangers.append(stored.key)
        return Listing.of(wal, histories, gaps, strangers)

    def parse(self, stored: Stored) -> WalObject | HistoryObject | GapObject | None:
        """The object that a name denotes; None if the name is not ours."""
        if not stored.key.startswith(self.prefix):
            return None
        name = stored.key.removeprefix(self.prefix)
        try:
            return self._wal(name, stored) or self._history(name, stored) or self._gap(name, stored)
        except ValueError:
            return None

    def _wal(self, name: str, stored: Stored) -> WalObject | None:
        found = _WAL.fullmatch(name)
        if found is None or not self._is_ours(found, stored.key):
            return None
        timeline, number = lsn.parse_segment(found["segment"], self.segment_size)
        first = number * self.segment_size
        start, end = (
            (int(found["from"], 16), int(found["to"], 16)) if found["from"] else (0, self.segment_size)
        )
        if timeline != int(found["timeline"], 16) or not start < end <= self.segment_size:
            return None
        if first + end > lsn.MAX_POSITION:  # the end of the last segment is not a position
            return None
        return WalObject(timeline, first + start, first + end, found["sha"], stored)

    def _history(self, name: str, stored: Stored) -> HistoryObject | None:
        found = _HISTORY.fullmatch(name)
        if found is None or found["name"] != found["timeline"] or not self._is_ours(found, stored.key):
            return None
        return HistoryObject(int(found["name"], 16), found["sha"], stored)

    def _gap(self, name: str, stored: Stored) -> GapObject | None:
        found = _GAP.fullmatch(name)
        if found is None:
            return None
        start, end = int(found["from"], 16), int(found["to"], 16)
        return GapObject(int(found["timeline"], 16), start, end, stored) if start < end else None

    def _sealed(self, timeline: int, name: str, sha256: str) -> str:
        key = f"{self.prefix}{timeline:08X}/{name}-{sha256[:SHA_DIGITS]}"
        seal = self.keys.seal(_DOMAIN, key.encode())
        return f"{key}-{seal.key}-{seal.mac}{SUFFIX}" if seal else f"{key}{SUFFIX}"

    def _is_ours(self, found: re.Match[str], key: str) -> bool:
        """Whether we have signed the name, or there are no keys."""
        signature = f"-{found['key']}-{found['mac']}" if found["key"] else ""
        body = key.removesuffix(SUFFIX).removesuffix(signature)
        trust = self.keys.judge(_DOMAIN, body.encode(), found["key"] or "", found["mac"] or "")
        return trust in ("unchecked", "signed")


def server_prefix(server: str) -> str:
    """The prefix of the keys of all clusters of a server."""
    return f"{ROOT}/{server}/"


def system_prefix(server: str, system: str) -> str:
    """The prefix of the keys of one cluster."""
    return f"{server_prefix(server)}{system}/"


def systems(server: str, keys: Iterable[str]) -> list[str]:
    """The identifiers of the clusters that have anything below a server's prefix. Marks are there too."""
    prefix = server_prefix(server)
    named = {key.removeprefix(prefix).partition("/")[0] for key in keys if key.startswith(prefix)}
    return sorted(each for each in named if each.isascii() and each.isdigit())
