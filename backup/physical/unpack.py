"""Unpacks the archives of a base backup into a data folder. Anyone who can write to the store may have made them."""

import errno
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Self, cast

from backup.errors import VerificationError
from backup.physical.direct import LEAST, DirectFile

# Where a server looks for tablespaces, by the object id of each.
TABLESPACES = "pg_tblspc"
Written = Callable[[Path, int], object]
_HINT = "do not use this base backup; choose another one: python -m backup list"
_PIECE = 1 << 20
# Maximum size of names and attributes that do not fit into a member's header, and the types of such extensions.
_MAX_NAMES = 1 << 16
_NAMING = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
# Errors of the file system for names that contradict each other, or that are not allowed.
_NAMES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}


def ignore(*_: object) -> None:
    """Do nothing with what is written."""


def unpack(
    stream: IO[bytes],
    folder: Path,
    check: Callable[[], None],
    written: Written = ignore,
    *,
    direct: bool = False,
) -> None:
    """Unpack one archive, which arrives as a stream.

    Args:
        folder: created if it is missing.
        written: called with each file, and its size in bytes, once it is complete.
        direct: write large files past the page cache, for data that is not read again soon.

    Raises:
        VerificationError: it is not an archive of plain files and folders below its own root, or it is damaged.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    source = _Forward(stream)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r:", tarinfo=_Member) as archive:
            for member in archive:
                check()
                _extract(source, member, folder, check, written, direct=direct)
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them in memory
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, RecursionError) as error:
        raise VerificationError(f"an archive of the base backup is damaged: {error}", hint=_HINT) from None
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        raise VerificationError(
            f"the base backup contains a name that no data folder has: {error.strerror}", hint=_HINT
        ) from None


class _Forward:
    """A stream as the file that tarfile expects, although it is read only once. Its own way to read streams copies much."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._rest = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Skip what is before a later position."""
        while self._position < position and self.some(position - self._position):
            pass

    def read(self, size: int) -> bytes:
        """This number of bytes, or fewer at the end."""
        data = b""
        while len(data) < size and (piece := self.some(size - len(data))):
            data += piece
        return data

    def some(self, most: int) -> memoryview:
        """At most this number of bytes, without a copy; empty at the end."""
        if not self._rest:
            self._rest = memoryview(self._stream.read(_PIECE))
        data, self._rest = self._rest[:most], self._rest[most:]
        self._position += len(data)
        return data


class _Member(tarfile.TarInfo):
    """A member whose names are read only up to a size: tarfile reads what precedes a member into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size > _MAX_NAMES and member.type in _NAMING:
            raise tarfile.HeaderError(f"a header of {member.size} bytes")
        return member


def link_tablespaces(data: Path, tablespaces: dict[str, Path]) -> None:
    """Link a data folder to its tablespaces, by their object ids, in folders other than the original's."""
    (data / TABLESPACES).mkdir(mode=0o700, exist_ok=True)
    for oid, place in tablespaces.items():
        link = data / TABLESPACES / oid
        # An empty folder may stand for it in the archive.
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        link.symlink_to(place.resolve(), target_is_directory=True)


def _extract(
    source: _Forward,
    member: tarfile.TarInfo,
    folder: Path,
    check: Callable[[], None],
    written: Written,
    *,
    direct: bool,
) -> None:
    target = folder / _inside(member.name)
    if member.isdir():
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    if member.issym() and PurePosixPath(member.name).parent.name == TABLESPACES:
        return  # it points to a folder of the original host
    # A sparse file may have any size, regardless of the size of the archive.
    if not member.isreg() or member.issparse():
        raise VerificationError(
            f"the base backup contains {member.name[:200]!r}, which is neither a plain file nor a folder",
            hint=_HINT,
        )
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, left = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), member.size
    with DirectFile(handle) if direct and left >= LEAST else os.fdopen(handle, "wb") as file:
        while left and (piece := source.some(left)):
            check()
            file.write(piece)
            left -= len(piece)
    if left:
        raise EOFError(f"{member.name[:200]!r} ends early")
    written(target, member.size)


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise VerificationError(
            f"the base backup contains {name[:200]!r}, which leads out of its folder", hint=_HINT
        )
    return path
