"""Applies the decisions of the retention policy. The manifest goes first, so an interrupted deletion leaves no half backup."""

import logging
from collections import defaultdict
from dataclasses import dataclass, replace

from backup.cancellation import limited
from backup.catalogue import layout
from backup.catalogue.commit import discard
from backup.catalogue.history import Entry, History
from backup.errors import StoreError
from backup.ownership import clusters, is_foreign
from backup.policy.retention import JUMPED, Count, Plan, State, StoredBackup, bounded, jump, late, plan
from backup.postgres import inventory
from backup.postgres.session import session
from backup.replication.merged import read
from backup.run import ANSWER_HINT, ANSWER_SECONDS
from backup.store import Refusal, Store
from backup.store.nodelete import REASON
from backup.targets import RedisTarget, Target
from backup.wiring import Wiring
from sidecar.logs import fields

log = logging.getLogger(__name__)

# Number of attempts of each kind that are kept.
KEPT = 200


# Number of deleted backups that are remembered, so that one that is put back is recognised.
REMEMBERED = 2000


@dataclass(frozen=True)
class Pruned:
    """The result of a prune. The store refused to delete the objects in ``refused``."""

    plan: Plan
    deleted: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()


def plan_for(
    wiring: Wiring, history: History, *, identifier: str | None = None, agreed: bool = False
) -> Plan:
    """The decisions of the retention policy for a database.

    Args:
        identifier: of the cluster whose backups count; by default the one of the newest backup.
        agreed: a person has seen the plan and agrees to many deletions at once.
    """
    stored = [_stored(entry) for entry in own(history, identifier) if entry.store == wiring.store.name]
    found, now = problems(history), wiring.clock()
    if history.backups and not own(history, identifier):
        return Plan((), ("the folder belongs to another server",))
    if agreed:
        return plan(stored, wiring.policy, now, problems=found)
    counts = _counts(history)
    if jumped := jump(counts, len(stored), now) or _late(wiring, counts, stored):
        found.append(jumped)
    return bounded(plan(stored, wiring.policy, now, problems=found), stored)


def _late(wiring: Wiring, counts: list[Count], stored: list[StoredBackup]) -> str | None:
    """Only a signature shows who wrote a backup. Without one, no backup may appear among older ones, except from the spool."""
    return None if wiring.keys or wiring.spool is not None else late(counts, stored)


def own(history: History, identifier: str | None = None) -> list[Entry]:
    """The backups of one cluster and of those that it has adopted."""
    if identifier is None:
        newest = history.backups[-1].manifest.server.system_identifier if history.backups else ""
        identifier = newest
    known = clusters(history, identifier)
    return [entry for entry in history.backups if not identifier or not is_foreign(entry, known)]


def identifier_of(target: Target, history: History) -> str | None:
    """The identifier of a database's cluster; None if no backup names its cluster, so that the server need not be asked.

    Raises:
        OpsError: the server does not answer.
    """
    identified = any(entry.manifest.server.system_identifier for entry in history.backups)
    if not identified or isinstance(target, RedisTarget):
        return None
    with session(target.address) as connection:
        return inventory.system_identifier(connection) or None


def _counts(history: History) -> list[Count]:
    """The numbers of backups that earlier prunes found and left."""
    done = [each for each in history.attempts if each.kind == "prune" and each.outcome == "success"]
    return [
        Count(
            each.finished or each.started,
            sum(each.decisions.values()),
            each.decisions.get("keep", 0) + each.decisions.get("refused", 0),
            any(reason.startswith(JUMPED) for reason in each.blocked),
        )
        for each in done
        if each.decisions
    ]


def problems(history: History) -> list[str]:
    """Reasons to delete nothing that the backups themselves do not show."""
    found = [f"the manifest of {broken.id} is damaged" for broken in history.broken]
    found += [f"{entry.id} is {entry.state}" for entry in strangers(history)]
    last = history.newest("backup", finished=True)
    if last is not None and last.outcome == "failure":
        found.append("the last run failed")
    return found


def strangers(history: History) -> list[Entry]:
    """Backups that someone else has put next to our signed ones; those older than the first signed one may predate the key."""
    first = min((entry.id for entry in history.backups), default="")
    return [entry for entry in history.others if first and entry.id > first]


def prune(wiring: Wiring, target: Target, *, agreed: bool = False) -> Pruned:
    """Delete what no rule keeps, in the main store and off-site, and record the decisions.

    Args:
        agreed: see :func:`plan_for`.

    Raises:
        StoreError: the main store failed. What was deleted before is gone; the rest remains.
    """
    if wiring.settings.delete == "never":
        return Pruned(Plan((), (f"{REASON}: prune elsewhere, with a key that can delete",)))
    limit = wiring.stop.limit(wiring.settings.timeout, silence=wiring.settings.stall_timeout)
    with limit, wiring.journal(target.name).attempt("prune") as attempt:
        history = read(wiring, [target.name]).history(target.name)
        with limited(ANSWER_SECONDS, f"{target.name} did not answer within a minute", ANSWER_HINT):
            identifier = identifier_of(target, history)
        decided = plan_for(wiring, history, identifier=identifier, agreed=agreed)
        before = history.newest("prune", finished=True)
        gone = before.deleted if before else ()
        attempt.set(deleted=gone, blocked=decided.blocked)
        refused = [
            refusal for backup in decided.deletions for refusal in _delete(wiring.store, target.name, backup)
        ]
        kept = {parts[1] for refusal in refused if (parts := layout.split(refusal.key))}
        deleted = tuple(backup for backup in decided.deletions if backup not in kept)
        attempt.set(
            decisions={
                "keep": len(decided.decisions) - len(decided.deletions),
                "delete": len(deleted),
                "refused": len(kept),
            },
            deleted=(*gone, *deleted)[-REMEMBERED:],
        )
        refused += _prune_offsite(
            wiring, history, deleted, identifier, agreed=frozenset((*gone, *deleted) if agreed else ())
        )
        attempt.set(problems=tuple(f"{refusal.key}: {refusal.reason}" for refusal in refused))
        _prune_attempts(wiring.store, history)
    log.info(
        "pruned %s", fields(database=target.name, deleted=len(deleted), blocked="; ".join(decided.blocked))
    )
    return Pruned(decided, deleted, tuple(refused))


def _stored(entry: Entry) -> StoredBackup:
    return StoredBackup(
        entry.id,
        entry.manifest.taken,
        _state(entry),
        anomalous=bool(entry.manifest.anomalies),
        on_hold=entry.on_hold,
    )


def _copy(entry: Entry, *, passed_once: bool) -> StoredBackup:
    """A copy was intact when it was made, whatever happened to its original."""
    state: State = "verified" if entry.verified else "doubtful" if passed_once else "unverified"
    state = "failed" if entry.missing else state
    return StoredBackup(entry.id, entry.manifest.taken, state, on_hold=entry.on_hold)


def _state(entry: Entry) -> State:
    if entry.verified:
        return "verified"
    if entry.damaged:
        return "failed"
    if entry.report is None:
        return "unverified"
    if entry.unprovable:
        return "unprovable"
    return "doubtful" if entry.doubtful else "failed"


def _delete(store: Store, database: str, backup_id: str) -> list[Refusal]:
    refused = discard(store, database, backup_id)
    if refused:
        log.warning("not deleted %s: %s", backup_id, refused[0].reason)
    return refused


def _prune_offsite(
    wiring: Wiring,
    history: History,
    deleted: tuple[str, ...],
    identifier: str | None,
    *,
    agreed: frozenset[str],
) -> list[Refusal]:
    """Delete copies that no rule keeps and whose originals are gone: pruned now, or while the off-site store was unavailable.

    A copy without an original is judged separately: a verification of the original says nothing about it.

    Args:
        agreed: backups whose deletion a person has seen and agreed to. The limit for many deletions at once applies to the
            others.
    """
    database, offsite = history.database, wiring.offsite
    refused: list[Refusal] = []
    if offsite is None:
        return refused
    try:
        there = wiring.reader(offsite).read(wiring.clock(), [database]).history(database)
        ids = {entry.id for entry in history.backups} - set(deleted)
        both = [*history.backups, *(entry for entry in there.backups if entry.id not in ids)]
        ours = own(replace(history, backups=tuple(both)), identifier)
        here = [entry for entry in ours if entry.id in ids and entry.store != offsite.name]
        alone = [entry for entry in ours if entry.id not in ids and entry.store == offsite.name]
        proven = {entry.id for entry in (*history.backups, *alone) if entry.passed_once}
        stored = [*map(_stored, here), *(_copy(entry, passed_once=entry.id in proven) for entry in alone)]
        decided = plan(stored, wiring.policy, wiring.clock(), problems=problems(history))
        limited = bounded(decided, [each for each in stored if each.id not in agreed])
        if alone and limited.blocked:
            log.warning("copies were not pruned off-site: %s", "; ".join(limited.blocked))
        doomed = {*limited.deletions, *agreed.intersection(decided.deletions)}
        for backup_id in doomed.intersection(entry.id for entry in alone):
            refused += _delete(offsite, database, backup_id)
    except StoreError as error:
        log.warning("the off-site store still has pruned backups: %s", error.message)
    return refused


def _prune_attempts(store: Store, history: History) -> None:
    """Delete old attempts. The newest ones of ours contain all totals, whatever else has a newer name."""
    needed = {layout.attempt(each.database, each.id, each.kind) for each in history.attempts}
    groups: dict[str, list[str]] = defaultdict(list)
    for info in store.walk(f"{history.database}/{layout.ATTEMPTS}/"):
        if parts := layout.split_attempt(info.key):
            groups[parts[1]].append(info.key)
    old = {key for keys in groups.values() for key in keys[:-KEPT]}
    store.delete(sorted(old - needed))
