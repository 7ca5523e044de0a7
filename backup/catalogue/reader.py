"""Reads what is in the store. The service, the metrics, the command line and the status page all use it."""

import logging
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Attempt, Kind, Report, decode
from backup.errors import CatalogueError, NotFoundError
from backup.store import ObjectInfo, Store

log = logging.getLogger(__name__)

# Number of attempts of each kind that are read. The newest contain the totals of all.
RECENT = 50


@dataclass(frozen=True)
class Entry:
    """One committed backup.

    Attributes:
        reports: its verifications, oldest first.
        missing: objects that the manifest names but the store lacks.
    """

    manifest: Manifest
    reports: tuple[Report, ...] = ()
    missing: tuple[str, ...] = ()
    store: str = "main"

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def report(self) -> Report | None:
        """The newest verification."""
        return self.reports[-1] if self.reports else None

    @property
    def verified(self) -> bool:
        """Whether the newest verification passed."""
        return self.report is not None and self.report.ok and not self.missing

    @property
    def held_once(self) -> bool:
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
        """Whether the last verification failed although the bytes are intact and an earlier one passed.

        Then the keys, the check command or the PostgreSQL programs have changed since."""
        if self.report is None or self.verified or self.damaged:
            return False
        return self.held_once or all(each.kind == "check" for each in self.report.differences)

    @property
    def state(self) -> str:
        """The state in one word: verified, FAILED, unverified, …"""
        if self.missing:
            return "incomplete"
        if self.report is None:
            return "unverified"
        return "verified" if self.report.ok else "FAILED"


@dataclass(frozen=True)
class Broken:
    """A folder whose manifest cannot be read."""

    id: str
    error: CatalogueError


@dataclass(frozen=True)
class History:
    """All backups and attempts of one database, oldest first."""

    database: str
    backups: tuple[Entry, ...] = ()
    broken: tuple[Broken, ...] = ()
    attempts: tuple[Attempt, ...] = ()

    @property
    def latest(self) -> Entry | None:
        return self.backups[-1] if self.backups else None

    def find(self, backup_id: str) -> Entry | None:
        return next((entry for entry in self.backups if entry.id == backup_id), None)

    def newest(self, kind: Kind, *, finished: bool = False) -> Attempt | None:
        """The newest attempt of a kind."""
        wanted = (r for r in reversed(self.attempts) if r.kind == kind and (r.finished or not finished))
        return next(wanted, None)

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
        return next((entry for entry in reversed(self.backups) if entry.verified), None)


@dataclass(frozen=True)
class Catalogue:
    """All databases of a store at one moment."""

    read: datetime
    databases: dict[str, History] = field(default_factory=dict)

    def history(self, database: str) -> History:
        return self.databases.get(database) or History(database)


class Reader:
    """Reads the catalogue of one store. Each unchanged object is read only once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[tuple[str, str], bytes] = {}

    def read(self, now: datetime, databases: Iterable[str] | None = None) -> Catalogue:
        """The current catalogue, of some databases or of all."""
        if databases is None:
            found = list(self._store.walk())
        else:
            found = [info for name in databases for info in self._store.walk(f"{name}/")]
        objects = {info.key: info for info in found}
        histories = self._histories(objects)
        # Forget attempts and reports that no longer exist.
        current = {(info.key, info.version) for info in objects.values()}
        self._seen = {key: data for key, data in self._seen.items() if key in current}
        return Catalogue(now, histories)

    def _histories(self, objects: dict[str, ObjectInfo]) -> dict[str, History]:
        backups: dict[str, list[Entry]] = defaultdict(list)
        broken: dict[str, list[Broken]] = defaultdict(list)
        for database, backup_id, names in _folders(objects):
            if layout.MANIFEST not in names:
                continue
            try:
                backups[database].append(self._entry(objects, database, backup_id, names))
            except CatalogueError as error:
                broken[database].append(Broken(backup_id, error))
            except NotFoundError:
                continue  # deleted in the meantime
        attempts = self._attempts(objects)
        return {
            name: History(name, tuple(backups[name]), tuple(broken[name]), tuple(attempts.get(name, ())))
            for name in sorted({*backups, *broken, *attempts})
        }

    def _entry(
        self, objects: dict[str, ObjectInfo], database: str, backup_id: str, names: list[str]
    ) -> Entry:
        key = layout.manifest(database, backup_id)
        manifest = Manifest.decode(self._content(objects[key]), key)
        if (manifest.id, manifest.database) != (backup_id, database):
            raise CatalogueError(
                f"{key} is the manifest of {manifest.database}/{manifest.id}",
                hint="it was copied there; delete the folder",
            )
        folder = layout.folder(database, backup_id)
        reports = [self._report(objects[f"{folder}/{name}"]) for name in names if layout.is_report(name)]
        missing = [stored.name for stored in manifest.objects if stored.name not in names]
        return Entry(
            manifest, tuple(report for report in reports if report), tuple(missing), self._store.name
        )

    def _report(self, info: ObjectInfo) -> Report | None:
        try:
            return decode(Report, self._content(info), info.key)
        except (CatalogueError, NotFoundError) as error:
            log.warning("a verification report is skipped: %s", error.message)
            return None

    def _attempts(self, objects: dict[str, ObjectInfo]) -> dict[str, list[Attempt]]:
        groups: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
        for key in sorted(objects):
            if parts := layout.split_attempt(key):
                groups[parts].append(objects[key])
        attempts: dict[str, list[Attempt]] = defaultdict(list)
        for (database, _), infos in groups.items():
            attempts[database] += filter(None, map(self._attempt_of, infos[-RECENT:]))
        return {name: sorted(found, key=lambda attempt: attempt.started) for name, found in attempts.items()}

    def recent_attempts(self, database: str, kind: Kind, count: int = 5) -> tuple[Attempt, ...]:
        """The newest attempts of a kind, and the newest of all, oldest first."""
        infos = list(self._store.walk(f"{database}/{layout.ATTEMPTS}/"))
        same = [info for info in infos if layout.split_attempt(info.key) == (database, kind)]
        chosen = {info.key: info for info in (*same[-count:], *infos[-count:])}
        found = filter(None, map(self._attempt_of, chosen.values()))
        return tuple(sorted(found, key=lambda attempt: attempt.started))

    def recent_manifests(self, database: str, count: int) -> tuple[Manifest, ...]:
        """The newest manifests that can be read, oldest first."""
        keys = [
            info.key for info in self._store.walk(f"{database}/") if info.key.endswith(f"/{layout.MANIFEST}")
        ]
        found = []
        for key in keys[-count:]:
            with suppress(CatalogueError, NotFoundError):
                found.append(Manifest.decode(self._store.get(key), key))
        return tuple(found)

    def _attempt_of(self, info: ObjectInfo) -> Attempt | None:
        try:
            return decode(Attempt, self._content(info), info.key)
        except (CatalogueError, NotFoundError) as error:
            log.warning("an attempt is skipped: %s", error.message)
            return None

    def _content(self, info: ObjectInfo) -> bytes:
        seen = self._seen.get((info.key, info.version))
        if seen is None:
            seen = self._store.get(info.key)
            self._seen[info.key, info.version] = seen
        return seen


def _folders(objects: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """Backups with the names of their objects, oldest first."""
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key in sorted(objects):
        if parts := layout.split(key):
            folders[parts[0], parts[1]].append(parts[2])
    return [(database, backup_id, names) for (database, backup_id), names in sorted(folders.items())]


def projected_rto(history: History, held: list[Report]) -> float:
    """Duration of the last measured restore, scaled to the size of the newest backup; 0 if not known."""
    return projected(history, held, history.latest)


def projected(history: History, held: list[Report], entry: Entry | None) -> float:
    """Duration of the last measured restore, scaled to the size of a backup; 0 if not known."""
    if not held or entry is None:
        return 0.0
    restored = history.find(held[-1].backup)
    if restored is None or not restored.manifest.raw_bytes:
        return held[-1].restore_seconds
    return held[-1].restore_seconds * entry.manifest.raw_bytes / restored.manifest.raw_bytes
