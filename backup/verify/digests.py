"""Digests of a dump as text: one for each table's rows and one for each object's definition.

Dumps of equal databases have equal digests. A digest that differs identifies the object by name.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from backup.verify.normalize import canonical

HEADER = re.compile(
    rb"-- (?:Data for )?Name: (?P<name>.*); Type: (?P<type>[^;]*); Schema: (?P<schema>[^;]*); Owner: (?P<owner>.*)\n"
)
_COPY_END = b"\\.\n"
# Session settings around an object, and tokens that differ in each dump. The same text within an object is part of it.
_NOISE = (
    b"\\restrict",
    b"\\unrestrict",
    b"SET default_tablespace",
    b"SET default_table_access_method",
    b"--",
)
EXCERPT = 2000

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Digest:
    """One object of a dump.

    Attributes:
        rows: number of rows, for a table's data only.
        text: the beginning of a definition; for a table's data, the COPY statement.
    """

    sha256: str
    rows: int | None = None
    text: str = ""
    owner: bytes = b""


def digests(pieces: Iterable[bytes]) -> dict[Key, Digest]:
    """Compute the digests of a plain-text dump that arrives in pieces.

    Returns:
        (type, schema, name) → digest.
    """
    parser = _Parser()
    for piece in pieces:
        parser.feed(piece)
    return parser.finish()


def key_of(header: re.Match[bytes]) -> Key:
    """The object that begins with a :data:`HEADER`."""
    kind, schema, name = (header[part].decode(errors="replace") for part in ("type", "schema", "name"))
    return kind, schema, name


class _Parser:
    """Reads definitions line by line, and rows in large pieces, because most of a dump is rows."""

    def __init__(self) -> None:
        self._found: dict[Key, Digest] = {}
        self._rest = b""
        self._object: _Object | None = None

    def feed(self, piece: bytes) -> None:
        data = self._rest + piece if self._rest else piece
        position = 0
        while position < len(data):
            if self._object is not None and self._object.in_rows:
                end = self._object.take_rows(data, position)
            else:
                end = self._take_line(data, position)
            if end == position:
                break
            position = end
        self._rest = data[position:]

    def finish(self) -> dict[Key, Digest]:
        if self._rest:
            self._line(self._rest)
        self._close()
        return self._found

    def _take_line(self, data: bytes, position: int) -> int:
        end = data.find(b"\n", position) + 1
        if end == 0:
            return position
        self._line(data[position:end])
        return end

    def _line(self, line: bytes) -> None:
        header = HEADER.fullmatch(line) if line.startswith(b"-- ") else None
        if header is not None:
            self._close()
            self._object = _Object(header)
        elif self._object is not None:
            self._object.line(line)

    def _close(self) -> None:
        if self._object is None:
            return
        key, number = self._object.key, 2
        # Overloaded functions differ in their names; any other duplicate gets a number.
        while key in self._found:
            key, number = (*self._object.key[:2], f"{self._object.key[2]} #{number}"), number + 1
        self._found[key] = self._object.digest()
        self._object = None


class _Object:
    def __init__(self, header: re.Match[bytes]) -> None:
        self.key = key_of(header)
        self.in_rows = False
        self._rows: int | None = None
        self._owner = header["owner"]
        self._hash = hashlib.sha256(self._owner)
        self._text = bytearray()
        self._definition: list[bytes] = []

    def line(self, line: bytes) -> None:
        kind = self.key[0]
        if kind == "TABLE DATA" and line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
            self._take(line)
            self.in_rows, self._rows = True, 0
        elif kind != "BLOBS":
            self._definition.append(line)
        elif not _is_noise(line):
            self._take(line)  # large objects are not definitions, and may be larger than memory

    def _take(self, text: bytes) -> None:
        self._hash.update(text)
        if len(self._text) < EXCERPT:
            self._text += text

    def take_rows(self, data: bytes, position: int) -> int:
        """Take rows up to the end mark or the last complete line; returns the position after them."""
        assert self._rows is not None
        if data.startswith(_COPY_END, position):
            self.in_rows = False
            return position + len(_COPY_END)
        mark = data.find(b"\n" + _COPY_END, position)
        end = (mark if mark >= 0 else data.rfind(b"\n", position)) + 1
        if end <= position:
            return position
        rows = memoryview(data)[position:end]
        self._hash.update(rows)
        self._rows += data.count(b"\n", position, end)
        return end

    def digest(self) -> Digest:
        self._take(canonical(b"".join(_without_noise_around(self._definition))))
        return Digest(
            self._hash.hexdigest(), self._rows, bytes(self._text).decode(errors="replace"), self._owner
        )


def _is_noise(line: bytes) -> bool:
    return not line.strip() or line.startswith(_NOISE)


def _without_noise_around(lines: list[bytes]) -> list[bytes]:
    own = [number for number, line in enumerate(lines) if not _is_noise(line)]
    return lines[own[0] : own[-1] + 1] if own else []


def compare(expected: dict[Key, Digest], found: dict[Key, Digest]) -> Iterator[tuple[Key, str, str]]:
    """Each key whose digests differ, with descriptions of what was expected and found."""
    for key in sorted({*expected, *found}):
        one, other = expected.get(key), found.get(key)
        if one is None or other is None:
            yield key, _existence(one), _existence(other)
        elif one.sha256 != other.sha256:
            yield key, *_describe(one, other)


def _existence(digest: Digest | None) -> str:
    return "nothing" if digest is None else "it exists"


def _describe(expected: Digest, found: Digest) -> tuple[str, str]:
    if expected.rows is not None and expected.rows != found.rows:
        return f"{expected.rows} rows", f"{found.rows} rows"
    if expected.rows is None and expected.text != found.text:
        return _first_difference(expected.text, found.text)
    return f"digest {expected.sha256}", f"digest {found.sha256}"


def _first_difference(expected: str, found: str) -> tuple[str, str]:
    mine, theirs = expected.split("\n"), found.split("\n")
    for one, other in zip(mine, theirs, strict=False):
        if one != other:
            shown = one.strip(), other.strip()
            return shown if shown[0] != shown[1] else (repr(one), repr(other))
    longer = mine[len(theirs) :] or theirs[len(mine) :]
    line = longer[0].strip() or "an empty line"
    return (line, "nothing") if len(mine) > len(theirs) else ("nothing", line)
