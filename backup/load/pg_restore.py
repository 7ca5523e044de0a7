"""Loads an archive into a server with pg_restore.

This module lists the errors that can be ignored; docs/restore.md gives the reasons. An error is listed only if it is
known to leave the database unchanged, never because it is frequent. The comparison checks the result in any case.
"""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from backup.cancellation import Check, never
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import OURS, VerificationError
from backup.load.definitions import create_at_once, create_lanes
from backup.load.execution import differences, without_values
from backup.load.passes import Pass, chosen_from, listed, number_of, passes
from backup.pipeline.child import Ended, run_child
from backup.postgres.children import child_access
from backup.postgres.dsn import Address
from backup.programs import Programs

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
# The same errors, recognized by the refused statement: the server may print its messages in another language.
_IGNORABLE_STATEMENTS: dict[str, re.Pattern[str]] = {
    "pg_dump is newer than the server and sets a timeout that the server does not know": re.compile(
        r"SET (?:transaction_timeout|idle_session_timeout) = 0;"
    ),
    "every new database has this schema": re.compile(r"CREATE SCHEMA public;"),
    "every new database has this extension": re.compile(r"COMMENT ON EXTENSION plpgsql IS .*"),
}
_BEGINNING = re.compile(r"pg_restore: |(?:ERROR|FATAL|PANIC|WARNING|NOTICE|INFO): ")
_ERROR = re.compile(r"pg_restore: error: |(?:ERROR|FATAL|PANIC): ")
_IGNORED = re.compile(r"errors ignored on restore: (?P<count>\d+)")
_COMMAND = "Command was: "
MAX_COMMAND = 200
_GAP = re.compile(r"\(\d+ lines are left out\)")


def messages(lines: Iterable[str]) -> list[list[str]]:
    """Each message of a program, with its further lines: details, and the command that failed."""
    found: list[list[str]] = []
    for line in lines:
        if _BEGINNING.match(line) or not found:
            found.append([line])
        else:
            found[-1].append(line)
    return found


def ignorable_reason(line: str, statement: str = "") -> str | None:
    """Why an error can be ignored; None if it cannot.

    Args:
        statement: the statement that was refused.
    """
    known = (why for why, pattern in IGNORABLE.items() if pattern.search(line))
    of_statement = (
        why for why, pattern in _IGNORABLE_STATEMENTS.items() if pattern.fullmatch(statement.strip())
    )
    return next(known, None) or next(of_statement, None)


def errors(lines: Iterable[str]) -> list[list[str]]:
    """The messages that are errors and cannot be ignored, each judged separately."""
    return [
        each
        for each in messages(lines)
        if _ERROR.match(each[0]) and not ignorable_reason(each[0], command_of(each))
    ]


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
# If two indexes of a table also change the table (CLUSTER ON, REPLICA IDENTITY), creating both at once can deadlock.
_DEADLOCK = re.compile(r"(?:error|ERROR): +deadlock detected")
_ALONE = {"max_parallel_maintenance_workers": "0", "max_parallel_workers_per_gather": "0"}
_ENTRY = re.compile(r"pg_restore: from TOC entry (?P<entry>\d+);")
SHARED_MEMORY = (
    "this says nothing about the backup: give the server's container more shared memory (shm_size: 512m), or add "
    "options=-c%20max_parallel_maintenance_workers%3D0 to the server's URL, and run it again"
)


@dataclass
class Refusals:
    """What ``pg_restore`` could not restore.

    Attributes:
        messages: its errors, each with its further lines.
        entries: numbers of the archive's entries. One that failed for an ignorable reason may be among them.
        complete: whether no line was left out.
    """

    messages: list[list[str]] = field(default_factory=list)
    entries: set[int] = field(default_factory=set)
    complete: bool = True

    def take(self, lines: Sequence[str]) -> None:
        """Take what a run has printed."""
        self.messages += errors(lines)
        self.entries |= {int(found["entry"]) for found in map(_ENTRY.match, lines) if found}
        self.complete = self.complete and not any(map(_GAP.fullmatch, lines))


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
    runs: Sequence[Pass] | None = None,
    refusals: Refusals | None = None,
) -> list[Difference]:
    """Restore an archive into an empty database. Every error that cannot be ignored is a difference.

    Args:
        alone: nothing else uses the server.
        runs: the :func:`passes`, if they are already known.
        refusals: takes what could not be restored.
    """
    found: list[Difference] = []
    run = _Run(programs, address, archive, check, tables)
    for chosen in runs or passes(programs, archive, jobs, check, alone=alone):
        at_once = alone and chosen.definitions
        for entries in _not_created(run, chosen) if at_once else [chosen.entries]:
            ended = run(entries, jobs if chosen.parallel else 1)
            cause, refused = _hindered(ended.errors, rows=chosen.rows)
            if refused:
                everything = listed(programs, archive, [], check)
                again = [line for line in everything if number_of(line) in refused]
                log.warning("%s; objects that one process now restores alone: %d", cause, len(again))
                by_itself = replace(run, address=address.with_settings(_ALONE))
                ended = by_itself((chosen_from(archive.with_name("again.list"), again),), 1)
            if not only_ignorable(ended.errors):
                found += _differences(ended)
                if refusals is not None:
                    refusals.take(ended.errors)
    return found


def _not_created(run: "_Run", chosen: Pass) -> list[tuple[str, ...]]:
    """Create definitions in as few transactions as possible; returns the options for what ``pg_restore`` has to create.

    If no lane could be created, the objects are created in their usual order.
    """
    place = run.programs, run.address, run.archive
    if chosen.lanes:
        created = create_lanes(*place, chosen.lanes, run.check)
        if any(created):
            return [lane for lane, done in zip(chosen.lanes, created, strict=True) if not done]
    return [] if create_at_once(*place, chosen.entries, run.check) else [chosen.entries]


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
            "--verbose",  # otherwise the processes of a parallel run do not name the entries that failed
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
                consumed=_Listener(self.tables or (lambda _: None)),
            )


def _hindered(lines: Sequence[str], *, rows: bool = False) -> tuple[str, frozenset[bytes]]:
    """Why several processes failed where one may succeed, and the numbers of the entries that failed.

    The result is empty if the cause is another fault of this host. Entries that depend on a failed one have failed too, so
    they are included. Each entry is one transaction, so a failed one leaves nothing behind.

    Args:
        rows: whether only rows were restored. A constraint may read another table, whose rows come later.
    """
    ours = [line for line in lines if _OURS.search(line)]
    deadlocked = any(_DEADLOCK.search(line) for line in lines)
    if (
        not (ours or deadlocked or (rows and errors(lines)))
        or not all(_SHARED_MEMORY in line for line in ours)
        or any(map(_GAP.fullmatch, lines))
    ):
        return "", frozenset()
    if ours:
        cause = "the server has too little shared memory (/dev/shm)"
    elif deadlocked:
        cause = "processes of the restore waited for each other"
    else:
        cause = "the rows of another table may have been missing"
    return cause, frozenset(found["entry"].encode() for line in lines if (found := _ENTRY.match(line)))


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
    messages = [described(each) for each in errors(ended.errors)]
    if ended.status != 0 and not messages:
        messages = [*ended.errors[-3:], f"pg_restore exited with status {ended.status}"]
    return differences("restore", messages)


def described(message: Sequence[str]) -> str:
    """An error with the beginning of the command that it refers to, as one text, even if it has many lines."""
    command = command_of(message)
    about = f" ({command[:MAX_COMMAND].strip()})" if command else ""
    return f"{without_values(message[0].strip())}{about}"


def command_of(message: Sequence[str]) -> str:
    """The first line of the command that an error refers to."""
    return next((line.removeprefix(_COMMAND) for line in message if line.startswith(_COMMAND)), "")
