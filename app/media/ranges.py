"""The header `Range` of a request for a part of a file (RFC 9110, section 14)."""

import re
from dataclasses import dataclass

# A part is at most this long, and the browser asks for the next one: a slow reader occupies a process only briefly.
LONGEST = 2 * 1024 * 1024
ONE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True)
class Range:
    """The first and the last byte of a response, and whether it is less than the whole file."""

    first: int
    last: int
    is_part: bool


def parse(header: str, size: int) -> Range | None:
    """The wanted bytes of a file. None if the header asks only for bytes beyond its end.

    Anything but a single range of bytes is ignored, as the RFC allows: the response is then the whole file.
    """
    match = ONE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return Range(0, size - 1, is_part=False)
    first, last = match.groups()
    if not first:
        start = max(0, size - int(last))
        return _part(start, size - 1) if int(last) else None
    if int(first) >= size:
        return None
    if last and int(last) < int(first):
        return Range(0, size - 1, is_part=False)
    return _part(int(first), min(int(last or size), size - 1))


def _part(first: int, last: int) -> Range:
    return Range(first, min(last, first + LONGEST - 1), is_part=True)
