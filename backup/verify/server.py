"""Verifies a base backup of a server together with the WAL that follows it, at four levels.

0 *contiguous*: the store has all of the WAL that recovery needs. 1 *whole*: every file matches PostgreSQL's own list, and
nothing was copied file by file meanwhile. 2 *recovers*: replay reaches the last transaction of the stored WAL, and indexes
match their tables. 3 *equal*: recovered to the snapshot of a dump, the rows are those of the dump.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from backup.catalogue.history import Entry
from backup.catalogue.manifest import Place
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import NoIdentityError, RecoveryError, UnprovableError, VerificationError
from backup.load.download import download
from backup.physical import collations, cut, lsn, records, targets
from backup.physical.coverage import Candidate, Coverage, coverage_of
from backup.physical.cut import Cut
from backup.physical.recover import DATA, Paused, Reached
from backup.physical.replica import DamagedError, Replica, replica
from backup.physical.targets import AtPosition, Latest
from backup.pipeline.child import Ended, run_child
from backup.postgres import inventory
from backup.postgres.children import child_access
from backup.postgres.session import OWN_PATH, session
from backup.programs import clean_environment
from backup.progress import Progress
from backup.targets import PostgresTarget
from backup.verify import provable
from backup.verify.compare import compare_dumps, sequences_behind
from backup.verify.findings import Findings
from backup.wiring import Wiring
from sidecar import UsageError
from sidecar.humanize import duration, moment

PROGRAMS = ("postgres", "pg_controldata", "pg_verifybackup", "pg_waldump", "initdb")
# What no verification can prove.
LIMITS = (
    "not provable: rows of UNLOGGED tables, which are empty after any physical recovery",
    "not provable: exact values of sequences, which may be up to 32 ahead",
    "not provable: indexes that amcheck does not know, such as HNSW and GiST; their tables are read",
)
_LOCKED = """
SELECT DISTINCT coalesce(c.relname, l.relation::text) FROM pg_locks l
JOIN pg_database d ON d.datname = current_database() LEFT JOIN pg_class c ON c.oid = l.relation
WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation' AND granted AND l.database IN (0, d.oid)
  AND l.pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup')
"""
_UNLOGGED = "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind = 'r' AND relpersistence = 'u'"
_AMCHECK = "SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"


@dataclass(frozen=True)
class Dump:
    """A dump to compare with.

    Attributes:
        database: its name on the server.
    """

    entry: Entry
    place: Place
    database: str


def verify_server(wiring: Wiring, entry: Entry, findings: Findings, progress: Progress) -> str:
    """Verify at all levels; returns the version of the programs here. Differences and notes are added to the findings."""
    programs, manifest = wiring.programs, entry.manifest
    findings.unprovable += _beforehand(wiring, entry)
    here = programs.version("postgres") if programs.has("postgres") else ""
    if findings.unprovable:
        return here
    findings.notes += LIMITS
    coverage, candidate = _contiguous(wiring, entry, findings)
    if coverage is None or candidate is None:
        return here
    findings.differences += _holes(wiring, candidate)
    findings.differences += [
        Difference(
            kind="wal",
            object=f"timeline {number}",
            expected="the history of a timeline whose WAL is stored",
            found="it is missing or cannot be read, so nothing after the promotion can be recovered",
        )
        for number in coverage.lost
    ]
    try:
        _recover(wiring, coverage, candidate, findings, progress)
    except DamagedError as error:
        findings.differences += error.differences
    except UnprovableError as error:
        findings.unprovable.append(f"{error.message}: {error.hint}")
    except NoIdentityError:
        raise
    except (RecoveryError, VerificationError) as error:
        findings.differences.append(
            Difference(
                kind="recovery", object=manifest.id, expected="the target is reached", found=error.message
            )
        )
    return here


def _beforehand(wiring: Wiring, entry: Entry) -> Iterator[str]:
    programs, server = wiring.programs, entry.manifest.server
    if lacks := list(provable.missing(programs, PROGRAMS)):
        yield from lacks
        return
    if programs.major("postgres") != server.version_number // 10000:
        yield (
            f"the server was PostgreSQL {server.version}, the programs here are {programs.version('postgres')}:"
            " a base backup needs the same major version"
        )
    yield from provable.suspicions(server, programs)
    needed, settings = int(entry.manifest.raw_bytes * provable.SPACE_FACTOR), wiring.settings
    yield from provable.no_room(needed, settings.work_dir, settings.work_dir_floor)


def _contiguous(wiring: Wiring, entry: Entry, findings: Findings) -> tuple[Coverage | None, Candidate | None]:
    """Level 0."""
    with findings.stages.measure("list"):
        try:
            coverage = coverage_of(wiring, entry.manifest.database)
        except UsageError:
            coverage = None
    known = coverage.candidates if coverage else ()
    candidate = next((each for each in known if each.entry.id == entry.id), None)
    if candidate is None:
        reasons = dict(coverage.unusable) if coverage else {}
        findings.differences.append(
            Difference(
                kind="wal",
                object=entry.id,
                expected="all WAL from its start to its end is stored",
                found=reasons.get(entry.id, "it is of a different cluster from the newest base backup"),
            )
        )
    return coverage, candidate


def _holes(wiring: Wiring, candidate: Candidate) -> Iterator[Difference]:
    """Level 0, after the base backup: a hole in the WAL, or WAL that is known to end too early."""
    window = candidate.window
    if not candidate.open:
        yield Difference(
            kind="wal",
            object=lsn.text(window.end),
            expected="WAL without a gap",
            found="WAL is missing from here on, and later WAL or the record of a gap is stored",
        )
    for dump in _dumps(wiring, candidate):
        if dump.place.position > window.end:
            yield Difference(
                kind="wal",
                object=lsn.text(window.end),
                expected=f"WAL up to the dump {dump.entry.id}, {lsn.text(dump.place.position)}",
                found="the stored WAL ends here",
            )


def _recover(
    wiring: Wiring, coverage: Coverage, candidate: Candidate, findings: Findings, progress: Progress
) -> None:
    segments = coverage.segments(wiring.store, candidate)
    with ExitStack() as stack:
        with findings.stages.measure("download"):
            made = stack.enter_context(
                replica(wiring, candidate.entry, segments, wiring.settings.work_dir, progress)
            )
        with findings.stages.measure("check"):
            findings.differences += [*made.verify_files(), *_copied(made)]
        # The problem with the later WAL is reported above; the base is proven as far as the WAL goes.
        if any(each.kind != "wal" for each in findings.differences):
            return
        with findings.stages.measure("compare"):
            _equal(made, candidate, findings)
        with findings.stages.measure("restore"):
            _to_the_end(made, candidate, findings)


def _copied(made: Replica) -> Iterator[Difference]:
    """Databases that were copied file by file while the base backup ran: after a recovery they would have rows that they never had."""
    physical = made.entry.manifest.physical
    assert physical is not None
    first, last = (
        lsn.segment_name(physical.timeline, position // physical.segment_size, physical.segment_size)
        for position in (physical.start, physical.end)
    )
    for record in records.copied_databases(made.log(first, last)):
        if physical.start <= record.lsn < physical.end:
            yield Difference(
                kind="wal",
                object=lsn.text(record.lsn),
                expected="no database is copied during the base backup",
                found=record.text[:200],
            )


def _equal(made: Replica, candidate: Candidate, findings: Findings) -> None:
    """Level 3: compare with the newest dump of each database, each at the place of its snapshot."""
    end = candidate.window.end
    dumps = [dump for dump in _dumps(made.wiring, candidate) if dump.place.position <= end]
    if not dumps:
        findings.notes.append("not compared with a dump: none was taken since the base backup")
        return
    for goal, dump in sorted(_placed(made, dumps, findings), key=lambda pair: pair[0].position):
        with _at(made, targets.settings(goal, made.segments.timeline), findings) as paused:
            _compare(made, paused, dump, findings, sequences=goal.position == dump.place.position)


def _dumps(wiring: Wiring, candidate: Candidate) -> Iterator[Dump]:
    """The newest dump of each database that was taken within the span of the WAL."""
    base = candidate.entry.manifest
    assert base.physical is not None
    for target in wiring.targets:
        if not isinstance(target, PostgresTarget):
            continue
        history = wiring.reader().read(wiring.clock(), [target.name]).history(target.name)
        for entry in reversed(history.backups):
            place, system = entry.manifest.place, entry.manifest.server.system_identifier
            if place is None or system != base.server.system_identifier or entry.damaged:
                continue
            if base.physical.end <= place.position:
                yield Dump(entry, place, target.address.database)
            break


def _placed(made: Replica, dumps: Sequence[Dump], findings: Findings) -> Iterator[tuple[AtPosition, Dump]]:
    size = made.segments.archive.segment_size
    until = max(dump.place.position for dump in dumps)
    first = made.segments.promised()
    last = lsn.segment_name(made.segments.timeline, until // size, size)
    ended = list(records.endings(made.log(next(name for name in first if len(name) == len(last)), last)))
    for dump in dumps:
        found = cut.place(cut.parse_snapshot(dump.place.snapshot), ended, dump.place.position)
        goal = _goal(found, made.end) if found else None
        if goal is not None:
            yield goal, dump
            continue
        findings.notes.append(
            f"not compared with {dump.entry.id}: its snapshot has no exact place in the WAL"
            + ("" if found else ", because commits became visible in a different order")
        )


def _goal(place: Cut, consistent: int) -> AtPosition | None:
    """Where to recover to: as late as possible, because sequences advance between two commits.

    Args:
        consistent: the first position that can be a target.
    """
    if place.followed and place.limit >= consistent:
        return AtPosition(place.limit)
    if place.last is not None and place.last >= consistent:
        return AtPosition(place.last, inclusive=True)
    return None


def _compare(made: Replica, paused: Paused, dump: Dump, findings: Findings, *, sequences: bool) -> None:
    """Compare with one dump.

    Args:
        sequences: whether everything is replayed that was written before the dump's sequences were read.
    """
    wiring, manifest = made.wiring, dump.entry.manifest
    address = paused.address.named(dump.database)
    with session(address) as connection:
        locked = [str(row[0]) for row in connection.execute(_LOCKED)]
        unlogged = {str(row[0]) for row in connection.execute(_UNLOGGED)}
    if locked:
        # A dump would wait forever: no time limit of the server applies.
        findings.notes.append(
            f"not compared with {dump.entry.id}: {', '.join(locked)} was locked by a transaction in progress"
        )
        return
    folder = made.folder / f"dump-{dump.entry.id}"
    folder.mkdir()
    files, differences = download(wiring, dump.entry, folder)
    if differences:
        findings.notes.append(f"not compared with {dump.entry.id}: it is damaged: {differences[0]}")
        return
    if sequences:
        with session(address, changes=OWN_PATH) as connection:
            positions, advancing = inventory.sequences(connection), inventory.only_advancing(connection)
        findings.differences += sequences_behind(manifest, positions, advancing)
    compared = compare_dumps(manifest, wiring.programs, files["archive"], address, wiring.stop.carried())
    findings.differences += [
        each
        for each in compared.differences
        if each.kind != "sequence set" and not (each.kind == "table data" and each.object in unlogged)
    ]
    findings.notes += [
        *compared.notes,
        (
            f"compared with {dump.entry.id} at its snapshot of {moment(manifest.taken)}: {manifest.rows:,} rows in"
            f" {len(manifest.tables)} tables"
        ),
    ]


@contextmanager
def _at(made: Replica, target: Mapping[str, str], findings: Findings) -> Iterator[Paused]:
    """The server at a target; the time until it answers there counts as recovery."""
    started = time.monotonic()
    with made.at(target) as paused:
        spent = findings.measures.get("rto", 0.0) + time.monotonic() - started
        findings.measures["rto"] = round(spent, 3)
        yield paused


def _measure(made: Replica, candidate: Candidate, reached: Reached, findings: Findings) -> None:
    """The duration of a recovery to the end of the WAL, and what it would have lost."""
    replaying, measures = findings.measures["rto"], findings.measures
    size = made.segments.archive.segment_size
    replayed = reached.position - lsn.segment_start(candidate.window.path[0].start, size)
    measures["replay"] = round(max(replayed, 0) / max(replaying, 0.001), 1)
    measures["rto"] = round(replaying + findings.stages.seconds.get("download", 0.0), 3)
    if reached.moment is not None:
        measures["reached"] = reached.moment.timestamp()
        measures["rpo"] = round(max((candidate.stored - reached.moment).total_seconds(), 0.0), 3)


def _to_the_end(made: Replica, candidate: Candidate, findings: Findings) -> None:
    """Level 2."""
    with _at(made, made.target(Latest()), findings) as paused:
        reached = paused.reached
        behind = (candidate.stored - reached.moment).total_seconds() if reached.moment else None
        _measure(made, candidate, reached, findings)
        last = (
            f"the last commit is from {moment(reached.moment)}"
            if reached.moment
            else "no commit follows the base"
        )
        findings.notes.append(
            f"recovered to {lsn.text(reached.position)}: {last}"
            + (
                f", {duration(max(behind, 0.0))} before the newest WAL was stored"
                if behind is not None
                else ""
            )
        )
        paused.promote()
        # A server in recovery does not list them.
        with session(paused.address) as connection:
            prepared = connection.execute("SELECT gid, database FROM pg_prepared_xacts ORDER BY 1").fetchall()
        findings.notes += [f"the prepared transaction {gid} of {name} is open" for gid, name in prepared]
        findings.notes += collations.differing(paused)
        findings.differences += _amcheck(made, paused, findings)
    findings.differences += _checksums(made)


def _amcheck(made: Replica, paused: Paused, findings: Findings) -> list[Difference]:
    """Whether each index that amcheck supports has exactly the rows of its table. Only now can the extension be created."""
    programs = made.wiring.programs
    with session(paused.address) as connection:
        available = connection.execute(_AMCHECK).fetchone()
    if not programs.has("pg_amcheck") or available is None:
        findings.notes.append("indexes were not compared with their tables: amcheck is missing here")
        return []
    command = [
        programs.path("pg_amcheck"),
        "--all",
        "--install-missing",
        "--heapallindexed",
        "--no-password",
        f"--maintenance-db={paused.address.conninfo}",
        f"--host={made.own}",
        f"--username={paused.address.public['user']}",
    ]
    with child_access(paused.address) as (env, fds):
        ended = run_child(
            command,
            env=env,
            pass_fds=fds,
            confinement=Confinement(made.own),
            output=True,
            check=made.wiring.stop.check,
        )
    return _reported("amcheck", ended)


def _checksums(made: Replica) -> list[Difference]:
    """Whether every page of the stopped server has the right checksum, if checksums are enabled."""
    programs, physical = made.wiring.programs, made.entry.manifest.physical
    assert physical is not None
    if physical.settings.get("data_checksums") != "on" or not programs.has("pg_checksums"):
        return []
    ended = run_child(
        [programs.path("pg_checksums"), "--check", "-D", str(made.folder / DATA)],
        env=clean_environment(),
        confinement=Confinement(made.own),
        as_root=False,
        output=True,
        check=made.wiring.stop.check,
    )
    return _reported("checksums", ended)


def _reported(kind: str, ended: Ended) -> list[Difference]:
    if ended.status == 0:
        return []
    lines = [line for line in ended.errors if line.strip()][-20:] or [f"it exited with status {ended.status}"]
    return [Difference(kind=kind, object="server", expected="no error", found=line[:300]) for line in lines]
