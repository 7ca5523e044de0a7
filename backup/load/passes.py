"""Decides in which runs of pg_restore an archive is restored."""

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from backup.cancellation import Check
from backup.confinement import Confinement
from backup.load import lanes
from backup.pipeline.child import run_child
from backup.postgres.archive import contents
from backup.programs import Programs, clean_environment

# Entries that are restored last: a trigger that exists earlier records, or refuses, the statements of the restore.
_EVENT_TRIGGER = re.compile(rb"\d+; \d+ \d+ (?:EVENT TRIGGER - |(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER )")
# If there are at least this many tables, and their average size is below this number of bytes, a separate run fills them.
MANY_TABLES = 100
SMALL_TABLE = 128 << 10


@dataclass(frozen=True)
class Pass:
    """A run of pg_restore.

    Attributes:
        entries: the options that choose entries of the archive.
        parallel: whether it has several processes.
        definitions: whether it restores no rows.
        rows: whether it restores nothing else.
        lanes: options that choose parts of the entries, which can be created at the same time.
    """

    entries: tuple[str, ...] = ()
    parallel: bool = True
    definitions: bool = False
    rows: bool = False
    lanes: tuple[tuple[str, ...], ...] = ()


def passes(programs: Programs, archive: Path, jobs: int, check: Check, *, alone: bool) -> list[Pass]:
    """The runs of pg_restore.

    A parallel run empties each table that it has created before it copies the rows. That saves their WAL, but it creates
    the files of the table again, which takes longer than the rows of a small table. Therefore small tables, if there are
    many, are created by one run, and filled by another. The last one also grants the privileges, which always come after the rows.

    Event triggers are created by a separate run, after materialized views were refreshed.
    """
    everything = listed(programs, archive, [], check)
    triggers = [line for line in everything if _EVENT_TRIGGER.match(line)]
    found = _ordinary(programs, archive, everything, triggers, jobs, check, alone=alone)
    if triggers:
        found.append(Pass((chosen_from(archive.with_name("triggers.list"), triggers),), parallel=False))
    return found


def _ordinary(
    programs: Programs,
    archive: Path,
    everything: list[bytes],
    triggers: list[bytes],
    jobs: int,
    check: Check,
    *,
    alone: bool,
) -> list[Pass]:
    """The runs of pg_restore for everything but event triggers."""
    filled = sum(b" TABLE DATA " in line for line in everything)
    if jobs < 2 or filled < MANY_TABLES or archive.stat().st_size > filled * SMALL_TABLE:
        return [Pass(_rest(archive, everything, set(triggers)) if triggers else (), parallel=jobs > 1)]
    created, rows = ("--section=pre-data", "--no-privileges"), ("--section=data",)
    if not alone:
        first = Pass(created, parallel=False, definitions=True)
        done = {*triggers, *listed(programs, archive, created, check)}
        return [first, Pass(_rest(archive, everything, done))]
    with ThreadPoolExecutor(2, thread_name_prefix="list") as pool:
        before, data = pool.map(lambda chosen: listed(programs, archive, chosen, check), (created, rows))
    items, done = contents(archive), {*triggers, *before, *data}
    rest = [line for line in everything if line not in done]
    return [
        *_divided(archive, "tables", before, lanes.tables(items), parallel=False),
        Pass(rows, rows=True),
        *_divided(archive, "rest", rest, lanes.keys(items), parallel=True),
    ]


def _divided(
    archive: Path, name: str, entries: Iterable[bytes], division: lanes.Division, *, parallel: bool
) -> Iterator[Pass]:
    """The runs that create definitions: what is needed first, what can be created at the same time, and the rest."""
    apart = tuple(range(1, 1 + len(division.lanes)))
    part_of = {each: part for part, ids in enumerate((division.first, *division.lanes)) for each in ids}
    placed = [(part_of.get(int(number_of(line)), -1), line) for line in entries]

    def chosen(*parts: int) -> tuple[str, ...]:
        file = archive.with_name(f"{name}-{'-'.join(map(str, parts))}.list")
        lines = [line for part, line in placed if part in parts]
        return (chosen_from(file, lines),) if lines else ()

    for parts in ((0,), apart, (-1,)):
        if options := chosen(*parts):
            sessions = tuple(filter(None, map(chosen, parts))) if parts == apart else ()
            yield Pass(options, parallel=parallel, definitions=True, lanes=sessions)


def number_of(line: bytes) -> bytes:
    """The number of an entry in a list of contents."""
    return line.partition(b";")[0]


def _rest(archive: Path, everything: list[bytes], done: set[bytes]) -> tuple[str, ...]:
    """The options that choose the entries that are left."""
    return (chosen_from(archive.with_name("rest.list"), [line for line in everything if line not in done]),)


def chosen_from(file: Path, entries: Iterable[bytes]) -> str:
    """The option that chooses some entries, which it reads from a file."""
    file.write_bytes(b"".join(entries))
    return f"--use-list={file}"


def listed(programs: Programs, archive: Path, chosen: Sequence[str], check: Check) -> list[bytes]:
    """The entries of an archive that some options choose; none if it cannot be read, which the restore reports."""
    target = archive.with_name(f"entries{''.join(chosen)}.list")
    command = [programs.path("pg_restore"), "--list", f"--file={target}", *chosen, str(archive)]
    ended = run_child(command, env=clean_environment(), confinement=Confinement(archive.parent), check=check)
    if ended.status != 0:
        return []
    lines = target.read_bytes().splitlines(keepends=True)
    return [line for line in lines if not line.startswith(b";")]
