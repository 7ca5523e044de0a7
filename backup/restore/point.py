"""Restores one database as it was at a point in time: recovered in a throwaway server, then restored next to production's.

Production is not touched. The throwaway server leaves recovery only after it has reached its target. A dump of it is
then restored, compared and promoted like any other backup.
"""

import hashlib
import logging
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from backup.catalogue import layout
from backup.catalogue.history import Entry
from backup.catalogue.ids import stamp
from backup.catalogue.manifest import Server
from backup.errors import RecoveryError
from backup.physical import cut, lsn, records
from backup.physical.coverage import Candidate, Coverage
from backup.physical.recover import Paused, Reached
from backup.physical.replica import Replica, replica
from backup.physical.targets import AtPosition, AtTime, Goal, Latest
from backup.postgres.session import session
from backup.progress import Reporter, Timings
from backup.restore import names
from backup.restore.database import Restored, restore
from backup.run import run
from backup.store import LocalStore, RetryingStore, RetryPolicy
from backup.targets import PostgresTarget, ServerTarget
from backup.verify.provable import afterwards, suspicions
from backup.wiring import Wiring
from sidecar.logs import fields

log = logging.getLogger(__name__)

STEPS = (
    "unpack the base backup into a throwaway server",
    "replay the WAL up to the target",
    "let the throwaway server leave recovery",
    "dump the database from the throwaway server",
)
_UNLOGGED = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE relkind = 'r' AND relpersistence = 'u' AND nspname !~ '^pg_' ORDER BY 1
"""


@dataclass(frozen=True)
class Point:
    """The request for a restore.

    Attributes:
        server: the server whose base backups and WAL are used.
        target: the database, as configured.
        into: name of the new database.
        backup_id: identifies the recovered state in marks. It does not change, so a second run finds what the first one restored.
    """

    server: ServerTarget
    target: PostgresTarget
    goal: Goal
    into: str
    backup_id: str


@dataclass(frozen=True)
class Recovered:
    """A database that was restored as of a point in time.

    Attributes:
        base: the base backup that was used.
        reached: None if an earlier run had already restored it.
    """

    restored: Restored
    base: str
    reached: Reached | None


def planned(
    wiring: Wiring,
    server: ServerTarget,
    target: PostgresTarget,
    goal: Goal,
    candidate: Candidate,
    into: str | None,
) -> Point:
    """The names of what will be created."""
    moment = goal.moment if isinstance(goal, AtTime) else candidate.stored
    # The latest state changes whenever more WAL is stored.
    where = lsn.text(candidate.window.end) if isinstance(goal, Latest) else str(goal)
    digest = hashlib.sha256(f"{server.name} {target.name} {where}".encode()).hexdigest()
    backup_id = f"{stamp(moment)}-{digest[:6]}"
    production = wiring.production(target)
    return Point(server, target, goal, into or names.restored(production.database, backup_id), backup_id)


def restore_point(
    wiring: Wiring,
    coverage: Coverage,
    candidate: Candidate,
    point: Point,
    reporter: Reporter,
    *,
    again: bool = False,
) -> Recovered:
    """Recover, dump, restore next to production, and prove.

    Raises:
        RecoveryError: the target was not reached, or the database did not exist then. Nothing was created.
        UsageError: the new database's name is taken.
    """
    timings = Timings()
    with (
        wiring.stop.limit(wiring.settings.timeout),
        wiring.journal(point.server.name).attempt("restore", backup=candidate.entry.id) as attempt,
    ):
        done = _restored(_Work(wiring, coverage, candidate, point, reporter, timings, again=again))
        attempt.set(measures={"seconds": round(sum(done.restored.stages.values()), 3)})
    log.info(
        "restored %s", fields(base=done.base, into=point.into, goal=point.goal, seconds=done.restored.seconds)
    )
    return done


@dataclass(frozen=True)
class _Work:
    wiring: Wiring
    coverage: Coverage
    candidate: Candidate
    point: Point
    reporter: Reporter
    timings: Timings
    again: bool

    @property
    def database(self) -> str:
        """The name of the database on the server."""
        return self.point.target.address.database


def _restored(work: _Work, instead: AtPosition | None = None) -> Recovered:
    """Recover and restore.

    Args:
        instead: a position in place of the goal, which was found to be in the middle of the database's removal.
    """
    wiring, entry = work.wiring, work.candidate.entry
    segments = work.coverage.segments(wiring.store, work.candidate)
    work.reporter.step(STEPS[0])
    with replica(wiring, entry, segments, wiring.settings.work_dir, work.reporter.bytes) as made:
        work.reporter.step(STEPS[1])
        with made.at(made.target(instead or work.point.goal)) as paused:
            earlier = None if instead else _before_removal(made, paused, work.database)
            if earlier is None:
                return _carried_over(work, made, paused)
    work.reporter.step(
        f"{work.database} was being dropped: recovering again, to the last commit before that, {earlier}"
    )
    return _restored(work, earlier)


def _before_removal(made: Replica, paused: Paused, database: str) -> AtPosition | None:
    """Where a database was still whole, if its removal had begun at the target: its files are deleted before DROP DATABASE commits.

    Raises:
        RecoveryError: it did not exist then.
    """
    with session(paused.address) as connection:
        row = connection.execute(
            "SELECT oid::bigint, datconnlimit = -2 FROM pg_database WHERE datname = %s", [database]
        ).fetchone()
        known = [str(each[0]) for each in connection.execute("SELECT datname FROM pg_database ORDER BY 1")]
    if row is None:
        raise RecoveryError(
            f"{database} did not exist at the target; these did: {', '.join(known)}",
            hint="choose a time before it was dropped or renamed, or after it was created",
        )
    if not row[1]:
        return None
    segment_size = made.segments.archive.segment_size
    last = lsn.segment_name(
        made.segments.timeline, lsn.segment_of(paused.reached.position, segment_size), segment_size
    )
    first = made.segments.promised()
    printed = [each for each in made.log(first[0], last) if each.lsn < paused.reached.position]
    position = cut.before_drop(printed, records.endings(printed), int(row[0]))
    if position is None:
        raise RecoveryError(
            f"{database} was being dropped at the target, and no commit before that is in the WAL of this base backup",
            hint="choose an earlier time",
        )
    return AtPosition(position, inclusive=True)


def _carried_over(work: _Work, made: Replica, paused: Paused) -> Recovered:
    """Dump the database from the throwaway server, and restore that next to production."""
    wiring, point = work.wiring, work.point
    work.reporter.step(STEPS[2])
    paused.promote()
    notes = roll_back_prepared(paused)
    address = paused.address.named(work.database)
    with session(address) as connection:
        unlogged = [str(row[0]) for row in connection.execute(_UNLOGGED)]
    if unlogged:
        notes.append(f"unlogged tables are empty after any physical recovery: {', '.join(unlogged)}")
    work.reporter.step(STEPS[3])
    place = made.folder / "dumped"
    local = replace(
        wiring,
        store=RetryingStore(LocalStore(place, made=True), RetryPolicy(attempts=1), wiring.stop.sleep),
        spool=None,
        offsite=None,
        packing=replace(wiring.packing, recipients=(), retain_until=None),
        identities=(),
        servers=(),
        settings=wiring.settings.model_copy(update={"s3_object_lock_days": 0}),
    )
    dumped = run(local, PostgresTarget(point.target.name, address))
    entry = _renamed(local, dumped.id, work, paused.reached.moment)
    restored = restore(
        local, entry, wiring.production(point.target), point.into, work.reporter, again=work.again
    )
    notes += explained(wiring, work.candidate.entry.manifest.server, restored)
    return Recovered(
        replace(restored, notes=(*notes, *restored.notes)), work.candidate.entry.id, paused.reached
    )


def explained(wiring: Wiring, original: Server, restored: Restored) -> list[str]:
    """Why a restore may have failed although the backup is sound.

    The programs here made the dump. Programs that are older than the server may write dumps that no server accepts.

    Args:
        original: the server that was recovered.
    """
    return [] if restored.ok else afterwards(restored.differences, suspicions(original, wiring.programs))


def _renamed(local: Wiring, dumped: str, work: _Work, reached: datetime | None) -> Entry:
    """The dump as a backup of the recovered moment."""
    point = work.point
    database = point.target.name
    history = local.reader().read(local.clock(), [database]).history(database)
    entry = history.find(dumped)
    assert entry is not None
    assert isinstance(local.store.inner, LocalStore)
    base = local.store.inner.folder
    (base / layout.folder(database, dumped)).rename(base / layout.folder(database, point.backup_id))
    taken = (
        point.goal.moment
        if isinstance(point.goal, AtTime)
        else reached or work.candidate.entry.manifest.taken
    )
    return replace(entry, manifest=entry.manifest.model_copy(update={"id": point.backup_id, "taken": taken}))


def roll_back_prepared(paused: Paused) -> list[str]:
    """Roll back prepared transactions in the throwaway server: their locks would never be released."""
    notes = []
    with session(paused.address) as connection:
        found = connection.execute("SELECT gid, database FROM pg_prepared_xacts ORDER BY 1, 2").fetchall()
    for gid, database in found:
        with session(paused.address.named(str(database))) as connection:
            connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        notes.append(
            f"the prepared transaction {gid} of {database} was open at the target, and is not included"
        )
    return notes
