"""Loads roles and an archive into a server with psql and pg_restore.

Errors that can be ignored are listed here, and with their reasons in docs/restore.md. An error is listed only if it is
known to leave the database unchanged, never because it is frequent. The comparison checks the result in any case.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from backup.cancellation import never
from backup.catalogue.records import Difference
from backup.confinement import WRITES_NOTHING, Confinement
from backup.errors import OURS, VerificationError
from backup.load.restricted import REFUSED, is_restriction, restriction
from backup.pipeline.child import Ended, run_child
from backup.postgres.dsn import Address, child_access
from backup.postgres.statements import join, split
from backup.programs import Programs

IGNORABLE: dict[str, re.Pattern[str]] = {
    "pg_dump is newer than the server and sets a timeout that the server does not know": re.compile(
        r'unrecognized configuration parameter "(?:transaction_timeout|idle_session_timeout)"'
    ),
    "every new database has this schema": re.compile(r'schema "public" already exists'),
    "every new database has this extension": re.compile(
        r'extension "plpgsql" already exists|must be owner of extension plpgsql'
    ),
}
# A message begins with the name of the program, or with its level where psql reads from a pipe.
_BEGINNING = re.compile(r"(?:pg_restore|psql): |(?:psql:.*)?(?:ERROR|FATAL|PANIC|WARNING|NOTICE|INFO): ")
_ERROR = re.compile(r"(?:pg_restore|psql): error: |(?:psql:.*)?(?:ERROR|FATAL|PANIC): ")
_IGNORED = re.compile(r"errors ignored on restore: (?P<count>\d+)")
_COMMAND = "Command was: "
MOST_OF_COMMAND = 200


def messages(lines: Iterable[str]) -> list[list[str]]:
    """Each message of a program with the lines that belong to it: details, and the command that failed."""
    found: list[list[str]] = []
    for line in lines:
        if _BEGINNING.match(line) or REFUSED in line or not found:
            found.append([line])
        else:
            found[-1].append(line)
    return found


def ignorable_reason(line: str) -> str | None:
    """Why an error can be ignored; None if it cannot."""
    return next((why for why, pattern in IGNORABLE.items() if pattern.search(line)), None)


def errors(lines: Iterable[str]) -> list[list[str]]:
    """The messages that are errors and cannot be ignored, each judged for itself."""
    return [each for each in messages(lines) if _is_error(each[0]) and not ignorable_reason(each[0])]


def _is_error(line: str) -> bool:
    return _ERROR.match(line) is not None or REFUSED in line


def only_ignorable(lines: Sequence[str]) -> bool:
    """Whether a failed program printed only errors that can be ignored, and none of them was cut off.

    Each process of a parallel restore prints what it met, and only those of the first are counted by it.
    """
    printed = sum(_ERROR.match(each[0]) is not None for each in messages(lines))
    counted = sum(int(found["count"]) for line in lines if (found := _IGNORED.search(line)))
    return not errors(lines) and 0 < counted <= printed


Check = Callable[[], None]
MOST_NAMED = 20
# pg_restore's --verbose messages, never errors or warnings.
_TALK = re.compile(
    r"pg_restore: (?:connecting|executing|processing|creating|launching|finished|entering|skipping|restoring|restored)\b"
)
_TABLE = re.compile(r'pg_restore: processing data for table "(?P<table>.+)"')
# Failures of this host or server, not of the backup. No line of a definition or a row begins like this.
_OURS = re.compile(
    r"(?:error|ERROR|FATAL|PANIC): .*(?:No space left on device|Disk quota exceeded|out of memory|out of shared memory"
    r"|could not resize shared memory|server closed the connection|terminating connection|connection to server"
    r"|the database system is (?:shutting down|starting up|in recovery mode|not yet accepting))"
)
Tables = Callable[[str], object]
"""Called with the name of each table when the restore of its rows begins."""


def read_globals(dumped: Path) -> list[bytes]:
    """The statements of a globals dump."""
    return split(dumped.read_bytes())


def load_roles(
    programs: Programs, address: Address, statements: Iterable[bytes], check: Check = never
) -> list[Difference]:
    """Carry out statements about roles; what fails is a difference."""
    return run_sql(programs, address, "globals", statements, check)


def run_sql(
    programs: Programs, address: Address, kind: str, statements: Iterable[bytes], check: Check = never
) -> list[Difference]:
    """Carry out statements with psql, to the last; what fails is a difference."""
    command = [programs.path("psql"), "-X", "-q", "-w", "-v", "ON_ERROR_STOP=0", "-d", address.conninfo]
    given = restriction(programs) + join(each for each in statements if not is_restriction(each))
    with child_access(address) as (env, fds):
        ended = run_child(
            command, env=env, pass_fds=fds, given=given, confinement=WRITES_NOTHING.connecting(address.public),
            check=check,
        )  # fmt: skip
    return _differences(kind, "psql", ended)


def load_archive(
    programs: Programs,
    address: Address,
    archive: Path,
    jobs: int,
    check: Check = never,
    tables: Tables | None = None,
) -> list[Difference]:
    """Restore an archive into an empty database. Every error that cannot be ignored is a difference."""
    command = [
        programs.path("pg_restore"), f"--jobs={jobs}", "--no-tablespaces", "--no-password",
        *(["--verbose"] if tables else []), f"--dbname={address.conninfo}", str(archive),
    ]  # fmt: skip
    confinement = Confinement(archive.parent).connecting(address.public)
    with child_access(address) as (env, fds):
        ended = run_child(
            command, env=env, pass_fds=fds, confinement=confinement, check=check,
            consumed=_Listener(tables) if tables else None,
        )  # fmt: skip
    if only_ignorable(ended.errors):
        return []
    return _differences("restore", "pg_restore", ended)


class _Listener:
    """Filters a program's verbose messages, and reports the tables that they name."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __call__(self, line: str) -> bool:
        if found := _TABLE.match(line):
            self._tables(found["table"])
        return _TALK.match(line) is not None


def _differences(kind: str, program: str, ended: Ended) -> list[Difference]:
    if ended.status < 0:
        raise VerificationError(f"{program} was killed by signal {-ended.status}", hint=OURS)
    if failure := next(filter(_OURS.search, ended.errors), None):
        raise VerificationError(f"{program} could not continue: {failure.strip()}", hint=OURS)
    said = [_told(each) for each in errors(ended.errors)]
    if ended.status != 0 and not said:
        said = [*ended.errors[-3:], f"{program} ended with exit status {ended.status}"]
    more = len(said) - MOST_NAMED
    shown = [*said[:MOST_NAMED], f"{more} more errors"] if more > 0 else said
    return [Difference(kind=kind, object="archive", expected="no error", found=line) for line in shown]


def _told(message: list[str]) -> str:
    """An error with the beginning of the command that it is about: one error, whatever number of lines it has."""
    command = next((line.removeprefix(_COMMAND) for line in message if line.startswith(_COMMAND)), "")
    about = f" ({command[:MOST_OF_COMMAND].strip()})" if command else ""
    return f"{message[0].strip()}{about}"
