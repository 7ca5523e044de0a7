"""What is known about the backups and attempts of each database."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from backup.catalogue import ids
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Attempt, Kind, Report
from backup.catalogue.signatures import Trust
from backup.errors import CatalogueError

# Maximum difference between two hosts' clocks.
CLOCK_TOLERANCE = timedelta(minutes=10)


@dataclass(frozen=True)
class Entry:
    """One committed backup.

    Attributes:
        reports: its verifications, oldest first.
        missing: objects that the manifest names but the store lacks, or has in another size.
        trust: the verdict on its manifest's signature.
        on_hold: no retention rule deletes it.
        hold: since when and why it is on hold, if that could be read.
        deleted_before: a prune deleted it, so someone has put it back.
    """

    manifest: Manifest
    reports: tuple[Report, ...] = ()
    missing: tuple[str, ...] = ()
    store: str = "main"
    trust: Trust = "unchecked"
    deleted_before: bool = False
    on_hold: bool = False
    hold: Hold | None = None

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def order(self) -> tuple[datetime, str]:
        """The key that sorts backups by their start; IDs alone sort those of one second at random."""
        return self.manifest.started, self.id

    @property
    def trusted(self) -> bool:
        """Whether it is ours. Any other is ignored: in retention, as a proof, and as the latest backup."""
        return self.trust in ("unchecked", "signed") and not self.deleted_before

    @property
    def report(self) -> Report | None:
        """The newest conclusive verification; the newest of all if none was conclusive."""
        conclusive = [report for report in self.reports if not report.unprovable]
        return (conclusive or self.reports or (None,))[-1]

    @property
    def unprovable(self) -> bool:
        """Whether a verification was attempted on a host that lacks what it needs."""
        return self.report is not None and bool(self.report.unprovable)

    @property
    def verified(self) -> bool:
        """Whether the newest verification passed."""
        return self.trusted and self.report is not None and self.report.ok and not self.missing

    @property
    def passed_once(self) -> bool:
        """Whether any verification passed, regardless of later ones."""
        return any(report.ok for report in self.reports)

    @property
    def damaged(self) -> bool:
        """Whether objects in the store differ from what was stored."""
        objects = {stored.name for stored in self.manifest.objects}
        found = self.report.differences if self.report else ()
        return bool(self.missing) or any(each.kind == "object" and each.object in objects for each in found)

    @property
    def doubtful(self) -> bool:
        """Whether it failed although its bytes are intact and it passed before: keys, commands or programs have changed."""
        if self.report is None or self.verified or self.damaged or self.unprovable:
            return False
        return self.passed_once or all(each.kind == "check" for each in self.report.differences)

    @property
    def state(self) -> str:
        """The state in one word: verified, FAILED, unverified, …"""
        if self.deleted_before:
            return "REPLAYED"
        if not self.trusted:
            return "FORGED" if self.trust == "forged" else "unsigned"
        if self.missing:
            return "incomplete"
        if self.report is None:
            return "unverified"
        if self.unprovable:
            return "unprovable"
        return "verified" if self.report.ok else "FAILED"

    @property
    def unlike(self) -> bool:
        """Whether it is unlike the backups before it. Proven means equal to the dump; the dump itself may lack lost data."""
        return bool(self.manifest.anomalies)

    @property
    def label(self) -> str:
        """The state, whether the backup is unlike those before it, and whether it is on hold."""
        return ", ".join([self.state, *(["unlike"] * self.unlike), *(["on hold"] * self.on_hold)])


@dataclass(frozen=True)
class Broken:
    """A folder whose manifest cannot be read."""

    id: str
    error: CatalogueError


@dataclass(frozen=True)
class History:
    """All backups and attempts of one database, oldest first.

    Attributes:
        others: backups in its folder that are not ours: unsigned, forged, or put back after a deletion.
        read: when the store was read.
    """

    database: str
    backups: tuple[Entry, ...] = ()
    broken: tuple[Broken, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    others: tuple[Entry, ...] = ()
    read: datetime | None = None

    @property
    def latest(self) -> Entry | None:
        """The newest backup. One from the future does not count, because no later one could ever replace it."""
        return next((entry for entry in reversed(self.backups) if not self.is_ahead(entry)), None)

    def is_ahead(self, entry: Entry) -> bool:
        """Whether its data is from the future: its clock, or ours, is wrong."""
        return self.read is not None and entry.manifest.taken > self.read + CLOCK_TOLERANCE

    @property
    def seconds_ahead(self) -> float:
        """How far the newest backup is dated ahead of our clock; 0 if it is not."""
        if self.read is None or not self.backups:
            return 0.0
        newest = max(entry.manifest.taken for entry in self.backups)
        return max(0.0, (newest - self.read).total_seconds())

    def until(self, moment: datetime) -> "History":
        """The history as of a moment: the backups whose data is not newer."""
        last = ids.stamp(moment)
        return replace(
            self,
            backups=tuple(entry for entry in self.backups if entry.manifest.taken <= moment),
            broken=tuple(each for each in self.broken if each.id <= last),
            others=tuple(entry for entry in self.others if entry.manifest.taken <= moment),
        )

    def find(self, backup_id: str) -> Entry | None:
        return next((entry for entry in self.backups if entry.id == backup_id), None)

    def newest(self, kind: Kind, *, finished: bool = False) -> Attempt | None:
        """The newest attempt of a kind. One from the future does not count, because no later one could ever replace it."""
        last = self.read + CLOCK_TOLERANCE if self.read is not None else None
        wanted = (r for r in reversed(self.attempts) if r.kind == kind and (r.finished or not finished))
        return next((attempt for attempt in wanted if last is None or attempt.started <= last), None)

    @property
    def reports(self) -> list[Report]:
        """The verifications of all backups, by the time of their end."""
        found = (report for entry in self.backups for report in entry.reports)
        return sorted(found, key=lambda report: report.finished)

    @property
    def last_report(self) -> Report | None:
        return self.reports[-1] if self.reports else None

    @property
    def last_verified(self) -> Entry | None:
        """The newest verified backup."""
        known = (entry for entry in reversed(self.backups) if entry.verified)
        return next((entry for entry in known if not self.is_ahead(entry)), None)


@dataclass(frozen=True)
class Catalogue:
    """All databases of a store at one moment."""

    read: datetime
    databases: dict[str, History] = field(default_factory=dict)

    def history(self, database: str) -> History:
        return self.databases.get(database) or History(database)


def projected_rto(history: History, passed: list[Report]) -> float:
    """Duration of the last measured restore, scaled to the size of the newest backup; 0 if not known."""
    return projected(history, passed, history.latest)


def projected(history: History, passed: list[Report], entry: Entry | None) -> float:
    """Duration of the last measured restore, scaled to the size of a backup; 0 if not known."""
    if not passed or entry is None:
        return 0.0
    restored = history.find(passed[-1].backup)
    if restored is None or not restored.manifest.raw_bytes:
        return passed[-1].restore_seconds
    return passed[-1].restore_seconds * entry.manifest.raw_bytes / restored.manifest.raw_bytes
