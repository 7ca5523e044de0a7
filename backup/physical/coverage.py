"""What can be recovered of a server, from its base backups and the stored WAL together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue.history import Entry, History
from backup.physical import lsn, targets
from backup.physical.archive import Archive, Listing
from backup.physical.segments import Segments
from backup.physical.upkeep import Cluster, clusters, forks
from backup.physical.windows import Base, Window, windows
from backup.pipeline.encrypt import Identity
from backup.store import Store
from backup.wiring import Wiring
from sidecar import UsageError


@dataclass(frozen=True)
class Candidate:
    """A base backup, and how far the stored WAL reaches from it.

    Attributes:
        stored: when the newest part of that WAL was stored.
        open: whether this is the end of the stored WAL, so that the window still grows.
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
        lost: newer timelines whose WAL is stored, and whose history is missing or cannot be read: it is not known where they begin.
    """

    archive: Archive
    listing: Listing
    candidates: tuple[Candidate, ...]
    unusable: tuple[tuple[str, str], ...] = ()
    lost: tuple[int, ...] = ()
    identities: Sequence[Identity] = field(default=(), repr=False)

    def choose(self, goal: targets.Goal, position: int | None = None) -> Candidate:
        """The base backup from which a goal is reached; see :func:`backup.physical.targets.choose`.

        Raises:
            UsageError: none is, or the latest state is on a timeline that is lost.
        """
        if isinstance(goal, targets.Latest) and self.lost:
            raise UsageError(
                f"WAL of timeline {self.lost[-1]} is stored, and its history is missing or cannot be read: the latest state"
                " cannot be recovered",
                hint=f"take a base backup; for the end of the timeline before: --timeline {self.lost[0] - 1}",
            )
        chosen = targets.choose([each.choice for each in self.candidates], goal, position)
        return next(each for each in self.candidates if each.entry.id == chosen.id)

    def segments(self, store: Store, candidate: Candidate) -> Segments:
        """The log that follows a base backup."""
        window = candidate.window
        return Segments(store, self.archive, self.listing, window.path, window.timeline, self.identities)


@dataclass(frozen=True)
class Period:
    """A period in which every moment can be recovered.

    Attributes:
        latest: when its newest WAL was stored.
        open: whether it still grows.
    """

    earliest: datetime
    latest: datetime
    open: bool


def periods(candidates: Sequence[Candidate]) -> tuple[Period, ...]:
    """The periods that can be recovered, oldest first. Nothing can be recovered between two of them."""
    found: list[Period] = []
    for each in sorted((each.choice for each in candidates), key=lambda each: (each.finished, each.id)):
        own = Period(each.finished, each.stored, each.open)
        if found and own.earliest <= found[-1].latest:
            last = found.pop()
            own = Period(last.earliest, max(last.latest, own.latest), last.open or own.open)
        found.append(own)
    return tuple(found)


def expected_seconds(candidates: Sequence[Candidate], chosen: Candidate) -> float | None:
    """The estimated duration of a recovery to the end of the WAL that follows a base backup, from the newest proof; None without one."""
    for each in reversed(candidates):
        report = each.entry.report
        if report is None or not report.ok or not report.measures.get("replay"):
            continue
        growth = chosen.entry.manifest.raw_bytes / max(each.entry.manifest.raw_bytes, 1)
        wal = sum(span.end - span.start for span in chosen.window.path)
        return report.stages.get("download", 0.0) * growth + wal / report.measures["replay"]
    return None


def coverage_of(wiring: Wiring, server: str, timeline: int | None = None) -> Coverage:
    """Read the stored WAL of a server from the main store, and its base backups. Without an identity, which decrypts the
    histories of timelines, only a base's own timeline is followed.

    Args:
        timeline: the timeline to follow; by default the newest that a base leads to.

    Raises:
        UsageError: there is no base backup.
        StoreError: the store does not answer.
    """
    history = wiring.reader().read(wiring.clock(), [server]).history(server)
    newest = next((entry for entry in reversed(history.backups) if entry.manifest.physical), None)
    if newest is None or newest.manifest.physical is None:
        raise UsageError(f"{server} has no base backup", hint=f"take one: python -m backup run -d {server}")
    size = newest.manifest.physical.segment_size
    return coverage(wiring, history, clusters(wiring, wiring.store, server, size), timeline)


def coverage(
    wiring: Wiring, history: History, found: Sequence[Cluster], timeline: int | None = None
) -> Coverage:
    """What can be recovered, from the data that was read about a server: its catalogue, and the stored WAL of each cluster.

    Args:
        history: with at least one base backup.
        timeline: see :func:`coverage_of`.
    """
    bases = [entry for entry in history.backups if entry.manifest.physical is not None]
    newest = bases[-1].manifest
    assert newest.physical is not None
    system, size = newest.server.system_identifier, newest.physical.segment_size
    empty = Cluster(Archive(history.database, system, size, wiring.keys), Listing(), ())
    cluster = next((each for each in found if each.archive.system == system), empty)
    own = [entry for entry in bases if entry.manifest.server.system_identifier == system]
    known = forks(wiring, cluster)
    recoverable = windows(
        [_base(entry) for entry in own if not entry.damaged],
        cluster.listing.wal,
        known,
        cluster.gaps,
        segment_size=size,
    )
    candidates = []
    unusable = []
    for entry in own:
        fitting = [
            window
            for window in recoverable
            if window.base == entry.id and (timeline is None or window.timeline == timeline)
        ]
        if fitting:
            candidates.append(_candidate(entry, max(fitting, key=lambda window: window.timeline), cluster))
        elif entry.damaged:
            unusable.append((entry.id, _damage(entry)))
        else:
            unusable.append((entry.id, "the store lacks WAL that it needs"))
    lost = {each.timeline for each in cluster.listing.wal if each.timeline > newest.physical.timeline} - set(
        known
    )
    return Coverage(
        cluster.archive,
        cluster.listing,
        tuple(candidates),
        tuple(unusable),
        tuple(sorted(lost)) if wiring.identities and timeline is None else (),
        wiring.identities,
    )


def _base(entry: Entry) -> Base:
    physical = entry.manifest.physical
    assert physical is not None
    return Base(entry.id, physical.timeline, physical.start, physical.end)


def _damage(entry: Entry) -> str:
    if entry.missing:
        return f"some of its objects are missing or differ in size: {', '.join(entry.missing)}"
    return "some of its objects are damaged"


def _candidate(entry: Entry, window: Window, cluster: Cluster) -> Candidate:
    timeline, end, listing = window.timeline, window.end, cluster.listing
    segment = lsn.segment_start(end - 1, cluster.archive.segment_size)
    stored = [each.stored.modified for each in listing.between(timeline, segment, end) if each.end >= end]
    later = (gap.timeline == timeline and gap.start >= end for gap in cluster.gaps)
    continues = listing.continues(timeline, end) or any(later)
    return Candidate(entry, window, max(stored, default=entry.manifest.taken), open=not continues)
