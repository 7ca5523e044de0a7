"""Runs a base backup as a server in a private folder, which replays the stored WAL up to any target."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from backup.catalogue import layout
from backup.catalogue.history import Entry
from backup.catalogue.manifest import StoredObject
from backup.catalogue.records import Difference
from backup.confinement import Confinement
from backup.errors import VerificationError
from backup.load.download import check_space, implausible, object_differences, wrong_size
from backup.load.fetch import Fetched, fetch
from backup.load.space import guarded
from backup.load.throwaway import SERVER, check_path, private_folder, server_options, sweep_folders
from backup.physical import cut, records, recover, targets, waldump
from backup.physical.feed import Feed
from backup.physical.records import Ending, Record
from backup.physical.recover import DATA, Paused
from backup.physical.segments import Segments
from backup.physical.targets import AtPosition, Goal, Latest
from backup.physical.unpack import Written, ignore, link_tablespaces, unpack
from backup.pipeline.child import run_child
from backup.pipeline.readahead import BackgroundWriter
from backup.programs import clean_environment
from backup.progress import Progress, silent
from backup.store import Store
from backup.wiring import Wiring

# Space for the data, the WAL that replay keeps, and a dump of one database.
SPACE_FACTOR = 1.5
SPACE_EXTRA = 1 << 30


class DamagedError(VerificationError):
    """The objects of a base backup are not those that were stored."""

    def __init__(self, backup_id: str, differences: list[Difference]) -> None:
        super().__init__(
            f"{backup_id} is damaged: {'; '.join(map(str, differences))}",
            hint="choose another base backup: python -m backup list",
        )
        self.differences = differences


@dataclass(frozen=True)
class Replica:
    """An unpacked base backup and the WAL that follows it.

    Attributes:
        folder: private; the data is in its folder :data:`backup.physical.recover.DATA`. What is compared with the server is
            next to the server's own part, where code in the server cannot reach it.
    """

    wiring: Wiring
    entry: Entry
    segments: Segments
    folder: Path

    @property
    def own(self) -> Path:
        """The part of the folder that the server, and programs that read its data, may write."""
        return self.folder / SERVER

    @property
    def end(self) -> int:
        """The first position that can be a target."""
        physical = self.entry.manifest.physical
        assert physical is not None
        return physical.end

    def at(self, target: Mapping[str, str]) -> AbstractContextManager[Paused]:
        """The server, waiting at a target. Each further target must be later than the one before."""
        # The tablespace map would point to the folders of the original host.
        (self.folder / DATA / "tablespace_map").unlink(missing_ok=True)
        return recover.paused(
            self.wiring.programs,
            self.folder,
            self.entry.manifest.server.superuser,
            self._feed,
            target,
            options=server_options(self.wiring.settings.verify_options),
            check=self.wiring.stop.check,
        )

    def target(self, goal: Goal) -> Mapping[str, str]:
        """The settings of a goal. The latest state has a target too: the last record that ends a transaction.

        Without a target, the server would mistake a hole in the WAL for its end, and go into production.
        """
        if not isinstance(goal, Latest):
            return targets.settings(goal, self.segments.timeline)
        last = self.last_ending()
        if last is None:
            return targets.consistent(self.segments.timeline)
        return targets.settings(AtPosition(last.lsn, inclusive=True), self.segments.timeline)

    def log(self, first: str, last: str) -> list[Record]:
        """The records of transactions and databases in some files of the WAL.

        Args:
            first, last: their names.
        """
        chosen = [
            name for name in self.segments.promised(first) if len(name) == len(first) and name[8:] <= last[8:]
        ]
        with Feed(self.folder, chosen, self.segments.fetch, ahead=None) as feed:
            feed.wait_for_all(self.wiring.stop.check)
            return list(
                waldump.printed(self.wiring.programs, feed.ready, chosen, self.own, self.wiring.stop.check)
            )

    def last_ending(self) -> Ending | None:
        """The last record of the stored WAL with which a transaction ends; None if there is none after the base."""
        names = [name for name in self.segments.promised() if len(name) == _SEGMENT_NAME]
        for name in reversed(names):
            found = cut.last_ending(records.endings(self.log(name, names[-1])))
            if found is not None:
                return found
        return None

    def verify_files(self) -> list[Difference]:
        """Compare all files with PostgreSQL's own list of them. Call it only before the first start."""
        command = [
            self.wiring.programs.path("pg_verifybackup"),
            "--no-parse-wal",
            "--quiet",
            f"--manifest-path={self.folder / _FILES}",
            str(self.folder / DATA),
        ]
        ended = run_child(
            command,
            env=clean_environment(),
            confinement=Confinement(self.own, (self.folder / _FILES,)),
            output=True,
            check=self.wiring.stop.check,
        )
        if ended.status == 0:
            return []
        messages = [line for line in ended.errors if line.strip()] or ["it ended without a message"]
        name = next(stored.name for stored in self.entry.manifest.objects if stored.role == "base")
        return [
            Difference(kind="object", object=name, expected="the files that are listed", found=line[:300])
            for line in messages[:20]
        ]

    def _feed(self, first: str) -> Feed:
        return Feed(self.folder, self.segments.promised(first), self.segments.fetch, server=self.own)


_SEGMENT_NAME = 24
_FILES = "backup_manifest"


@contextmanager
def replica(
    wiring: Wiring,
    entry: Entry,
    segments: Segments,
    parent: Path | None,
    progress: Progress = silent,
    *,
    written: Written = ignore,
    direct: bool = False,
) -> Iterator[Replica]:
    """Unpack a base backup into a private folder, which is removed afterwards.

    Args:
        parent: where the folder is created.
        progress: called with the number of stored bytes that were read.
        written: called with each file of the data, and its size in bytes, once it is unpacked.
        direct: write its large files past the page cache; only if they are not read again soon.

    Raises:
        DamagedError: the base backup is damaged.
        SpaceError: there is too little space.
        UsageError: the path of the parent is too long.
    """
    check_path(parent)
    sweep_folders(parent)
    manifest = entry.manifest
    with private_folder(parent) as folder:
        check_space(folder, int(manifest.raw_bytes * SPACE_FACTOR) + SPACE_EXTRA, "the recovery")
        made = Replica(wiring, entry, segments, folder)
        made.own.mkdir(mode=0o700)
        unpacking = partial(unpack, written=written, direct=direct)
        if differences := _unpack_all(made, progress, unpacking):
            raise DamagedError(entry.id, differences)
        yield made


def _unpack_all(made: Replica, progress: Progress, unpacking: Callable[..., None]) -> list[Difference]:
    manifest, wiring, folder = made.entry.manifest, made.wiring, made.folder
    check = guarded(wiring, folder)
    differences = list(implausible(wiring, made.entry))
    if differences:
        return differences
    spaces: dict[str, Path] = {}
    for stored in manifest.objects:
        if found := wrong_size(*_place(made, stored), stored):
            differences.append(found)
            continue
        if stored.role == "base":
            differences += _unpacked(made, stored, folder / DATA, check, progress, unpacking)
        elif stored.role == "tablespace":
            oid = stored.name.partition(".")[0]
            spaces[oid] = made.own / f"tablespace-{oid}"
            differences += _unpacked(made, stored, spaces[oid], check, progress, unpacking)
        elif stored.role == "base-manifest":
            differences += object_differences(
                stored, _fetched(made, stored, folder / _FILES, check, progress)
            )
    if not differences:
        link_tablespaces(folder / DATA, spaces)
    return differences


def _unpacked(
    made: Replica,
    stored: StoredObject,
    target: Path,
    check: Callable[[], None],
    progress: Progress,
    unpacking: Callable[..., None],
) -> list[Difference]:
    with BackgroundWriter(partial(unpacking, folder=target, check=check)) as writer:
        got = _fetched(made, stored, None, check, progress, writer.write)
        differences = object_differences(stored, got)
        if not differences:
            writer.finish()
    return differences


def _fetched(
    made: Replica,
    stored: StoredObject,
    target: Path | None,
    check: Callable[[], None],
    progress: Progress,
    plain: Callable[[bytes], object] | None = None,
) -> Fetched:
    store, key = _place(made, stored)
    return fetch(store, key, stored, target, made.wiring.identities, progress, plain, check)


def _place(made: Replica, stored: StoredObject) -> tuple[Store, str]:
    """Where an object of the base backup is stored."""
    manifest = made.entry.manifest
    return (
        made.wiring.store_named(made.entry.store),
        f"{layout.folder(manifest.database, manifest.id)}/{stored.name}",
    )
