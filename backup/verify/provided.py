"""Compares what a dump does not contain because extensions, or PostgreSQL itself, provide it.

A restored database has it as it was installed here. What differs from the original is a note: the backup is as good as
``pg_dump`` can make it.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import psycopg

from backup.catalogue.manifest import Manifest, Provided
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.provided import provided
from backup.postgres.session import session

# Every new database has it, so a restore brings it back where it was dropped.
ALWAYS = "plpgsql"
NAMED = 3


def notes(manifest: Manifest, address: Address) -> list[str]:
    """Where the extensions of a restored database, their objects and PostgreSQL's own differ from the original's."""
    with session(address) as connection:
        versions = {each.name: each.version for each in inventory.extensions(connection)}
        found = [*_versions(manifest, versions)]
        # Another major version has other definitions. Older manifests have none.
        same = connection.info.server_version // 10000 == manifest.server.version_number // 10000
        if not same or not manifest.provided:
            return found
        changed = [each.object for each in manifest.provided if not each.provider]
        try:
            there = provided(connection, changed)
        except psycopg.Error as error:
            if connection.broken:
                raise
            return [*found, f"objects of extensions were not compared: {error.diag.message_primary}"]
    others = {
        each.name for each in manifest.extensions if versions.get(each.name, each.version) != each.version
    }
    return [*found, *differing(manifest.provided, there, versions, others)]


def _versions(manifest: Manifest, found: Mapping[str, str]) -> Iterator[str]:
    if ALWAYS in found and all(each.name != ALWAYS for each in manifest.extensions):
        yield f"extension {ALWAYS}: it was dropped, and is in every new database"
    for each in manifest.extensions:
        if found.get(each.name, each.version) != each.version:
            yield f"extension {each.name}: version {each.version} in the backup, {found[each.name]} after the restore"


def differing(
    expected: Iterable[Provided],
    found: Iterable[Provided],
    extensions: Iterable[str],
    others: Container[str] = (),
) -> Iterator[str]:
    """One line for each extension and kind of difference.

    Args:
        extensions: those of the restored database. If one is missing, that is a separate difference.
        others: those of another version, whose objects differ anyway.
    """
    wanted, there = _by_provider(expected), _by_provider(found)
    for name in sorted({*extensions} & {*wanted}):
        mine, theirs = wanted[name], there[name]
        changed = [key for key, digest in mine.items() if theirs.get(key, digest) != digest]
        added = [key for key in mine if key not in theirs]
        removed = [key for key in theirs if key not in mine]
        kinds = [
            (changed, "changed, and a restored database has the extension's own"),
            (added, "added to it, and not in a restored database"),
            (removed, "removed from it, and back in a restored database"),
        ]
        if name in others:
            kinds = [([*changed, *added, *removed], "of another version here, or changed")]
        yield from (f"{_listed(keys)} of the extension {name}: {what}" for keys, what in kinds if keys)
    if changed := [key for key, digest in wanted[""].items() if there[""].get(key) != digest]:
        yield f"{_listed(changed)}: changed, and a restored database has PostgreSQL's own"


def _by_provider(objects: Iterable[Provided]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for each in objects:
        found[each.provider][each.object] = each.digest
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
