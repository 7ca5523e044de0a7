"""Checks videos while they are streamed, so that neither memory nor a disk has to hold one.

A video is an MP4 file: a sequence of boxes, each with its size, a type of four letters and a content (ISO/IEC 14496-12).
`ftyp` comes first and names the format, `moov` describes the tracks, `mdat` contains pictures and sound.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

CONTENT_TYPE = "video/mp4"
MAX_BYTES = 128 * 1024 * 1024
# Boxes whose contents are kept in memory, and the number of bytes that they may have. A video of seconds needs kilobytes.
KEPT = {b"ftyp": 4096, b"moov": 2 * 1024 * 1024}
BRANDS = {b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1", b"M4V ", b"dash"}
NAMES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \xa9-_"
FIXED = 65536


class InvalidVideoError(Exception):
    """The bytes are not a video that this app accepts. The message says why."""


@dataclass(frozen=True)
class Facts:
    """Properties of a video that has passed: pixels, seconds, bytes, and the SHA-256 digest of the bytes."""

    width: int
    height: int
    seconds: float
    size: int
    digest: str


class Inspector:
    """Passes the chunks of a video on, and raises as soon as they cannot be one.

    `facts` has the properties after the last chunk.
    """

    def __init__(self) -> None:
        self._size, self._digest = 0, hashlib.sha256()
        # What comes next: the rest of a header or of a content that is kept (in the buffer), or bytes to skip.
        self._buffer, self._skip, self._keep = bytearray(), 0, 0
        self._types: list[bytes] = []
        self._kept: dict[bytes, bytes] = {}

    def passing(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks, unchanged. The last one comes only after the whole file has been found valid.

        Raises:
            InvalidVideoError: too large, of the wrong type, damaged or incomplete.
        """
        held: bytes | None = None
        for chunk in chunks:
            self._take(chunk)
            if held is not None:
                yield held
            held = chunk
        self._end()
        if held is not None:
            yield held

    @property
    def facts(self) -> Facts:
        moov = self._kept[b"moov"]
        return Facts(*_dimensions(moov), _seconds(moov), self._size, self._digest.hexdigest())

    def _take(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > MAX_BYTES:
            raise InvalidVideoError(f"the video has more than {MAX_BYTES} bytes")
        self._digest.update(chunk)
        view = memoryview(chunk)
        while view:
            if self._skip:
                passed = min(self._skip, len(view))
                self._skip -= passed
                view = view[passed:]
            else:
                view = self._collect(view)

    def _collect(self, view: memoryview) -> memoryview:
        """Read a box's header, or a content that is kept. Returns the rest."""
        wanted = self._keep or self._header_size()
        take = min(wanted - len(self._buffer), len(view))
        self._buffer += view[:take]
        if len(self._buffer) == (self._keep or self._header_size()):
            content = bytes(self._buffer)
            self._buffer.clear()
            if self._keep:
                self._close_kept(content)
            else:
                self._open_box(content)
        return view[take:]

    def _header_size(self) -> int:
        """8 bytes, or 16 if the size is one of 64 bits."""
        return 16 if bytes(self._buffer[:4]) == b"\0\0\0\1" else 8

    def _open_box(self, header: bytes) -> None:
        kind = header[4:8]
        size = struct.unpack(">Q", header[8:])[0] if len(header) == 16 else struct.unpack(">I", header[:4])[0]
        content = size - len(header)
        if (kind == b"ftyp") == bool(self._types):
            raise InvalidVideoError("the file is not an MP4 video")
        if content < 0 or any(letter not in NAMES for letter in kind):
            raise InvalidVideoError("the video is damaged")
        self._types.append(kind)
        if kind in KEPT and content > KEPT[kind]:
            raise InvalidVideoError(f"a description in the video has {content} bytes, more than {KEPT[kind]}")
        self._keep, self._skip = (content, 0) if kind in KEPT else (0, content)

    def _close_kept(self, content: bytes) -> None:
        kind, self._keep = self._types[-1], 0
        self._kept[kind] = content
        # The main format, four bytes of its version, and the formats that are compatible with it.
        if kind == b"ftyp" and not {content[at : at + 4] for at in range(0, len(content), 4)} & BRANDS:
            raise InvalidVideoError("the file is not an MP4 video")

    def _end(self) -> None:
        if not self._size:
            raise InvalidVideoError("the video is empty")
        if self._skip or self._keep or self._buffer:
            raise InvalidVideoError("the video is incomplete")
        moov = self._kept.get(b"moov", b"")
        if b"mdat" not in self._types or not min(_dimensions(moov)) or _seconds(moov) <= 0:
            raise InvalidVideoError("the file contains no video track")


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The boxes in a box, by type. A size that does not fit ends the list."""
    start = 0
    while start + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8 or start + size > len(content):
            return
        yield kind, content[start + 8 : start + size]
        start += size


def _seconds(moov: bytes) -> float:
    """The duration in the movie header, in version 0 or 1 of its format."""
    for kind, content in _boxes(moov):
        if kind == b"mvhd":
            layout, at = (">IQ", 20) if content[:1] == b"\1" else (">II", 12)
            if len(content) >= at + struct.calcsize(layout):
                scale, duration = struct.unpack_from(layout, content, at)
                return float(duration) / scale if scale else 0.0
    return 0.0


def _dimensions(moov: bytes) -> tuple[int, int]:
    """Width and height of the largest track. Tracks of sound have none."""
    found = [(0, 0)]
    for kind, track in _boxes(moov):
        for name, header in _boxes(track) if kind == b"trak" else ():
            # The last eight bytes of a track header, as 16.16 fixed-point numbers.
            if name == b"tkhd" and len(header) >= 84:
                width, height = struct.unpack(">II", header[-8:])
                found.append((width // FIXED, height // FIXED))
    return max(found)
