"""Reads what is in the store. The service, the metrics, the command line and the status page all use it."""

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from backup.cancellation import carry
from backup.catalogue import ids, layout
from backup.catalogue.document import D, Document, damaged, decode, too_large
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest
from backup.catalogue.packed import Packed
from backup.catalogue.records import Attempt, Kind, Report
from backup.catalogue.signatures import Keyring, Trust
from backup.errors import CatalogueError, NotFoundError
from backup.store import ObjectInfo, Store

log = logging.getLogger(__name__)

# Number of attempts of each kind that are read. The newest contain the totals of all.
RECENT = 50
# Maximum bytes of documents that are fetched ahead; a single one may be larger.
WAITING_BYTES = 32 << 20
# Maximum difference between two hosts' clocks.
CLOCK_TOLERANCE = timedelta(minutes=10)
Choice: TypeAlias = Callable[[list[str]], Iterable[str]]
_Version: TypeAlias = tuple[str, str]
_Known: TypeAlias = tuple[Document, Trust] | CatalogueError


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


class Reader:
    """Reads the catalogue of one store. Each unchanged object is read only once.

    No content of the store makes it raise: what is out of bounds is reported, and the rest is read.

    Args:
        keys: documents that none of them has signed are ignored.
    """

    def __init__(self, store: Store, keys: Keyring) -> None:
        self._store = store
        self._keys = keys
        # Documents by database, key and version.
        self._seen: dict[str, dict[_Version, _Known]] = defaultdict(dict)
        self._parts: dict[str, _SharedParts] = defaultdict(_SharedParts)
        self._last: dict[str, tuple[dict[str, str] | None, dict[str, History]]] = {}

    def read(
        self, now: datetime, databases: Iterable[str] | None = None, chosen: Choice | None = None
    ) -> Catalogue:
        """The current catalogue, of some databases or of all.

        Args:
            chosen: which of a database's backups to read, given the IDs of all, oldest first; by default all of them.
                Then only the attempts that name deleted backups are read.
        """
        # The other objects in the store, such as WAL, may be far more numerous.
        names = self.named() if databases is None else databases
        histories: dict[str, History] = {}
        for name in names:
            objects = self._listed(name)
            histories |= (
                self._whole(name, objects, now) if chosen is None else self._histories(objects, now, chosen)
            )
        return Catalogue(now, {name: histories[name] for name in sorted(histories)})

    def read_listed(self, now: datetime, database: str) -> tuple[History, Mapping[str, ObjectInfo]]:
        """One database, and the objects that it was read from, by key."""
        objects = self._listed(database)
        found = self._whole(database, objects, now)
        return found.get(database) or History(database), objects

    def named(self) -> list[str]:
        return [name for name in self._store.folders() if layout.NAME.fullmatch(name)]

    def _listed(self, database: str) -> dict[str, ObjectInfo]:
        objects = {info.key: info for info in self._store.walk(f"{database}/")}
        # Forget documents that no longer exist.
        seen = self._seen[database]
        current = {(info.key, info.version) for info in objects.values()}
        self._seen[database] = {key: known for key, known in list(seen.items()) if key in current}
        return objects

    def _whole(self, database: str, objects: dict[str, ObjectInfo], now: datetime) -> dict[str, History]:
        """The histories of all objects; the previous result if nothing has changed since."""
        versions = {key: info.version for key, info in objects.items()}
        before, found = self._last.get(database, (None, {}))
        if before == versions:
            return {name: replace(history, read=now) for name, history in found.items()}
        found = self._histories(objects, now, None)
        # A document from the future is read again once its time has come.
        later = f"{database}/{layout.ATTEMPTS}/{ids.stamp(now)}"
        if self._keys or not any(key > later and layout.split_attempt(key) for key in versions):
            self._last[database] = (versions, found)
        else:
            self._last.pop(database, None)
        return found

    def _histories(
        self, objects: dict[str, ObjectInfo], now: datetime, chosen: Choice | None
    ) -> dict[str, History]:
        folders = _chosen_folders(objects, chosen)
        self._fetch(folders, objects, attempts=chosen is None)
        attempts = self._attempts(objects, now) if chosen is None else self._prunes(objects, now)
        deleted = {name: _deleted(found) for name, found in attempts.items()}
        entries: dict[str, list[Entry]] = defaultdict(list)
        broken: dict[str, list[Broken]] = defaultdict(list)
        for database, backup_id, names in folders:
            try:
                entry = self._entry(objects, database, backup_id, names)
            except CatalogueError as error:
                broken[database].append(Broken(backup_id, error))
            except NotFoundError:
                continue  # deleted in the meantime
            else:
                back = bool(self._keys) and backup_id in deleted.get(database, ())
                entries[database].append(replace(entry, deleted_before=back))
        for found in entries.values():
            found.sort(key=lambda entry: entry.order)
        return {
            name: History(
                name,
                tuple(entry for entry in entries[name] if entry.trusted),
                tuple(broken[name]),
                tuple(attempts.get(name, ())),
                tuple(entry for entry in entries[name] if not entry.trusted),
                now,
            )
            for name in sorted({*entries, *broken, *attempts})
        }

    def _entry(
        self, objects: dict[str, ObjectInfo], database: str, backup_id: str, names: list[str]
    ) -> Entry:
        key = layout.manifest(database, backup_id)
        manifest, trust = self._document(Manifest, objects[key])
        if (manifest.id, manifest.database) != (backup_id, database):
            raise CatalogueError(
                f"{key} is the manifest of {manifest.database}/{manifest.id}",
                hint="it was copied there; delete the folder",
            )
        if not ids.fits(backup_id, manifest.started):
            raise CatalogueError(
                f"{key} states that it started at {manifest.started}, but its ID does not",
                hint="no run writes such a manifest; delete the folder",
            )
        if odd := manifest.oddity:
            raise damaged(key, f"no run writes {odd}")
        folder = layout.folder(database, backup_id)
        reports = [
            self._report(objects[f"{folder}/{name}"], manifest) for name in names if layout.is_report(name)
        ]
        there = {name: objects[f"{folder}/{name}"].size for name in names}
        missing = [each.name for each in manifest.objects if there.get(each.name) != each.stored_bytes]
        # By the signed time: anyone could give a report a newer name.
        found = tuple(sorted(filter(None, reports), key=lambda report: report.finished))
        entry = Entry(manifest, found, tuple(missing), self._store.name, trust)
        holds = [self._hold(objects[f"{folder}/{name}"], manifest) for name in names if layout.is_hold(name)]
        known = [hold for hold in holds if hold is not None]
        if not holds:
            return entry
        newest = max(known, key=lambda hold: hold.moment, default=None)
        doubt = len(known) < len(holds)
        held = newest if newest and newest.held else None
        return replace(entry, on_hold=doubt or held is not None, hold=held)

    def _hold(self, info: ObjectInfo, manifest: Manifest) -> Hold | None:
        """Our record of a hold on this backup; None if it cannot be trusted."""
        hold = self._believed(Hold, info)
        fits = hold is not None and (hold.backup, hold.database) == (manifest.id, manifest.database)
        return hold if fits else None

    def _report(self, info: ObjectInfo, manifest: Manifest) -> Report | None:
        """A report about this manifest that one of our keys has signed."""
        report = self._believed(Report, info)
        if report is None:
            return None
        # Format 1 named no manifest; and no version that writes it has ever verified a backup of format 2.
        older = report.format == manifest.format == 1 and not report.manifest
        bound = report.manifest == manifest.digest or older
        if not bound or (report.backup, report.database) != (manifest.id, manifest.database):
            log.warning("%s is skipped: it is the report of another backup", info.key)
            return None
        return report

    def _attempts(self, objects: dict[str, ObjectInfo], now: datetime) -> dict[str, list[Attempt]]:
        attempts: dict[str, list[Attempt]] = defaultdict(list)
        for (database, _), infos in _by_kind(objects).items():
            found = self._newest_attempts(infos, RECENT, now)
            attempts[database] += [attempt for attempt in found if attempt.outcome != "skipped"]
        return {name: sorted(found, key=lambda attempt: attempt.started) for name, found in attempts.items()}

    def _prunes(self, objects: dict[str, ObjectInfo], now: datetime) -> dict[str, list[Attempt]]:
        """The newest prunes up to one that succeeded: it names all deleted backups."""
        found: dict[str, list[Attempt]] = defaultdict(list)
        if not self._keys:
            return found  # then it does not matter what was deleted
        for (database, kind), infos in _by_kind(objects).items():
            if kind != "prune":
                continue
            for attempt in self._newest_attempts(infos, RECENT, now):
                found[database].append(attempt)
                if attempt.outcome == "success":
                    break
        return found

    def _fetch(
        self, folders: list[tuple[str, str, list[str]]], objects: dict[str, ObjectInfo], *, attempts: bool
    ) -> None:
        """Read the documents that are not known yet: many at a time, where that is faster."""
        if self._store.parallel == 1:
            return  # each one when it is needed
        wanted = list(_documents(folders, objects))
        if attempts:
            newest = (infos[-RECENT:] for infos in _by_kind(objects).values())
            wanted += [(Attempt, info) for infos in newest for info in infos]
        unknown = [
            (kind, info)
            for kind, info in wanted
            if (info.key, info.version) not in self._seen[_database(info)] and info.size <= kind.max_bytes
        ]
        if len(unknown) < 2:
            return
        with ThreadPoolExecutor(min(self._store.parallel, len(unknown)), thread_name_prefix="get") as pool:
            for kind, info, data in _fetched(pool, carry(self._bytes_of), unknown, self._store.parallel * 4):
                if data is not None:
                    self._seen[_database(info)][info.key, info.version] = self._read(kind, info, data)

    def _bytes_of(self, info: ObjectInfo) -> bytes | None:
        """The bytes of an object; None if it was deleted in the meantime."""
        try:
            return self._store.get(info.key)
        except NotFoundError:
            return None

    def recent_attempts(
        self, database: str, kind: Kind, now: datetime, count: int = 5
    ) -> tuple[Attempt, ...]:
        """The newest attempts of a kind, and the newest of all, oldest first."""
        infos = list(self._store.walk(f"{database}/{layout.ATTEMPTS}/"))
        same = [info for info in infos if layout.split_attempt(info.key) == (database, kind)]
        chosen = {
            (attempt.kind, attempt.id): attempt
            for each in (same, infos)
            for attempt in self._newest_attempts(each, count, now)
        }
        return tuple(sorted(chosen.values(), key=lambda attempt: attempt.started))

    def _newest_attempts(self, infos: Sequence[ObjectInfo], count: int, now: datetime) -> Iterator[Attempt]:
        """The newest attempts that are ours: any number of others may be between them.

        Without a key, those from the future do not count: no one could tell them from ours.

        Args:
            infos: in the order of their names.
        """
        last = ids.stamp(now + CLOCK_TOLERANCE)
        ended: set[tuple[str, str]] = set()
        for info in reversed(infos):
            if not count:
                return
            fits = bool(self._keys) or info.key.rpartition("/")[2] <= last
            attempt = self._attempt_of(info) if fits else None
            if attempt is not None and (attempt.kind, attempt.id) not in ended:
                ended.add((attempt.kind, attempt.continues))
                count -= 1
                yield attempt

    def recent_manifests(self, database: str, count: int) -> tuple[Manifest, ...]:
        """The newest manifests that can be read and are ours, oldest first."""
        infos = [
            info for info in self._store.walk(f"{database}/") if info.key.endswith(f"/{layout.MANIFEST}")
        ]
        found: list[Manifest] = []
        for info in reversed(infos):
            if len(found) == count:
                break
            with suppress(CatalogueError, NotFoundError):
                manifest, trust = self._document(Manifest, info)
                if trust in ("unchecked", "signed"):
                    found.append(manifest)
        return tuple(reversed(found))

    def _attempt_of(self, info: ObjectInfo) -> Attempt | None:
        attempt = self._believed(Attempt, info)
        if attempt and info.key != layout.attempt(attempt.database, attempt.id, attempt.kind):
            log.warning("%s is skipped: it is the record of another attempt", info.key)
            return None
        return attempt

    def _believed(self, kind: type[D], info: ObjectInfo) -> D | None:
        """A document that can be trusted; None, and a warning, for any other."""
        try:
            document, trust = self._document(kind, info)
        except (CatalogueError, NotFoundError) as error:
            log.debug("%s is skipped: %s", info.key, error.message)
            return None
        return document if trust in ("unchecked", "signed") else None

    def _document(self, kind: type[D], info: ObjectInfo) -> tuple[D, Trust]:
        seen = self._seen[_database(info)]
        known = seen.get((info.key, info.version))
        if known is None:
            known = seen[info.key, info.version] = self._read(kind, info)
        if isinstance(known, CatalogueError):
            raise known
        document, trust = known
        assert isinstance(document, kind)
        return document, trust

    def _read(self, kind: type[Document], info: ObjectInfo, data: bytes | None = None) -> _Known:
        """A document, or what is wrong with it; a problem is reported once, not at every read."""
        try:
            # The object may have any size; one that is too large is not even fetched.
            if info.size > kind.max_bytes:
                raise too_large(kind, info.size, info.key)
            data = self._store.get(info.key) if data is None else data
            document, trust = decode(kind, data, info.key, self._keys)
        except CatalogueError as error:
            log.warning("%s", error.message)
            return error
        if trust in ("unsigned", "forged"):
            log.warning("%s is %s and is ignored", info.key, trust)
        if isinstance(document, Manifest):
            document = self._parts[_database(info)].sharing(document)
        return document, trust


class _SharedParts:
    """Names and numbers of the manifest that was read last: most are the same in the next one."""

    def __init__(self) -> None:
        self._last: dict[str, Packed[Any]] = {}

    def sharing(self, manifest: Manifest) -> Manifest:
        """The same manifest, with the parts of the last one where they are equal."""
        return manifest.model_copy(
            update={name: self._shared(name, getattr(manifest, name)) for name in ("tables", "sequences")}
        )

    def _shared(self, name: str, parts: Sequence[Any]) -> Sequence[Any]:
        if not isinstance(parts, Packed):
            return parts
        before = self._last.get(name)
        self._last[name] = parts if before is None else parts.sharing(before)
        return self._last[name]


def _fetched(
    pool: ThreadPoolExecutor,
    get: Callable[[ObjectInfo], bytes | None],
    wanted: Iterable[tuple[type[Document], ObjectInfo]],
    most: int,
) -> Iterator[tuple[type[Document], ObjectInfo, bytes | None]]:
    """The bytes of documents, in order. The next ones are fetched meanwhile, as many as fit into memory."""
    begun: deque[tuple[type[Document], ObjectInfo, Future[bytes | None]]] = deque()
    size = 0

    def first() -> tuple[type[Document], ObjectInfo, bytes | None]:
        kind, info, coming = begun.popleft()
        return kind, info, coming.result()

    for kind, info in wanted:
        while begun and (len(begun) == most or size + info.size > WAITING_BYTES):
            size -= begun[0][1].size
            yield first()
        begun.append((kind, info, pool.submit(get, info)))
        size += info.size
    while begun:
        yield first()


def _database(info: ObjectInfo) -> str:
    return info.key.partition("/")[0]


def _by_kind(objects: Mapping[str, ObjectInfo]) -> dict[tuple[str, str], list[ObjectInfo]]:
    """The attempts of each database and kind, oldest first."""
    groups: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
    for key in sorted(objects):
        if parts := layout.split_attempt(key):
            groups[parts].append(objects[key])
    return groups


def _documents(
    folders: Iterable[tuple[str, str, list[str]]], objects: Mapping[str, ObjectInfo]
) -> Iterator[tuple[type[Document], ObjectInfo]]:
    """The documents to read for some backups."""
    for database, backup_id, names in folders:
        folder = layout.folder(database, backup_id)
        for name in names:
            if (kind := _kind_of(name)) is not None:
                yield kind, objects[f"{folder}/{name}"]


def _kind_of(name: str) -> type[Document] | None:
    if name == layout.MANIFEST:
        return Manifest
    if layout.is_hold(name):
        return Hold
    return Report if layout.is_report(name) else None


def _chosen_folders(objects: Iterable[str], chosen: Choice | None) -> list[tuple[str, str, list[str]]]:
    """The committed backups, or those of them that are wanted."""
    folders = [each for each in _folders(objects) if layout.MANIFEST in each[2]]
    if chosen is None:
        return folders
    ids: dict[str, list[str]] = defaultdict(list)
    for database, backup_id, _ in folders:
        ids[database].append(backup_id)
    wanted = {database: frozenset(chosen(found)) for database, found in ids.items()}
    return [each for each in folders if each[1] in wanted[each[0]]]


def _deleted(attempts: Iterable[Attempt]) -> frozenset[str]:
    return frozenset(backup_id for attempt in attempts for backup_id in attempt.deleted)


def _folders(objects: Iterable[str]) -> list[tuple[str, str, list[str]]]:
    """Backups with the names of their objects, oldest first."""
    folders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key in sorted(objects):
        parts = layout.split(key)
        if parts and layout.NAME.fullmatch(parts[0]):
            folders[parts[0], parts[1]].append(parts[2])
    return [(database, backup_id, names) for (database, backup_id), names in sorted(folders.items())]


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
