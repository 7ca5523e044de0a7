"""Maintains the stored WAL: what can be recovered from it, its off-site copy, and its deletion."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from backup.catalogue.document import decode, too_large
from backup.catalogue.history import Entry, History
from backup.errors import CatalogueError, NotFoundError, VerificationError
from backup.physical import archive as names
from backup.physical import lsn
from backup.physical.archive import Archive, Gap, GapObject, Listing, Stored
from backup.physical.retention import RetainedBase, WalPlan, plan
from backup.physical.segments import unpacked
from backup.physical.timelines import MAX_HISTORY_BYTES, Fork, parse_history
from backup.physical.windows import Base, Window, windows
from backup.store import Refusal, Store
from backup.wiring import Wiring
from sidecar.logs import fields

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """The stored WAL of one cluster of a server."""

    archive: Archive
    listing: Listing
    gaps: tuple[Gap, ...]

    @property
    def last_gap(self) -> datetime | None:
        return max((gap.noticed for gap in self.gaps), default=None)


def stored(store: Store, server: str) -> list[Stored]:
    """Every object of a server's WAL."""
    return [Stored(info.key, info.size, info.modified) for info in store.walk(names.server_prefix(server))]


def clusters(wiring: Wiring, store: Store, server: str, segment_size: int) -> list[Cluster]:
    """The stored WAL of each cluster that was ever streamed under a server's name.

    Raises:
        StoreError: the store does not answer.
    """
    return with_gaps(wiring, store, listings(wiring, store, server, segment_size))


def listings(wiring: Wiring, store: Store, server: str, segment_size: int) -> list[tuple[Archive, Listing]]:
    """What is stored of each cluster that was ever streamed under a server's name.

    Raises:
        StoreError: the store does not answer.
    """
    objects = stored(store, server)
    systems = names.systems(server, (each.key for each in objects))
    archives = [Archive(server, system, segment_size, wiring.keys) for system in systems]
    return [(archive, archive.listing(objects)) for archive in archives]


def with_gaps(wiring: Wiring, store: Store, listed: Iterable[tuple[Archive, Listing]]) -> list[Cluster]:
    """The clusters that were listed, with the records of their gaps.

    Raises:
        StoreError: the store does not answer.
    """
    return [
        Cluster(archive, listing, tuple(_gaps(wiring, store, archive, listing.gaps)))
        for archive, listing in listed
    ]


def _gaps(wiring: Wiring, store: Store, archive: Archive, objects: Iterable[GapObject]) -> Iterable[Gap]:
    """The records of gaps that are ours."""
    for each in objects:
        try:
            if each.stored.size > Gap.max_bytes:
                raise too_large(Gap, each.stored.size, each.stored.key)
            gap, trust = decode(Gap, store.get(each.stored.key), each.stored.key, wiring.keys)
        except (CatalogueError, NotFoundError) as error:
            log.warning("%s", error.message)
            continue
        # Anyone may copy the record of another cluster's gap here.
        recorded = (gap.server, gap.system_identifier, gap.timeline, gap.start, gap.end)
        fits = recorded == (archive.server, archive.system, each.timeline, each.start, each.end)
        if fits and trust in ("unchecked", "signed"):
            yield gap
        else:
            log.warning("%s is not one of our records", each.stored.key)


def recorded_gaps(wiring: Wiring, history: History) -> tuple[Gap, ...]:
    """The gaps in the stored WAL of a server's newest cluster; none without a base backup.

    Raises:
        StoreError: the store does not answer.
    """
    manifests = (entry.manifest for entry in reversed(history.backups))
    newest = next((each for each in manifests if each.physical is not None), None)
    if newest is None or newest.physical is None:
        return ()
    system = newest.server.system_identifier
    archive = Archive(history.database, system, newest.physical.segment_size, wiring.keys)
    # Listing everything, with a month of WAL, would take dozens of requests.
    prefixes = [archive.gaps_prefix(timeline) for timeline in wiring.store.folders(archive.prefix)]
    objects = [info for prefix in prefixes for info in wiring.store.walk(prefix)]
    listing = archive.listing(Stored(info.key, info.size, info.modified) for info in objects)
    return tuple(_gaps(wiring, wiring.store, archive, listing.gaps))


def retained_bases(entries: Iterable[Entry]) -> list[RetainedBase]:
    """The base backups among the entries of a catalogue, oldest first."""
    found = []
    for entry in entries:
        if (physical := entry.manifest.physical) is not None:
            base = Base(entry.id, physical.timeline, physical.start, physical.end)
            system = entry.manifest.server.system_identifier
            found.append(RetainedBase(base, entry.manifest.taken, entry.verified, system))
    return found


def forks(wiring: Wiring, cluster: Cluster) -> dict[int, tuple[Fork, ...]]:
    """The ancestors of each timeline whose history can be decrypted here."""
    found: dict[int, tuple[Fork, ...]] = {}
    for each in cluster.listing.histories if wiring.identities else ():
        try:
            data = unpacked(wiring.store, each.stored, MAX_HISTORY_BYTES, wiring.identities)
            found[each.timeline] = parse_history(data, each.timeline, each.stored.key)
        except (CatalogueError, VerificationError, NotFoundError) as error:
            log.warning("%s", error.message)
    return found


def recoverable(
    wiring: Wiring, cluster: Cluster, bases: Iterable[RetainedBase]
) -> list[tuple[Window, datetime]]:
    """What can be recovered, each window with the time when its end was stored.

    Raises:
        StoreError: the store does not answer.
    """
    own = [retained.base for retained in bases if retained.system == cluster.archive.system]
    found = windows(
        own,
        cluster.listing.wal,
        forks(wiring, cluster),
        cluster.gaps,
        segment_size=cluster.archive.segment_size,
    )
    return [(window, _stored_at(cluster, window)) for window in found]


def _stored_at(cluster: Cluster, window: Window) -> datetime:
    """When the last WAL of a window was stored. A whole segment is stored later than the pieces that it replaces."""
    segment = lsn.segment_start(window.end - 1, cluster.archive.segment_size)
    last = cluster.listing.between(window.timeline, segment, window.end)
    return min(each.stored.modified for each in last if each.end >= window.end)


def decide(
    wiring: Wiring, cluster: Cluster, bases: Iterable[RetainedBase], problems: Iterable[str] = ()
) -> WalPlan:
    """The retention plan for the WAL of a cluster."""
    return plan(
        list(bases),
        cluster.listing.wal,
        wiring.settings.wal_keep,
        wiring.clock(),
        segment_size=cluster.archive.segment_size,
        last_gap=cluster.last_gap,
        problems=tuple(problems),
    )


def apply(store: Store, decided: WalPlan) -> list[Refusal]:
    """Delete what a plan allows to be deleted; returns what the store refused.

    Raises:
        StoreError: the store failed. What was deleted before is gone, and was not needed.
    """
    refused = store.delete([each.stored.key for each in decided.deletions])
    if decided.deletions:
        log.info("pruned WAL %s", fields(objects=len(decided.deletions) - len(refused), since=decided.since))
    return refused
