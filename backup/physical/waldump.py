"""Prints records of the WAL with ``pg_waldump``, which is confined: anyone who can write to the store may have written the WAL."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from backup.confinement import Confinement
from backup.errors import DumpError, VerificationError
from backup.physical.records import Record, parse
from backup.pipeline import ChildSource
from backup.programs import Programs, clean_environment

# How pg_waldump reports the end of the WAL: something that is not a record, or a missing file.
_END = re.compile(
    r"error in WAL record at|could not (?:find|open|locate).*file|could not find a valid record"
)
MANAGERS = ("Transaction", "Database")


def printed(
    programs: Programs,
    wal: Path,
    files: Sequence[str],
    folder: Path,
    check: Callable[[], None],
    managers: Sequence[str] = MANAGERS,
) -> Iterator[Record]:
    """The records of some resource managers in files of the WAL that follow each other.

    Args:
        wal: the folder of the files.
        files: their names, in order.
        folder: a private folder; the program may write only there.

    Raises:
        VerificationError: the program cannot read the WAL.
    """
    command = [
        programs.path("pg_waldump"),
        f"--path={wal}",
        *(f"--rmgr={name}" for name in managers),
        files[0],
        files[-1],
    ]
    source = ChildSource(
        command,
        env=clean_environment(),
        hint="run: python -m backup doctor",
        confinement=Confinement(folder, (wal,)),
        check=check,
    )
    with source:
        yield from parse(_lines(source))


def _lines(source: ChildSource) -> Iterator[str]:
    rest = b""
    try:
        while piece := source.read():
            *whole, rest = (rest + piece).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
    except DumpError as error:
        if error.killed or not _END.search(error.message):
            raise VerificationError(f"the WAL cannot be printed: {error.message}", hint=error.hint) from None
    yield rest.decode(errors="replace")
