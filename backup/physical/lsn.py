"""Positions in the write-ahead log (LSNs) and the segments that contain them. Pure.

A position is an ``int``: the number of bytes since the beginning of the WAL. A segment is a file of
``wal_segment_size`` bytes; segment ``n`` contains the positions from ``n * size`` on. A timeline is a positive ``int``
below 2^32: a branch of the WAL, which a promotion begins. Names and texts are in PostgreSQL's formats.
"""

import re

# The largest position and timeline that PostgreSQL supports.
MAX_POSITION = 2**64 - 1
MAX_TIMELINES = 2**32 - 1
MIN_SEGMENT = 1 << 20
MAX_SEGMENT = 1 << 30
_TEXT = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})", re.ASCII)
_SEGMENT = re.compile(r"([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})", re.ASCII)
_LOG = 1 << 32


def parse(text: str) -> int:
    """The position that PostgreSQL writes as ``1A/3000060``.

    Raises:
        ValueError: the text is not a position.
    """
    found = _TEXT.fullmatch(text.upper())
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a position in the WAL, such as 0/3000060")
    return int(found[1], 16) << 32 | int(found[2], 16)


def text(position: int) -> str:
    """A position as PostgreSQL writes it.

    Raises:
        ValueError: it is out of bounds.
    """
    if not 0 <= position <= MAX_POSITION:
        raise ValueError(f"{position} is not a position in the WAL")
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def checked_size(size: int) -> int:
    """A segment size in bytes.

    Raises:
        ValueError: PostgreSQL has no segments of this size.
    """
    if not MIN_SEGMENT <= size <= MAX_SEGMENT or size & (size - 1):
        raise ValueError(f"{size} bytes is not a size of WAL segments: a power of two from 1 MiB to 1 GiB")
    return size


def segment_of(position: int, size: int) -> int:
    """The number of the segment that contains a position."""
    return position // size


def segment_start(position: int, size: int) -> int:
    """The first position of the segment that contains a position."""
    return position - position % size


def segment_end(position: int, size: int) -> int:
    """The first position after the segment that contains a position."""
    return segment_start(position, size) + size


def segment_name(timeline: int, segment: int, size: int) -> str:
    """The file name of a segment: 24 hexadecimal digits."""
    each = segments_of_log(size)
    return f"{timeline:08X}{segment // each:08X}{segment % each:08X}"


def segments_of_log(size: int) -> int:
    """The number of segments whose names have the same middle third."""
    return _LOG // size


def parse_segment(name: str, size: int) -> tuple[int, int]:
    """Timeline and number of the segment with a file name.

    Raises:
        ValueError: no segment of this size has the name.
    """
    found = _SEGMENT.fullmatch(name)
    each = segments_of_log(size)
    if found is None or int(found[3], 16) >= each or int(found[1], 16) == 0:
        raise ValueError(f"{name[:40]!r} is not the name of a WAL segment of {size} bytes")
    return int(found[1], 16), int(found[2], 16) * each + int(found[3], 16)


def history_name(timeline: int) -> str:
    """The file name of a timeline's history."""
    return f"{timeline:08X}.history"
