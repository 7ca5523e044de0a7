"""Whose data a folder of the store contains. The name is chosen by people; the cluster's system identifier is not.

initdb gives each cluster an identifier, which its replicas share and no other cluster has. It distinguishes
two servers that use the same folder by mistake, such as staging with production's settings.
"""

from collections.abc import Collection

from backup.catalogue.history import Entry, History
from backup.catalogue.manifest import Manifest
from backup.errors import PreflightError


def lineage(newest: Manifest | None, identifier: str, where: str, *, adopt: bool) -> tuple[str, ...]:
    """The earlier clusters whose backups also belong to a database, for the manifest of its next backup.

    Args:
        newest: our newest backup in the folder.
        identifier: the identifier of the cluster that is backed up; empty if it is not known.
        where: the folder, for messages.
        adopt: the operator states that this cluster continues the other one.

    Raises:
        PreflightError: the folder belongs to another cluster.
    """
    if newest is None or newest.kind == "redis":
        return ()
    before = newest.server.system_identifier
    if not identifier or not before or before == identifier:
        return newest.adopted
    if not adopt:
        raise PreflightError(
            f"{where} belongs to another server: its newest backup {newest.id} is of the cluster {before},"
            f" this one is {identifier}",
            hint="give this server its own folder (BACKUP_STORE_URL or the database's name) or, if it replaces the"
            " other one after a rebuild: python -m backup run --adopt",
        )
    return tuple(dict.fromkeys((before, *newest.adopted)))


def clusters(history: History, identifier: str) -> frozenset[str]:
    """The identifiers whose backups count for a cluster: its own, and those that it has adopted."""
    mine = [
        entry.manifest for entry in history.backups if entry.manifest.server.system_identifier == identifier
    ]
    return frozenset({identifier, *(each for manifest in mine for each in manifest.adopted)})


def is_foreign(entry: Entry, known: Collection[str]) -> bool:
    """Whether a backup is of a cluster that is not among the known ones. Older formats do not record it, and count."""
    identifier = entry.manifest.server.system_identifier
    return entry.manifest.kind != "redis" and bool(identifier) and identifier not in known
