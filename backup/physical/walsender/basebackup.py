"""A base backup as it arrives: its archives one after the other, without a file in between."""

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.pq.abc import PGresult

from backup.physical import lsn
from backup.physical.walsender.link import Link, given, text

MANIFEST = "backup_manifest"
# The server sends 32 KiB at a time. Each further step costs more per piece than per byte.
_PIECE = 1 << 20
_DATA = ord("d")


@dataclass(frozen=True)
class Tablespace:
    """A tablespace of a base backup; ``oid`` and ``location`` are None for the data folder itself.

    Attributes:
        size: approximate, in bytes; None if the server did not estimate it.
    """

    oid: int | None
    location: str | None
    size: int | None


class BaseBackup:
    """A base backup in progress. Read all of :meth:`archives`, in order; then :attr:`end` is known.

    Attributes:
        start: the position from which WAL is needed.
        timeline: the timeline of the start.
        tablespaces: what is coming.
        end: the position up to which WAL is needed before the backup is consistent; None until everything was read.
        end_timeline: the timeline of the end; None until everything was read.
    """

    def __init__(self, link: Link, *, start: int, timeline: int, tablespaces: tuple[Tablespace, ...]) -> None:
        self.start = start
        self.timeline = timeline
        self.tablespaces = tablespaces
        self.end: int | None = None
        self.end_timeline: int | None = None
        self._link = link
        self._ahead: str | None = None

    def archives(self) -> Iterator["BaseArchive"]:
        """The archives, in the server's order; the backup's own manifest comes last. Unread parts are skipped.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        while self.end is None:
            if self._ahead is None and self.piece():
                raise self._link.error("the base backup begins without an archive")
            name, self._ahead = self._ahead, None
            if name is not None:
                archive = BaseArchive(self, name)
                yield archive
                while archive.read():
                    pass

    def piece(self) -> bytes | bytearray:
        """The next bytes of the archive that is being read, about a megabyte; empty at its end.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        gathered = bytearray()
        while self._ahead is None and self.end is None and len(gathered) < _PIECE:
            size, message = self._link.copied()
            if size == 0:
                self._link.wait_and_check()
            elif size < 0:
                self._finish()
            elif message[0] == _DATA:
                gathered += message[1:]
            else:
                self._announced(bytes(message[:1]), bytes(message[1:]))
        return gathered

    def _announced(self, kind: bytes, body: bytes) -> None:
        """Handle a message that contains no bytes of an archive."""
        if kind == b"m":
            self._ahead = MANIFEST
        elif kind == b"n":
            self._ahead = body.split(b"\0")[0].decode(errors="replace")
        elif kind != b"p":
            raise self._link.error(f"the base backup contains a message of kind {kind!r}")

    def _finish(self) -> None:
        result = self._link.well(self._link.next_result())
        end, timeline = given(text(result, 0, 0)), given(text(result, 0, 1))
        # An error may still follow, such as a wrong checksum; then it is not a backup.
        while (rest := self._link.next_result()) is not None:
            self._link.well(rest)
        self.end, self.end_timeline = lsn.parse(end), int(timeline)


class BaseArchive:
    """One archive of a base backup: ``base.tar``, ``{oid}.tar`` of a tablespace, or :data:`MANIFEST`."""

    def __init__(self, backup: BaseBackup, name: str) -> None:
        self.name = name
        self._backup = backup
        self._ended = False

    def read(self) -> bytes | bytearray:
        """The next bytes; empty at the end.

        Raises:
            ReplicationError: the server ended the backup, or the connection was lost.
        """
        data = b"" if self._ended else self._backup.piece()
        self._ended = not data
        return data


def tablespace(result: PGresult, row: int) -> Tablespace:
    oid, location, size = (text(result, row, column) for column in range(3))
    return Tablespace(int(oid) if oid else None, location, int(size) * 1024 if size else None)
