"""Reads the table of contents of pg_dump's custom archive, and writes the position of each table's rows into it.

pg_dump cannot do the latter itself when it writes into a pipe. Then each process of ``pg_restore -j`` scans for its table, row
by row, and does not know the sizes, so it cannot begin with the largest. The format is PostgreSQL's, as in its
``src/bin/pg_dump/pg_backup_archiver.c`` and ``pg_backup_custom.c``.
"""

import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"PGDMP"
CUSTOM = 1
UNCOMPRESSED = 0
# Minor versions of format 1: PostgreSQL 12 to 18.
KNOWN = range(14, 17)
ROWS, LARGE_OBJECTS = 1, 3
NOT_SET, SET = 1, 2
PRE_DATA, DATA, POST_DATA = 2, 3, 4
NUMBER = struct.Struct("<?I")
# The end of COPY's rows as a chunk of five bytes, and the empty chunk that ends a block. Rows contain no zero bytes.
LAST = b"\x00\x05\x00\x00\x00\\.\n\n\n\x00\x00\x00\x00\x00"


class _UnknownError(Exception):
    """The archive does not have a known format."""


@dataclass(frozen=True)
class Entry:
    """An entry of the table of contents.

    Attributes:
        kind: such as ``TABLE``.
        name: as a plain dump names it in its comments, where a line end is a blank.
        schema: empty if it has none.
        section: :data:`PRE_DATA`, :data:`DATA` or :data:`POST_DATA`; others belong to the section of the entry before them.
        needs: the numbers of those that it depends on.
        unset: the offset of the position of its data, if that is not known.
    """

    id: int
    kind: bytes
    section: int
    needs: tuple[int, ...] = ()
    unset: int | None = None
    name: str = ""
    schema: str = ""


class RowEnds:
    """Finds what looks like the end of a table's rows while an archive passes in pieces."""

    def __init__(self) -> None:
        self.found: list[int] = []
        self._passed = 0
        self._tail = b""

    def feed(self, data: bytes) -> None:
        across = self._tail + data[: len(LAST) - 1]
        self._search(across, self._passed - len(self._tail))
        self._search(data, self._passed)
        self._passed += len(data)
        self._tail = (self._tail + data[1 - len(LAST) :])[1 - len(LAST) :]

    def _search(self, data: bytes, begin: int) -> None:
        place = data.find(LAST)
        while place >= 0:
            self.found.append(begin + place + len(LAST))
            place = data.find(LAST, place + len(LAST))


def write_positions(path: Path, ends: Sequence[int]) -> bool:
    """Write positions into an uncompressed archive so that ``pg_restore`` can seek. Its length does not change.

    Args:
        ends: the positions that :class:`RowEnds` found.

    Returns:
        Whether the archive has a known format. Any other archive is left unchanged: it restores too, but slower.
    """
    if not path.stat().st_size:
        return False
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data)
        try:
            unset = {entry.id: entry.unset for entry in _contents(reader) if entry.unset is not None}
            found = dict(_blocks(reader, set(unset), ends))
        except _UnknownError:
            return False
        for number, position in found.items():
            os.pwrite(file.fileno(), bytes([SET]) + position.to_bytes(8, "little"), unset[number])
    return True


def contents(path: Path) -> list[Entry]:
    """The table of contents of an archive; empty if it does not have a known format."""
    if not path.stat().st_size:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _contents(_Reader(data), compressed=True)
        except _UnknownError:
            return []


class _Reader:
    """Reads the numbers and strings of the archive's format."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.size = len(data)
        self.position = 0

    def skip(self, count: int) -> None:
        if count < 0 or self.position + count > self.size:
            raise _UnknownError
        self.position += count

    def go_to(self, position: int) -> None:
        self.position = position

    def byte(self) -> int:
        begin = self.position
        self.skip(1)
        return self._data[begin]

    def number(self) -> int:
        """A sign and four bytes."""
        begin = self.position
        self.skip(NUMBER.size)
        negative, value = NUMBER.unpack_from(self._data, begin)
        number: int = value
        return -number if negative else number

    def text(self) -> bool:
        """Skip a string; returns whether there is one."""
        length = self.number()
        self.skip(max(length, 0))
        return length >= 0

    def string(self) -> bytes | None:
        """The next string, if there is one."""
        begin = self.position + NUMBER.size
        return self._data[begin : self.position] if self.text() else None

    def texts(self, count: int) -> None:
        """Skip strings; most of a table of contents is passed here."""
        position, data, read, width = self.position, self._data, NUMBER.unpack_from, NUMBER.size
        for _ in range(count):
            if position + width > self.size:
                raise _UnknownError
            absent, length = read(data, position)
            position += width if absent else width + length
        self.position = position
        self.skip(0)

    def expect(self, *wanted: int) -> None:
        for value in wanted:
            if self.byte() != value:
                raise _UnknownError


def _contents(reader: _Reader, *, compressed: bool = False) -> list[Entry]:
    """All entries. The data begins after them.

    Args:
        compressed: whether the data may be compressed; the entries never are.
    """
    version = _header(reader, compressed=compressed)
    return [_entry(reader, version) for _ in range(reader.number())]


def _header(reader: _Reader, *, compressed: bool) -> int:
    """Skip the header; returns the minor version of the format."""
    reader.expect(*MAGIC, 1)
    version = reader.byte()
    reader.byte()
    if version not in KNOWN:
        raise _UnknownError
    reader.expect(4, 8, CUSTOM)  # bytes of a number, bytes of a position
    compression = reader.byte() if version >= 15 else reader.number()
    if compression != UNCOMPRESSED and not compressed:
        raise _UnknownError
    for _ in range(7):  # the time of the dump
        reader.number()
    reader.texts(3)  # database, versions of server and pg_dump
    return version


def _entry(reader: _Reader, version: int) -> Entry:
    identity = reader.number()
    reader.number()  # whether it has data; its position shows that better
    reader.texts(2)  # table's oid, oid
    name, kind, section = reader.string(), reader.string(), reader.number()
    reader.texts(3)  # definition, DROP, COPY
    schema = reader.string()
    reader.texts(2)  # tablespace, access method
    if version >= 16:
        reader.number()  # kind of relation
    reader.texts(2)  # owner, with oids
    needs = tuple(map(_id, iter(reader.string, None)))
    field = reader.position
    state = reader.byte()
    reader.skip(8)
    unset = field if state == NOT_SET else None
    return Entry(identity, kind or b"", section, needs, unset, _shown(name), _shown(schema))


def _shown(text: bytes | None) -> str:
    return (text or b"").replace(b"\n", b" ").replace(b"\r", b" ").decode(errors="replace")


def _id(text: bytes) -> int:
    if not text.isdigit():
        raise _UnknownError
    return int(text)


def _blocks(reader: _Reader, known: set[int], ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each entry's id and the position of its data; the rest of the archive must consist of such blocks."""
    while (position := reader.position) < reader.size:
        kind, identity = reader.byte(), reader.number()
        if identity not in known:
            raise _UnknownError
        if kind == ROWS:
            _skip_rows(reader, ends)
        elif kind == LARGE_OBJECTS:
            _skip_large_objects(reader)
        else:
            raise _UnknownError
        yield identity, position
    if reader.position != reader.size:
        raise _UnknownError


def _skip_rows(reader: _Reader, ends: Sequence[int]) -> None:
    place = bisect_left(ends, reader.position + len(LAST))
    if place == len(ends):
        raise _UnknownError
    reader.go_to(ends[place])


def _skip_large_objects(reader: _Reader) -> None:
    while reader.number():  # an oid; none ends them
        while length := reader.number():
            reader.skip(length)
