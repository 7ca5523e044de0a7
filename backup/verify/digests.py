"""Digests of a dump as text: one for each table's rows and one for each object's definition.

Dumps of equal databases have equal digests. A digest that differs identifies the object by name.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from backup.load.properties import about_database, created
from backup.postgres.statements import Splitter, simple
from backup.verify.inheritance import Shape, shape
from backup.verify.moved_rows import Routed
from backup.verify.normalize import canonical
from backup.verify.reprinted import settled

HEADER = re.compile(
    rb"-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[^;]*); Schema: (?P<schema>.*?); Owner: (?P<owner>.*)\n"
)
# Lines between two statements that belong to neither.
_NOTHING = re.compile(rb"(?:(?:--)?\n)+")
_COPY_END = b"\\.\n"
_ROWS_FOLLOW = b" FROM stdin;"
# Statements around an object that set up the session for it.
_SETUP = (b"SET default_tablespace = ", b"SET default_table_access_method = ")
# Around a grant that was given by a role other than the owner.
_GRANTOR = (b"SET SESSION AUTHORIZATION ", b"RESET SESSION AUTHORIZATION;")
_LARGE_OBJECTS = "BLOBS"
# Where the next large object begins, and what stands around some of them.
_OPENS, _TRANSACTION = b"SELECT pg_catalog.lo_open(", (b"BEGIN;", b"COMMIT;")
_BAG_BYTES = 16
EXCERPT = 2000
# A dump begins with the properties of the database, under its name, which differs after a restore.
DATABASE = "database"
# Known texts are kept up to this many bytes in all.
KNOWN_BYTES = 64 << 20
_OF_DATABASE = re.compile(r"DATABASE(?: PROPERTIES)?")
_ABOUT_DATABASE = re.compile(r"(?:ACL|COMMENT|SECURITY LABEL)")

Key = tuple[str, str, str]
CREATION: Key = ("DATABASE", "-", DATABASE)


@dataclass(frozen=True)
class Digest:
    """One object of a dump.

    Attributes:
        rows: number of rows, only for a table's data.
        text: the beginning of a definition, or the COPY statement of a table's data.
        shape: of a table that inherits, or may have child tables.
        root: for a partition's data, the table that routes its rows when they are restored.
        bag: digest of such rows regardless of their order and partition, or of large objects regardless of their order.
    """

    sha256: str
    rows: int | None = None
    text: str = ""
    owner: bytes = b""
    shape: Shape | None = None
    root: bytes = b""
    bag: int = 0


Digests: TypeAlias = dict[Key, Digest]


def digests(pieces: Iterable[bytes]) -> Digests:
    """Compute the digests of a plain-text dump that arrives in pieces.

    Returns:
        (type, schema, name) → digest.
    """
    parser = Parser()
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def key_of(header: re.Match[bytes]) -> Key:
    """The object that begins with a :data:`HEADER`."""
    kind, schema, name = (header[part].decode(errors="replace") for part in ("type", "schema", "name"))
    return kind, schema, name


class Rows:
    """The digest of a table's rows that arrive without the rest of a dump; it is equal to the one in the dump.

    Args:
        copy: the statement before the rows in a dump, with its line end.

    Attributes:
        count: how many rows there were, which the caller knows.
    """

    def __init__(self, owner: bytes, copy: bytes) -> None:
        self.count = 0
        self._owner = owner
        self._copy = copy
        self._hash = hashlib.sha256(owner + copy)

    def add(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the rows."""
        self._hash.update(data)

    def digest(self) -> Digest:
        """The digest, once all rows were added."""
        return Digest(self._hash.hexdigest(), self.count, self._copy.decode(errors="replace"), self._owner)


class Known:
    """Objects of one dump with their digests, so that another dump with the same bytes need not be read statement by statement.

    Only whole texts are compared: from the header of an object up to that of the next one. How a text is read depends on
    nothing before it, so the same text has the same digest.
    """

    def __init__(self, limit: int = KNOWN_BYTES) -> None:
        self._objects: dict[bytes, tuple[bytes, Key, Digest]] = {}
        self._room = limit

    def add(self, header: bytes, text: bytes, key: Key, digest: Digest) -> None:
        """Take an object, as long as there is room.

        Args:
            text: all lines from the header on, up to the next header.
        """
        if len(text) <= self._room:
            self._room -= len(text)
            self._objects[header] = text, key, digest

    def at(self, header: bytes, data: bytes, position: int) -> tuple[int, Key, Digest] | None:
        """The object at a position, with the position of the next one; None unless its whole text is the same."""
        if header not in self._objects:
            return None
        text, key, digest = self._objects[header]
        end = position + len(text)
        # Where the other text continues, this one has to end.
        return (end, key, digest) if data.startswith(text, position) and HEADER.match(data, end) else None


class Parser:
    """Computes the digests of a plain-text dump whose pieces are fed to it.

    It reads definitions line by line, and rows in large pieces, because most of a dump is rows.

    Args:
        known: objects that were read before; those that lie within one piece are added to it.
    """

    def __init__(self, known: Known | None = None) -> None:
        self._found: Digests = {}
        self._rest = b""
        self._object: _Object | None = None
        self._known = known or Known()
        # Where the object begins in the piece; -1 if it began in an earlier one.
        self._began = -1
        # The name of the database, as statements quote it.
        self._database = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        data = self._rest + piece if self._rest else piece
        position = 0
        while position < len(data):
            current = self._object
            if current is not None and current.in_rows:
                end = current.take_rows(data, position)
            elif current is None or current.between:
                end = self._take_statement(data, position)
            else:
                end = self._take_line(data, position)
            if end == position:
                break
            position = end
        self._rest = data[position:]
        self._began = -1

    def finish(self) -> Digests:
        """The digests, once the whole dump was fed."""
        if self._rest:
            self._line(self._rest, 0, self._rest)
        self._close()
        return self._found

    def _take_statement(self, data: bytes, position: int) -> int:
        """Take what needs no reading line by line: what lies between two statements, or a simple statement."""
        if blank := _NOTHING.match(data, position):
            return blank.end()
        current = self._object
        statement = (
            simple(data, position) if current is not None and current.key[0] != _LARGE_OBJECTS else None
        )
        if statement is None or current is None:
            return self._take_line(data, position)
        current.statements([statement])
        return position + len(statement) + 1

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        return self._line(data, position, data[position:end]) if end else position

    def _line(self, data: bytes, position: int, line: bytes) -> int:
        """Take a line at a position; returns the position after what was taken."""
        header = HEADER.fullmatch(line) if line.startswith(b"-- ") and self._may_begin() else None
        if header is not None:
            self._close(data[self._began : position] if self._began >= 0 else b"")
            if known := self._known.at(line, data, position):
                self._add(*known[1:])
                return known[0]
            self._object, self._began = _Object(header), position
        elif self._object is not None:
            self._object.line(line)
        return position + len(line)

    def _may_begin(self) -> bool:
        """A line that looks like a header inside a string belongs to that string."""
        return self._object is None or self._object.between

    def _close(self, text: bytes = b"") -> None:
        """End the object.

        Args:
            text: all of its lines, if they are there.
        """
        if self._object is None:
            return
        current = self._object
        if current.of_database:
            # The rest of these depends on the name, which another object states.
            self._database, text = current.forget_name(self._database), b""
        digest = current.digest()
        if text:
            self._known.add(current.header, text, current.key, digest)
        self._add(current.key, digest)
        self._object = None

    def _add(self, key: Key, digest: Digest) -> None:
        name, number = key[2], 2
        # Overloaded functions differ in their names; other duplicates are numbered.
        while key in self._found:
            key, number = (*key[:2], f"{name} #{number}"), number + 1
        self._found[key] = digest


class _Object:
    def __init__(self, header: re.Match[bytes]) -> None:
        self.header = header[0]
        self.key = key_of(header)
        self.in_rows = False
        self._within_row = False
        self._rows: int | None = None
        self._owner = header["owner"]
        self._hash = hashlib.sha256(self._owner)
        self._text = bytearray()
        self._routed: Routed | None = None
        # The large object that is being read, and how many lines of it were read.
        self._one, self._lines = hashlib.sha256(), 0
        self._bag = 0
        self._definition: list[bytes] = []
        self._splitter = Splitter()

    @property
    def between(self) -> bool:
        """Whether no statement is open."""
        return self._splitter.between

    @property
    def of_database(self) -> bool:
        """Whether the object belongs to the database as a whole."""
        kind, _, name = self.key
        about = _ABOUT_DATABASE.fullmatch(kind) and name.startswith("DATABASE ")
        return bool(_OF_DATABASE.fullmatch(kind) or about)

    def forget_name(self, database: bytes) -> bytes:
        """Replace the database's name in key and statements with a fixed one; returns the original name."""
        database = next(filter(None, map(created, self._definition)), database)
        kind, schema, name = self.key
        about = about_database(database) if database else None
        self.key = kind, schema, f"DATABASE {DATABASE}" if name.startswith("DATABASE ") else DATABASE
        new = DATABASE.encode()
        kept = []
        for statement in self._definition:
            if created(statement):
                kept.append(statement.replace(database, new, 1))
            elif statement.startswith(_GRANTOR):
                kept.append(statement)
            elif about and (match := about.match(statement)):
                kept.append(match[1] + new + statement[match.end() :])
        # The rest sets up the session for the next objects.
        self._definition = kept
        return database

    def line(self, line: bytes) -> None:
        if self.key[0] != _LARGE_OBJECTS:
            self.statements(self._splitter.line(line))
        elif not line.startswith((b"--", b"\\")) and line.strip():
            # Large objects are data: a report shows no part of them, and they may exceed the memory.
            if line.startswith(_OPENS):
                self._end_large_object()
            if not line.startswith(_TRANSACTION):
                self._one.update(line)
                self._lines += 1

    def _end_large_object(self) -> None:
        if self._lines:
            digest = self._one.digest()
            self._hash.update(digest)
            self._bag = (self._bag + int.from_bytes(digest[:_BAG_BYTES], "big")) % (1 << 8 * _BAG_BYTES)
            self._one, self._lines = hashlib.sha256(), 0

    def statements(self, ended: list[bytes]) -> None:
        """Take statements that have ended."""
        if self.key[0] == "TABLE DATA" and ended and ended[-1].endswith(_ROWS_FOLLOW):
            self._begin_rows(ended[-1] + b"\n")
        else:
            self._definition += ended

    def _begin_rows(self, copy: bytes) -> None:
        self._take(copy)
        self.in_rows, self._within_row, self._rows = True, False, 0
        self._routed = Routed.of(copy, *self.key[1:])

    def _take(self, text: bytes) -> None:
        self._hash.update(text)
        if len(self._text) < EXCERPT:
            self._text += text

    def take_rows(self, data: bytes, position: int) -> int:
        """Take rows up to the end mark, or all there is; returns the position after them.

        The last row may be incomplete: to wait for its end would copy each piece, and a row of a gigabyte many times.
        """
        assert self._rows is not None
        if not self._within_row and data.startswith(_COPY_END, position):
            self.in_rows = False
            return position + len(_COPY_END)
        mark = _end_of_rows(data, position)
        end = mark + 1 if mark >= 0 else self._before_mark(data, position)
        if end == position:
            return position
        rows = memoryview(data)[position:end]
        self._hash.update(rows)
        self._rows += data.count(b"\n", position, end)
        self._within_row = not data.endswith(b"\n", position, end)
        if self._routed:
            self._routed.add(bytes(rows))
        return end

    def _before_mark(self, data: bytes, position: int) -> int:
        """The end of the data, or where its last line begins if that may become the end mark."""
        line = data.rfind(b"\n", position) + 1
        if line == 0:
            if self._within_row:
                return len(data)
            line = position
        return line if _COPY_END.startswith(data[line : line + len(_COPY_END)]) else len(data)

    def digest(self) -> Digest:
        if self.key[0] == _LARGE_OBJECTS:
            self._end_large_object()
        own = [statement for statement in self._definition if not statement.startswith(_SETUP)]
        rest = self._splitter.rest()
        own = [canonical(each) for each in ([*own, rest] if rest.strip() else own)]
        if self.key[0] == "DATABASE PROPERTIES":
            own.sort()  # the settings of several roles come in the order in which the server happens to find them
        definition = b"\n".join(own)
        self._take(settled(self.key[0], definition))
        return Digest(
            self._hash.hexdigest(),
            self._rows,
            bytes(self._text).decode(errors="replace"),
            self._owner,
            shape(self._owner, own) if self.key[0] == "TABLE" else None,
            self._routed.root if self._routed else b"",
            self._routed.bag if self._routed else self._bag,
        )


def _end_of_rows(data: bytes, position: int) -> int:
    """The position of the line end before the end mark; -1 if it is not in the data.

    Most rows have no backslash at all, and one byte is found several times as fast as four. From the end, which has a
    simpler search, four are found twice as fast; only the last piece of a table has any.
    """
    backslash = data.find(b"\\", position)
    begin = max(position, backslash - 1)
    mark = b"\n" + _COPY_END
    if backslash < 0 or data.rfind(mark, begin) < 0:
        return -1
    return data.find(mark, begin)


def compare(expected: Digests, found: Digests) -> Iterator[tuple[Key, str, str]]:
    """Each key whose digests differ, with descriptions of what was expected and found."""
    for key in sorted({*expected, *found}):
        dumped, restored = expected.get(key), found.get(key)
        if dumped is None or restored is None:
            yield key, _existence(dumped), _existence(restored)
        elif dumped.sha256 != restored.sha256:
            yield key, *_describe(dumped, restored)


def with_large_objects_together(found: Digests) -> Digests:
    """The digests with one for all large objects: ``pg_dump`` groups them by owner and rights since PostgreSQL 17."""
    grouped = [digest for key, digest in found.items() if key[0] == _LARGE_OBJECTS]
    rest = {key: digest for key, digest in found.items() if key[0] != _LARGE_OBJECTS}
    if grouped:
        bag = sum(each.bag for each in grouped) % (1 << 8 * _BAG_BYTES)
        rest[_LARGE_OBJECTS, "-", "large objects"] = Digest(f"{bag:032x}")
    return rest


def routed_otherwise(expected: Digests, found: Digests) -> list[Key]:
    """Rows of partitions that only the first dump has as rows of the whole table, as with ``--load-via-partition-root``."""
    return [key for key, each in expected.items() if each.root and key in found and not found[key].root]


def _existence(digest: Digest | None) -> str:
    if digest is None:
        return "nothing"
    return "an object" if digest.rows is None else f"{digest.rows} rows"


def _describe(expected: Digest, found: Digest) -> tuple[str, str]:
    if expected.rows is not None and expected.rows != found.rows:
        return f"{expected.rows} rows", f"{found.rows} rows"
    if expected.rows is None and expected.text != found.text:
        return _first_difference(expected.text, found.text)
    return f"digest {expected.sha256}", f"digest {found.sha256}"


def _first_difference(expected: str, found: str) -> tuple[str, str]:
    mine, theirs = expected.split("\n"), found.split("\n")
    for left, right in zip(mine, theirs, strict=False):
        if left != right:
            shown = left.strip(), right.strip()
            return shown if shown[0] != shown[1] else (repr(left), repr(right))
    longer = mine[len(theirs) :] or theirs[len(mine) :]
    line = next((line.strip() for line in longer if line.strip()), "an empty line")
    return (line, "nothing") if len(mine) > len(theirs) else ("nothing", line)
