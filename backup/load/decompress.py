"""Decompresses a file that a person has compressed as a whole, such as ``pg_dump shop | gzip > shop.sql.gz``."""

import gzip
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import zstandard

from backup.cancellation import Check
from backup.errors import DumpError, SpaceError
from backup.pipeline.source import CHUNK
from sidecar import UsageError

# How such files begin.
_GZIP, _ZSTD, _LZ4 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
# A block of 4 bytes becomes 128 KiB at most: a piece becomes 16 MiB at most, a whole file any size.
_PIECE = 512


def decompressed(file: Path, folder: Path, check: Check) -> Path:
    """The file itself, or what it contains if it is compressed, in a folder.

    Raises:
        UsageError: its compression is not supported.
        OSError: it cannot be read.
        DumpError: it is damaged.
        SpaceError: the folder has no room for its content.
    """
    if file.is_dir():
        return file
    with file.open("rb") as opened:
        beginning = opened.read(4)
    if beginning == _LZ4:
        raise UsageError(f"{file} is compressed with LZ4", hint="decompress it first: lz4 -d FILE")
    if beginning != _ZSTD and not beginning.startswith(_GZIP):
        return file
    plain = folder / "decompressed"
    try:
        _decompress(file, plain, check, is_zstd=beginning == _ZSTD)
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise DumpError(
            f"{file} cannot be decompressed: {error}", hint="copy it whole, or dump again"
        ) from None
    except OSError as error:
        raise SpaceError(
            f"{file} cannot be decompressed into {folder.parent}: {error.strerror}",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        ) from None
    return plain


def _decompress(file: Path, plain: Path, check: Check, *, is_zstd: bool) -> None:
    with file.open("rb") as packed, plain.open("wb") as target:
        for piece in _zstd(packed) if is_zstd else _gzip(packed):
            check()
            target.write(piece)


def _gzip(packed: BinaryIO) -> Iterator[bytes]:
    source = gzip.GzipFile(fileobj=packed)
    return iter(partial(source.read, CHUNK), b"")


def _zstd(packed: BinaryIO) -> Iterator[bytes]:
    """The content of one frame after the other; the last one has to end."""
    frame = None
    while data := packed.read(_PIECE):
        while data:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            yield frame.decompress(data)
            data = frame.unused_data
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("its last frame does not end")
