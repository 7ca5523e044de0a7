"""Carries out what retention decided: manifest first, so that an interrupted deletion leaves no half backup."""

import logging
from collections import defaultdict
from dataclasses import dataclass

from backup import layout
from backup.catalogue import Entry, History
from backup.errors import StoreError
from backup.reading import read
from backup.retention import Held, Plan, State, plan
from backup.store import Refusal, Store
from backup.targets import Target
from backup.wiring import Wiring
from sidecar.logs import fields

log = logging.getLogger(__name__)

# Records of each kind that stay.
KEPT = 200


@dataclass(frozen=True)
class Pruned:
    """What a prune did. ``refused`` were to be deleted and the store would not."""

    plan: Plan
    deleted: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()


def plan_for(wiring: Wiring, history: History) -> Plan:
    """What retention says about a database now."""
    held = [_held(entry) for entry in history.backups if entry.store == wiring.store.name]
    return plan(held, wiring.policy, wiring.clock(), problems=problems(history))


def problems(history: History) -> list[str]:
    """Why nothing should be deleted, beyond what the backups themselves tell."""
    found = [f"the manifest of {broken.id} is damaged" for broken in history.broken]
    last = history.newest("backup", finished=True)
    if last is not None and last.outcome == "failure":
        found.append("the last run failed")
    return found


def prune(wiring: Wiring, target: Target) -> Pruned:
    """Delete what no rule wants any more, in the main store and off-site, and write down what was decided.

    Raises:
        StoreError: the main store failed; what was deleted before is gone, the rest stays.
    """
    with wiring.journal(target.name).attempt("prune") as attempt:
        history = read(wiring, [target.name]).history(target.name)
        decided = plan_for(wiring, history)
        attempt.set(blocked=decided.blocked)
        refused = [
            refusal for backup in decided.deletions for refusal in _delete(wiring.store, target.name, backup)
        ]
        kept = {parts[1] for refusal in refused if (parts := layout.split(refusal.key))}
        deleted = tuple(backup for backup in decided.deletions if backup not in kept)
        attempt.set(
            decisions={"keep": len(decided.decisions) - len(decided.deletions), "delete": len(deleted),
                       "refused": len(kept)},
            problems=tuple(f"{refusal.key}: {refusal.reason}" for refusal in refused),
        )  # fmt: skip
        _prune_offsite(wiring, target.name, deleted)
        _prune_records(wiring.store, target.name)
    log.info(
        "pruned %s", fields(database=target.name, deleted=len(deleted), blocked="; ".join(decided.blocked))
    )
    return Pruned(decided, deleted, tuple(refused))


def _held(entry: Entry) -> Held:
    state: State = "verified" if entry.verified else "unverified" if entry.report is None else "failed"
    if entry.missing:
        state = "failed"
    return Held(entry.id, entry.manifest.taken, state, anomalous=bool(entry.manifest.anomalies))


def _delete(store: Store, database: str, backup_id: str) -> list[Refusal]:
    refused = store.delete([layout.manifest(database, backup_id)])
    if refused:
        # Without its manifest it would no longer be a backup; so it stays whole.
        log.warning("not deleted %s: %s", backup_id, refused[0].reason)
        return refused
    folder = layout.folder(database, backup_id)
    return store.delete([info.key for info in store.walk(f"{folder}/")])


def _prune_offsite(wiring: Wiring, database: str, deleted: tuple[str, ...]) -> None:
    if wiring.offsite is None:
        return
    try:
        for backup_id in deleted:
            _delete(wiring.offsite, database, backup_id)
    except StoreError as error:
        log.warning("off-site still holds what was pruned here: %s", error.message)


def _prune_records(store: Store, database: str) -> None:
    """Old records go; the newest ones carry all totals."""
    groups: dict[str, list[str]] = defaultdict(list)
    for info in store.walk(f"{database}/{layout.ATTEMPTS}/"):
        if parts := layout.split_attempt(info.key):
            groups[parts[1]].append(info.key)
    store.delete([key for keys in groups.values() for key in keys[:-KEPT]])
