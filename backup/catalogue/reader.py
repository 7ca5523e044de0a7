"""Reads the catalogue of a store. The service, the metrics, the command line and the status page all use it."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias

from backup.catalogue import ids, layout
from backup.catalogue.cache import DocumentCache
from backup.catalogue.document import Document
from backup.catalogue.entry import read_entry
from backup.catalogue.history import CLOCK_TOLERANCE, Broken, Catalogue, Entry, History
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Attempt, Kind, Report
from backup.catalogue.signatures import Keyring
from backup.errors import CatalogueError, NotFoundError
from backup.store import ObjectInfo, Store

log = logging.getLogger(__name__)

# Number of attempts of each kind that are read. The newest contain the totals of all.
RECENT = 50
Choice: TypeAlias = Callable[[list[str]], Iterable[str]]


class Reader:
    """Reads the catalogue of one store. Each unchanged object is read only once.

    No content of the store makes it raise: what is out of bounds is reported, and the rest is read.

    Args:
        keys: documents that none of them has signed are ignored.
    """

    def __init__(self, store: Store, keys: Keyring) -> None:
        self._store = store
        self._keys = keys
        self._documents = DocumentCache(store, keys)
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
        self._documents.keep(database, {(info.key, info.version) for info in objects.values()})
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
        self._documents.fetch(_wanted(folders, objects, attempts=chosen is None))
        attempts = self._attempts(objects, now) if chosen is None else self._prunes(objects, now)
        deleted = {name: _deleted(found) for name, found in attempts.items()}
        entries: dict[str, list[Entry]] = defaultdict(list)
        broken: dict[str, list[Broken]] = defaultdict(list)
        for database, backup_id, names in folders:
            try:
                entry = read_entry(self._documents, objects, database, backup_id, names, self._store.name)
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
                manifest, trust = self._documents.document(Manifest, info)
                if trust in ("unchecked", "signed"):
                    found.append(manifest)
        return tuple(reversed(found))

    def _attempt_of(self, info: ObjectInfo) -> Attempt | None:
        attempt = self._documents.believed(Attempt, info)
        if attempt and info.key != layout.attempt(attempt.database, attempt.id, attempt.kind):
            log.warning("%s is skipped: it is the record of another attempt", info.key)
            return None
        return attempt


def _by_kind(objects: Mapping[str, ObjectInfo]) -> dict[tuple[str, str], list[ObjectInfo]]:
    """The attempts of each database and kind, oldest first."""
    groups: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
    for key in sorted(objects):
        if parts := layout.split_attempt(key):
            groups[parts].append(objects[key])
    return groups


def _wanted(
    folders: Iterable[tuple[str, str, list[str]]], objects: Mapping[str, ObjectInfo], *, attempts: bool
) -> Iterator[tuple[type[Document], ObjectInfo]]:
    """The documents to read for some backups, and for the attempts."""
    for database, backup_id, names in folders:
        folder = layout.folder(database, backup_id)
        for name in names:
            if (kind := _kind_of(name)) is not None:
                yield kind, objects[f"{folder}/{name}"]
    if attempts:
        for infos in _by_kind(objects).values():
            yield from ((Attempt, info) for info in infos[-RECENT:])


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
