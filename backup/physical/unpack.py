"""Unpacks the archives of a base backup into a data folder. Anyone who can write to the store may have made them."""

import errno
import os
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Self

from backup.errors import VerificationError

# Where a server looks for tablespaces, by the object id of each.
TABLESPACES = "pg_tblspc"
_HINT = "do not use this base backup; choose another one: python -m backup list"
_PIECE = 1 << 20
# Maximum size of names and attributes that do not fit into a member's header, and the types of such extensions.
_MOST_OF_NAMES = 1 << 16
_NAMING = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
# Errors of the file system for names that contradict each other, or that are not allowed.
_NAMES = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ}


def unpack(stream: IO[bytes], folder: Path, check: Callable[[], None]) -> None:
    """Unpack one archive, which arrives as a stream.

    Args:
        folder: created if it is missing.

    Raises:
        VerificationError: it is not an archive of plain files and folders below its own root, or it is damaged.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Member) as archive:
            for member in archive:
                check()
                _extract(archive, member, folder, check)
                archive.members.clear()  # type: ignore[attr-defined]  # it would keep all of them in memory
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, RecursionError) as error:
        raise VerificationError(f"an archive of the base backup is damaged: {error}", hint=_HINT) from None
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        raise VerificationError(
            f"the base backup contains a name that no data folder has: {error.strerror}", hint=_HINT
        ) from None


class _Member(tarfile.TarInfo):
    """A member whose names are read only up to a size: tarfile reads what precedes a member into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if member.size > _MOST_OF_NAMES and member.type in _NAMING:
            raise tarfile.HeaderError(f"a header of {member.size} bytes")
        return member


def link_tablespaces(data: Path, tablespaces: dict[str, Path]) -> None:
    """Link a data folder to its tablespaces, by their object ids, in other folders than the original's."""
    (data / TABLESPACES).mkdir(mode=0o700, exist_ok=True)
    for oid, place in tablespaces.items():
        link = data / TABLESPACES / oid
        # An empty folder may stand for it in the archive.
        if link.is_dir() and not link.is_symlink():
            link.rmdir()
        link.symlink_to(place.resolve(), target_is_directory=True)


def _extract(
    archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, check: Callable[[], None]
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
    source = archive.extractfile(member)
    assert source is not None
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with source, os.fdopen(handle, "wb") as file:
        while piece := source.read(_PIECE):
            check()
            file.write(piece)
        if file.tell() != member.size:
            raise EOFError(f"{member.name[:200]!r} ends early")


def _inside(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise VerificationError(
            f"the base backup contains {name[:200]!r}, which leads out of its folder", hint=_HINT
        )
    return path
