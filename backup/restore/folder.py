"""Recovers a whole server into a folder, ready to start, to replace a lost host.

The slot of ``wal serve`` is created before the server leaves recovery, so that everything that it writes afterwards
reaches the store.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from backup.catalogue.manifest import Tablespace
from backup.load.throwaway import SERVER
from backup.physical import collations, lsn, recover
from backup.physical.coverage import Candidate, Coverage
from backup.physical.flush import Flusher, sync_folder
from backup.physical.recover import DATA, Reached
from backup.physical.replica import replica
from backup.physical.slot import NAME as SLOT
from backup.physical.targets import Goal
from backup.physical.unpack import TABLESPACES
from backup.postgres.session import session
from backup.progress import Reporter
from backup.wiring import Wiring
from sidecar import UsageError
from sidecar.logs import fields

log = logging.getLogger(__name__)

STEPS = (
    "unpack the base backup",
    "replay the WAL up to the target",
    "create the slot for the WAL, then leave recovery",
    "put the original configuration back, and write everything to the disk",
)


@dataclass(frozen=True)
class Whole:
    """A data folder that is ready to be started.

    Attributes:
        slot: the replication slot that was created in it.
        timeline: the timeline that it continues on.
        notes: notes for the operator.
    """

    reached: Reached
    slot: str
    timeline: int
    notes: tuple[str, ...]


def restore_folder(
    wiring: Wiring, coverage: Coverage, candidate: Candidate, goal: Goal, folder: Path, reporter: Reporter
) -> Whole:
    """Recover all databases of a server into a new folder.

    Raises:
        UsageError: the folder exists and is not empty, or its parent does not exist.
        RecoveryError: the target was not reached. Nothing is left behind.
    """
    _check_folder(folder)
    segments = coverage.segments(wiring.store, candidate)
    with (
        wiring.stop.limit(wiring.settings.timeout),
        wiring.journal(candidate.entry.manifest.database).attempt("restore", backup=candidate.entry.id),
    ):
        reporter.step(STEPS[0])
        # In the same file system, so that the data only has to be renamed.
        parent = folder.parent
        with (
            Flusher() as flusher,
            replica(
                wiring,
                candidate.entry,
                segments,
                parent,
                reporter.bytes,
                written=flusher.add,
                # Replay hardly reads the data: the WAL since the checkpoint of the base backup has whole pages.
                direct=True,
            ) as made,
        ):
            reporter.step(STEPS[1])
            with made.at(made.target(goal)) as paused:
                reporter.step(STEPS[2])
                _keep_wal(paused, segments.archive.segment_size)
                paused.promote()
                notes = matters(paused)
                notes += [
                    f"the tablespace of {space.location} is in {folder.name}.tablespaces/{space.oid}, next to the folder"
                    for space in _tablespaces(candidate)
                ]
                with session(paused.address) as connection:
                    connection.execute("CHECKPOINT")
                    row = connection.execute("SELECT timeline_id FROM pg_control_checkpoint()").fetchone()
                assert row is not None
            reporter.step(STEPS[3])
            flusher.finish()
            recover.settle(made.folder, wiring.stop.check)
            _place(made.folder, candidate, folder)
    log.info("recovered %s", fields(base=candidate.entry.id, folder=folder, goal=goal))
    return Whole(paused.reached, SLOT, int(row[0]), tuple(notes))


def _check_folder(folder: Path) -> None:
    if not folder.parent.is_dir():
        raise UsageError(f"{folder.parent} does not exist", hint="mount the disk for the data there")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty; nothing was changed", hint="give a new or empty folder")


def _keep_wal(paused: recover.Paused, segment_size: int) -> None:
    """Create the slot. It keeps the WAL from the segment in which the server's new timeline begins.

    A new slot would begin at the last checkpoint. The store already has the WAL up to the new timeline, and keeping it
    would mean writing it to the disk as well.
    """
    begin = lsn.text(lsn.segment_start(paused.reached.position, segment_size))
    with session(paused.address) as connection:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", [SLOT])
        connection.execute(
            "SELECT pg_replication_slot_advance(slot_name, %s) FROM pg_replication_slots"
            " WHERE slot_name = %s AND restart_lsn < %s::pg_lsn",
            [begin, SLOT, begin],
        )


def _place(made: Path, candidate: Candidate, folder: Path) -> None:
    """Move the data and its tablespaces to their final place."""
    spaces = folder.with_name(f"{folder.name}.tablespaces")
    for space in _tablespaces(candidate):
        spaces.mkdir(mode=0o700, exist_ok=True)
        (made / SERVER / f"tablespace-{space.oid}").rename(spaces / str(space.oid))
        link = made / DATA / TABLESPACES / str(space.oid)
        link.unlink()
        link.symlink_to(spaces / str(space.oid))
    if _tablespaces(candidate):
        sync_folder(spaces)
        sync_folder(made / DATA / TABLESPACES)
    if folder.exists():
        folder.rmdir()
    (made / DATA).rename(folder)
    sync_folder(folder.parent)


def _tablespaces(candidate: Candidate) -> tuple[Tablespace, ...]:
    physical = candidate.entry.manifest.physical
    return physical.tablespaces if physical else ()


def matters(paused: recover.Paused) -> list[str]:
    """What the operator has to decide about a recovered server."""
    with session(paused.address) as connection:
        prepared = connection.execute("SELECT gid, database FROM pg_prepared_xacts ORDER BY 1").fetchall()
        invalid = connection.execute(
            "SELECT datname FROM pg_database WHERE datconnlimit = -2 ORDER BY 1"
        ).fetchall()
    return [
        *(
            f"the prepared transaction {gid} of {database} is open and holds its locks: COMMIT PREPARED or ROLLBACK"
            " PREPARED it"
            for gid, database in prepared
        ),
        *(
            f"the database {name} was being dropped and no longer has files: DROP DATABASE it; to get it back,"
            " restore it alone with -d"
            for (name,) in invalid
        ),
        *collations.differing(paused),
    ]
