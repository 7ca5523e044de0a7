"""What can be recovered of a server, from its base backups and the stored log together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue.reader import Entry
from backup.physical import archive as names
from backup.physical import targets
from backup.physical.archive import Archive, Listing, Window
from backup.physical.segments import Segments
from backup.physical.upkeep import Cluster, clusters, forks
from backup.pipeline.encrypt import Identity
from backup.store import Store
from backup.wiring import Wiring
from sidecar import UsageError


@dataclass(frozen=True)
class Candidate:
    """A base backup, and how far the stored log leads from it.

    Attributes:
        stored: when the newest part of that log was stored.
        open: whether this is the end of the stored log, so that the window still grows.
    """

    entry: Entry
    window: Window
    stored: datetime
    open: bool

    @property
    def choice(self) -> targets.Base:
        """The facts that the choice of a base backup needs."""
        physical = self.entry.manifest.physical
        assert physical is not None
        return targets.Base(
            id=self.entry.id,
            timeline=self.window.timeline,
            start=physical.start,
            end=physical.end,
            finished=self.entry.manifest.taken,
            until=self.window.end,
            stored=max(self.stored, self.entry.manifest.taken),
            open=self.open,
        )


@dataclass(frozen=True)
class Coverage:
    """Everything that can be recovered of the newest cluster of a server.

    Attributes:
        candidates: by the age of the base backup, oldest first; one for each base and the newest timeline it leads to.
        unusable: base backups without a candidate, with the reason.
    """

    archive: Archive
    listing: Listing
    candidates: tuple[Candidate, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    identities: Sequence[Identity] = field(default=(), repr=False)

    def choose(self, goal: targets.Goal, position: int | None = None) -> Candidate:
        """The base backup from which a goal is reached; see :func:`backup.physical.targets.choose`."""
        chosen = targets.choose([each.choice for each in self.candidates], goal, position)
        return next(each for each in self.candidates if each.entry.id == chosen.id)

    def segments(self, store: Store, candidate: Candidate) -> Segments:
        """The log that follows a base backup."""
        window = candidate.window
        return Segments(store, self.archive, self.listing, window.path, window.timeline, self.identities)


def coverage_of(wiring: Wiring, server: str, timeline: int | None = None) -> Coverage:
    """Read the stored log of a server from the main store, and its base backups. Without an identity, which decrypts the
    histories of timelines, only a base's own timeline is followed.

    Args:
        timeline: the timeline to follow; by default the newest that a base leads to.

    Raises:
        UsageError: there is no base backup.
        StoreError: the store does not answer.
    """
    history = wiring.reader().read(wiring.clock(), [server]).history(server)
    bases = [entry for entry in history.backups if entry.manifest.physical is not None]
    if not bases:
        raise UsageError(f"{server} has no base backup", hint=f"make one: python -m backup run -d {server}")
    newest = bases[-1].manifest
    assert newest.physical is not None
    system = newest.server.system_identifier
    size = newest.physical.segment_size
    empty = Cluster(Archive(server, system, size, wiring.keys), Listing(), ())
    cluster = next(
        (each for each in clusters(wiring, wiring.store, server, size) if each.archive.system == system),
        empty,
    )
    own = [entry for entry in bases if entry.manifest.server.system_identifier == system]
    windows = names.windows(
        [_base(entry) for entry in own if not entry.damaged],
        cluster.listing.wal,
        forks(wiring, cluster),
        cluster.gaps,
        segment_size=size,
    )
    candidates = []
    unusable = []
    for entry in own:
        fitting = [
            window
            for window in windows
            if window.base == entry.id and (timeline is None or window.timeline == timeline)
        ]
        if fitting:
            candidates.append(_candidate(entry, max(fitting, key=lambda window: window.timeline), cluster))
        elif entry.damaged:
            unusable.append((entry.id, "objects of it are damaged or missing"))
        else:
            unusable.append((entry.id, "the store lacks WAL that it needs"))
    return Coverage(cluster.archive, cluster.listing, tuple(candidates), tuple(unusable), wiring.identities)


def _base(entry: Entry) -> names.Base:
    physical = entry.manifest.physical
    assert physical is not None
    return names.Base(entry.id, physical.timeline, physical.start, physical.end)


def _candidate(entry: Entry, window: Window, cluster: Cluster) -> Candidate:
    on_it = [each for each in cluster.listing.wal if each.timeline == window.timeline]
    stored = [each.stored.modified for each in on_it if window.end - 1 in range(each.start, each.end)]
    gaps = [gap.start for gap in cluster.gaps if gap.timeline == window.timeline]
    return Candidate(
        entry,
        window,
        max(stored, default=entry.manifest.taken),
        open=not any(start >= window.end for start in (*(each.start for each in on_it), *gaps)),
    )
