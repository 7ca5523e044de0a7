"""Decides whether a backup can be verified here. What this host lacks is reported as such, and not as damage to the backup.

The manifest is compared before anything is downloaded. The rest shows only in the errors of a restore, such as a missing
library, dictionary or locale.
"""

import ctypes
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from backup.catalogue.manifest import Manifest, Server
from backup.catalogue.records import Difference
from backup.errors import PreflightError
from backup.load.space import room
from backup.programs import Programs
from sidecar.humanize import size

# What a verification on a configured server runs, and one on a throwaway server.
CLIENT_PROGRAMS = ("pg_restore", "pg_dump", "pg_dumpall")
SERVER_PROGRAMS = ("initdb", "postgres", *CLIENT_PROGRAMS)
# Disk space for the archive and the restored database with its indexes, as a multiple of the plain size.
SPACE_FACTOR = 3.0
# The same for the archive alone, if another server restores it.
ARCHIVE_FACTOR = 1.1
_MAJOR = re.compile(r"(\d+)")
_VERSION = re.compile(r"(\d+)\.(\d+)")
# Errors of a host that lacks something, by what it lacks.
_PLACE: dict[str, re.Pattern[str]] = {
    "an extension or library is missing here": re.compile(
        r"could not open extension control file|extension \"[^\"]+\" is not available|has no installation script"
        r"|could not (?:access|load) (?:file|library) \"|could not find function \"[^\"]+\" in file|incompatible library"
    ),
    "a library must be loaded when the server starts: set BACKUP_VERIFY_OPTIONS": re.compile(
        r"must be loaded via|can only create extension in database|shared_preload_libraries"
    ),
    "a dictionary's file is missing here": re.compile(
        r"could not open [\w -]*file \"[^\"]*(?:tsearch|\.(?:dict|affix|stop|syn|ths|rules))"
    ),
    "a locale or collation is missing here": re.compile(
        r"could not create locale|collation \"[^\"]+\" for encoding|ICU is not supported|invalid (?:ICU )?locale|could not open collator"
    ),
    "the server's programs are newer than those here": re.compile(
        r"unsupported version \(|unrecognized parameter \""
    ),
    "the value of a setting, such as a locale or a time zone, is unknown here": re.compile(
        r"invalid value for parameter \"|unrecognized configuration parameter \""
    ),
    "a tablespace is missing here": re.compile(r"tablespace \"[^\"]+\" does not exist"),
}
# The part that a throwaway server adds to the folder's path, and the longest socket path on Linux.
_SOCKET = "/posthub-verify-12345678/pg/.s.PGSQL.5432"
MAX_SOCKET = 107
_RESTORING = frozenset({"restore", "globals", "settings"})


def beforehand(
    manifest: Manifest, programs: Programs, folder: Path | None, *, given: bool, floor: float = 0.0
) -> list[str]:
    """Why a backup of PostgreSQL cannot be verified here, as far as is known before anything is downloaded.

    Args:
        folder: the folder in which the restore would use space.
        given: whether the server is a configured one, which :mod:`backup.verify.configured` asks.
        floor: see :func:`no_room`.
    """
    if lacks := list(missing(programs, CLIENT_PROGRAMS if given else SERVER_PROGRAMS)):
        return lacks
    factor = ARCHIVE_FACTOR if given else SPACE_FACTOR
    return [
        *_programs(manifest, programs),
        *([] if given else _extensions(manifest, programs)),
        *([] if given else too_long(folder)),
        *no_room(int(manifest.raw_bytes * factor), folder, floor),
    ]


def missing(programs: Programs, names: Iterable[str]) -> Iterator[str]:
    """A description if programs are missing here."""
    if lacks := [name for name in names if not programs.has(name)]:
        yield f"programs are missing here: {', '.join(lacks)}: install them, or set {programs.variable} to their folder"


def afterwards(differences: Sequence[Difference], suspicions: Iterable[str]) -> list[str]:
    """Why differences prove nothing about the backup; empty if they do.

    Args:
        suspicions: how this host differs from the original; they count if the restore itself had errors.
    """
    if any(each.kind == "object" for each in differences):
        return []
    errors = [each.found for each in differences if each.kind in _RESTORING]
    reasons = [why for why, pattern in _PLACE.items() if any(map(pattern.search, errors))]
    return [*reasons, *(suspicions if errors else ())]


def suspicions(server: Server, programs: Programs, program: str = "postgres") -> Iterator[str]:
    """How the programs here are older than the original server.

    Args:
        program: one that is used here; a host that verifies on another server needs no server programs.
    """
    here = programs.version(program)
    mine, theirs = _VERSION.match(here), _VERSION.match(server.version)
    if mine and theirs and mine[1] == theirs[1] and int(mine[2]) < int(theirs[2]):
        yield f"the server was PostgreSQL {server.version}, the programs here are {here}: update them"


def no_room(needed: int, folder: Path | None, floor: float = 0.0) -> Iterator[str]:
    """A description if a disk has too little space.

    Args:
        floor: the share of the disk, in percent, that must stay free.
    """
    place = folder or Path(tempfile.gettempdir())
    if place.is_dir() and room(place, floor) < needed:
        kept = f", of which {floor:g}% of the disk must stay free" if floor else ""
        free = size(shutil.disk_usage(place).free)
        yield f"it needs about {size(needed)} in {place}, but only {free} is free{kept}: set BACKUP_WORK_DIR"


def too_long(folder: Path | None) -> Iterator[str]:
    """A description if a folder's path is too long for the throwaway server's socket."""
    place = folder or Path(tempfile.gettempdir())
    over = len(os.fsencode(place.absolute())) + len(_SOCKET) - MAX_SOCKET
    if over > 0:
        yield f"the path {place} is {over} bytes too long for the socket of a server: set BACKUP_WORK_DIR"


def missing_locales(server: Server) -> list[str]:
    """Locales of the C library that a database needs and this host does not have."""
    if server.locale_provider != "c":
        return []
    return [name for name in dict.fromkeys((server.collate, server.ctype)) if not _locale_exists(name)]


def _locale_exists(name: str) -> bool:
    library = ctypes.CDLL(None)
    library.newlocale.restype = ctypes.c_void_p
    library.freelocale.argtypes = [ctypes.c_void_p]
    found = library.newlocale(1 << 3 | 1 << 0, name.encode(), None)  # LC_COLLATE and LC_CTYPE
    if found:
        library.freelocale(found)
    return bool(found)


def _programs(manifest: Manifest, programs: Programs) -> Iterator[str]:
    wrote = _MAJOR.search(manifest.client)
    here = programs.version("pg_restore")
    if wrote and int(wrote[1]) > programs.major("pg_restore"):
        yield (
            f"the archive was written by pg_dump {manifest.client}, pg_restore here is {here}: install PostgreSQL"
            f" {wrote[1]}'s programs, or set BACKUP_POSTGRES_BIN"
        )


def _extensions(manifest: Manifest, programs: Programs) -> Iterator[str]:
    try:
        folder = programs.extension_folder()
    except PreflightError:
        return  # the server's start will show it
    missing = [each.name for each in manifest.extensions if not (folder / f"{each.name}.control").exists()]
    if missing:
        yield f"extensions are missing here: {', '.join(missing)}: install them next to {folder}"
