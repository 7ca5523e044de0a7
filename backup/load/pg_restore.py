"""Loads an archive into a server with pg_restore.

This module lists the errors that can be ignored; docs/restore.md gives the reasons. An error is listed only if it is
known to leave the database unchanged, never because it is frequent. The comparison checks the result in any case.
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.cancellation import Check, never
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import OURS, VerificationError
from backup.load.definitions import create_at_once
from backup.load.execution import differences
from backup.pipeline.child import Ended, run_child
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.programs import Programs, clean_environment

log = logging.getLogger(__name__)

IGNORABLE: dict[str, re.Pattern[str]] = {
    "pg_dump is newer than the server and sets a timeout that the server does not know": re.compile(
        r'unrecognized configuration parameter "(?:transaction_timeout|idle_session_timeout)"'
    ),
    "every new database has this schema": re.compile(r'schema "public" already exists'),
    "every new database has this extension": re.compile(
        r'extension "plpgsql" already exists|must be owner of extension plpgsql'
    ),
}
_BEGINNING = re.compile(r"pg_restore: |(?:ERROR|FATAL|PANIC|WARNING|NOTICE|INFO): ")
_ERROR = re.compile(r"pg_restore: error: |(?:ERROR|FATAL|PANIC): ")
# Where the server quotes a value that it cannot read: at the end of a message, or as a value out of range.
_VALUE = re.compile(r'(?<=: )".*"$|(?<=\bvalue )".*"(?= is out of range)', re.DOTALL)
_IGNORED = re.compile(r"errors ignored on restore: (?P<count>\d+)")
_COMMAND = "Command was: "
MAX_COMMAND = 200
_GAP = re.compile(r"\(\d+ lines are left out\)")
# Entries that are restored last: a trigger that exists earlier records, or refuses, the statements of the restore.
_EVENT_TRIGGER = re.compile(rb"\d+; \d+ \d+ (?:EVENT TRIGGER - |(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER )")
# From this number on, tables of less than these bytes on average are filled by a separate run.
MANY_TABLES = 100
SMALL_TABLE = 128 << 10


def messages(lines: Iterable[str]) -> list[list[str]]:
    """Each message of a program, with its further lines: details, and the command that failed."""
    found: list[list[str]] = []
    for line in lines:
        if _BEGINNING.match(line) or not found:
            found.append([line])
        else:
            found[-1].append(line)
    return found


def ignorable_reason(line: str) -> str | None:
    """Why an error can be ignored; None if it cannot."""
    return next((why for why, pattern in IGNORABLE.items() if pattern.search(line)), None)


def errors(lines: Iterable[str]) -> list[list[str]]:
    """The messages that are errors and cannot be ignored, each judged by itself."""
    return [each for each in messages(lines) if _ERROR.match(each[0]) and not ignorable_reason(each[0])]


def only_ignorable(lines: Sequence[str]) -> bool:
    """Whether a failed program printed only errors that can be ignored, and none of them was cut off.

    Each process of a parallel restore prints its errors, but the program counts only those of the first.
    """
    printed = sum(_ERROR.match(each[0]) is not None for each in messages(lines))
    counted = sum(int(found["count"]) for line in lines if (found := _IGNORED.search(line)))
    return not errors(lines) and 0 < counted <= printed


# pg_restore's --verbose messages, never errors or warnings.
_TALK = re.compile(
    r"pg_restore: (?:connecting|executing|processing|creating|launching|finished|entering|skipping|restoring|restored)\b"
)
_TABLE = re.compile(r'pg_restore: processing data for table "(?P<table>.+)"')
# A container has 64 MB of it by default. An index that several processes build may take maintenance_work_mem.
_SHARED_MEMORY = "could not resize shared memory"
# Failures of this host or server, not of the backup. No line of a definition or a row starts with this text.
_OURS = re.compile(
    r"(?:error|ERROR|FATAL|PANIC): .*(?:No space left on device|Disk quota exceeded|out of memory|out of shared memory"
    rf"|{_SHARED_MEMORY}|server closed the connection|terminating connection|connection to server"
    r"|the database system is (?:shutting down|starting up|in recovery mode|not yet accepting))"
)
_ALONE = {"max_parallel_maintenance_workers": "0", "max_parallel_workers_per_gather": "0"}
_ENTRY = re.compile(r"pg_restore: from TOC entry (?P<entry>\d+);")
SHARED_MEMORY = (
    "this says nothing about the backup: give the server's container more shared memory (shm_size: 512m), or add "
    "options=-c%20max_parallel_maintenance_workers%3D0 to the server's URL, and run it again"
)
Tables = Callable[[str], object]
"""Called with the name of each table when the restore of its rows begins."""


def load_archive(
    programs: Programs,
    address: Address,
    archive: Path,
    jobs: int,
    check: Check = never,
    tables: Tables | None = None,
    *,
    alone: bool = False,
) -> list[Difference]:
    """Restore an archive into an empty database. Every error that cannot be ignored is a difference.

    Args:
        alone: nothing else uses the server.
    """
    found: list[Difference] = []
    for chosen in _passes(programs, archive, jobs, check, alone=alone):
        if alone and chosen.definitions and create_at_once(programs, address, archive, chosen.entries, check):
            continue
        run = _Run(programs, address, archive, check, tables)
        ended = run(chosen.entries, jobs if chosen.parallel else 1)
        if refused := _lacked_memory(ended.errors):
            everything = _listed(programs, archive, [], check)
            again = [line for line in everything if line.partition(b";")[0] in refused]
            log.warning(
                "the server has too little shared memory (/dev/shm); objects that one process now creates alone: %d",
                len(again),
            )
            run = _Run(programs, address.with_settings(_ALONE), archive, check, tables)
            ended = run((_chosen(archive.with_name("again.list"), again),), 1)
        found += [] if only_ignorable(ended.errors) else _differences(ended)
    return found


@dataclass(frozen=True)
class _Run:
    """Runs pg_restore, with some entries of the archive and a number of processes."""

    programs: Programs
    address: Address
    archive: Path
    check: Check
    tables: Tables | None

    def __call__(self, entries: Sequence[str], jobs: int) -> Ended:
        command = [
            self.programs.path("pg_restore"),
            *entries,
            *([f"--jobs={jobs}"] if jobs > 1 else []),
            "--no-tablespaces",
            "--no-password",
            *(["--verbose"] if self.tables else []),
            f"--dbname={self.address.conninfo}",
            str(self.archive),
        ]
        with child_access(self.address) as (env, fds):
            return run_child(
                command,
                env=env,
                pass_fds=fds,
                confinement=Confinement(self.archive.parent).connecting(self.address.public),
                check=self.check,
                consumed=_Listener(self.tables) if self.tables else None,
            )


def _lacked_memory(lines: Sequence[str]) -> frozenset[bytes]:
    """The numbers of the entries that failed, if the first cause is a lack of shared memory and no other of this host.

    What depends on them failed too, so all that failed is among them. Each is one transaction, which leaves nothing behind.
    """
    ours = [line for line in lines if _OURS.search(line)]
    if not ours or not all(_SHARED_MEMORY in line for line in ours) or any(map(_GAP.fullmatch, lines)):
        return frozenset()
    return frozenset(found["entry"].encode() for line in lines if (found := _ENTRY.match(line)))


@dataclass(frozen=True)
class _Pass:
    """A run of pg_restore.

    Attributes:
        entries: the options that choose entries of the archive.
        parallel: whether it has several processes.
        definitions: whether it restores no rows.
    """

    entries: tuple[str, ...] = ()
    parallel: bool = True
    definitions: bool = False


def _passes(programs: Programs, archive: Path, jobs: int, check: Check, *, alone: bool) -> list[_Pass]:
    """The runs of pg_restore.

    A parallel run empties each table that it has created before it copies the rows. That saves their WAL, but it creates
    the files of the table again, which takes longer than the rows of a small table. Therefore small tables, if there are
    many, are created by one run, and filled by another. The last one also grants the privileges, which always come after the rows.

    Event triggers are created by a separate run, after materialized views were refreshed.
    """
    everything = _listed(programs, archive, [], check)
    triggers = [line for line in everything if _EVENT_TRIGGER.match(line)]
    passes = _ordinary(programs, archive, everything, triggers, jobs, check, alone=alone)
    if triggers:
        passes.append(_Pass((_chosen(archive.with_name("triggers.list"), triggers),), parallel=False))
    return passes


def _ordinary(
    programs: Programs,
    archive: Path,
    everything: list[bytes],
    triggers: list[bytes],
    jobs: int,
    check: Check,
    *,
    alone: bool,
) -> list[_Pass]:
    """The runs of pg_restore for everything but event triggers."""
    filled = sum(b" TABLE DATA " in line for line in everything)
    if jobs < 2 or filled < MANY_TABLES or archive.stat().st_size > filled * SMALL_TABLE:
        return [_Pass(_rest(archive, everything, set(triggers)) if triggers else (), parallel=jobs > 1)]
    created, rows = ("--section=pre-data", "--no-privileges"), ("--section=data",)
    first = _Pass(created, parallel=False, definitions=True)
    done = {*triggers, *_listed(programs, archive, [*created, *(rows if alone else ())], check)}
    if not alone:
        return [first, _Pass(_rest(archive, everything, done))]
    return [first, _Pass(rows, parallel=False), _Pass(_rest(archive, everything, done), definitions=True)]


def _rest(archive: Path, everything: list[bytes], done: set[bytes]) -> tuple[str, ...]:
    """The options that choose the entries that are left."""
    return (_chosen(archive.with_name("rest.list"), [line for line in everything if line not in done]),)


def _chosen(file: Path, entries: Iterable[bytes]) -> str:
    """The option that chooses some entries, which it reads from a file."""
    file.write_bytes(b"".join(entries))
    return f"--use-list={file}"


def _listed(programs: Programs, archive: Path, chosen: Sequence[str], check: Check) -> list[bytes]:
    """The entries of an archive that some options choose; none if it cannot be read, which the restore reports."""
    target = archive.with_name("entries.list")
    command = [programs.path("pg_restore"), "--list", f"--file={target}", *chosen, str(archive)]
    ended = run_child(command, env=clean_environment(), confinement=Confinement(archive.parent), check=check)
    if ended.status != 0:
        return []
    lines = target.read_bytes().splitlines(keepends=True)
    return [line for line in lines if not line.startswith(b";")]


class _Listener:
    """Filters a program's verbose messages, and reports the tables that they name."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __call__(self, line: str) -> bool:
        if found := _TABLE.match(line):
            self._tables(found["table"])
        return _TALK.match(line) is not None


def _differences(ended: Ended) -> list[Difference]:
    if ended.status < 0:
        raise VerificationError(f"pg_restore was killed by signal {-ended.status}", hint=OURS)
    if failure := next(filter(_OURS.search, ended.errors), None):
        hint = SHARED_MEMORY if _SHARED_MEMORY in failure else OURS
        raise VerificationError(f"pg_restore could not continue: {failure.strip()}", hint=hint)
    messages = [_described(each) for each in errors(ended.errors)]
    if ended.status != 0 and not messages:
        messages = [*ended.errors[-3:], f"pg_restore ended with exit status {ended.status}"]
    return differences("restore", messages)


def _described(message: list[str]) -> str:
    """An error with the beginning of the command that it refers to, as one text, even if it has many lines."""
    command = next((line.removeprefix(_COMMAND) for line in message if line.startswith(_COMMAND)), "")
    about = f" ({command[:MAX_COMMAND].strip()})" if command else ""
    return f"{without_values(message[0].strip())}{about}"


def without_values(message: str) -> str:
    """A server's message with the values of rows replaced by the beginning of their SHA-256: reports are not encrypted."""
    return _VALUE.sub(lambda found: f"SHA-256 {hashlib.sha256(found[0].encode()).hexdigest()[:16]}…", message)
