"""Compares what a dump does not contain because extensions, or PostgreSQL itself, provide it.

A restored database has what is installed here. Differences from the original are notes, because the backup is as good as
``pg_dump`` can make it. If they caused errors in the restore, the backup is unprovable.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import psycopg

from backup.catalogue.manifest import Manifest, Provided
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.provided import provided
from backup.postgres.session import session

# Every new database has it, so a restored database has it even if the original had dropped it.
ALWAYS = "plpgsql"
NAMED = 3
# The name of an object in its identity, which begins with its type and may end in arguments.
_NAME = re.compile(r"(?P<name>[^\s.(]+)\s*(?:USING \w+)?(?:\(|$)")
_OWN = re.compile(r"\d+ objects in the schema (?P<schema>pg_catalog|information_schema), such as ")
_MISSING = "does not exist"
# Digests of the objects of each extension, by their identities.
_Objects: TypeAlias = dict[str, dict[str, int]]


def compared(manifest: Manifest, address: Address, errors: Sequence[str]) -> tuple[list[str], list[str]]:
    """Compare the extensions of a restored database, their objects and PostgreSQL's objects with the original's.

    Args:
        errors: those of the restore.

    Returns:
        The differences, and why the restore may have failed because of them.
    """
    causes = list(_own(manifest.notes, errors))
    with session(address) as connection:
        versions = {each.name: each.version for each in inventory.extensions(connection)}
        found = [*_versions(manifest, versions)]
        # Another major version has other definitions. Older manifests have none.
        same = connection.info.server_version // 10000 == manifest.server.version_number // 10000
        if not same or not manifest.provided:
            return found, causes
        changed = [each.object for each in manifest.provided if not each.provider]
        try:
            there = provided(connection, changed)
        except psycopg.Error as error:
            if connection.broken:
                raise
            return [*found, f"objects of extensions were not compared: {error.diag.message_primary}"], causes
    others = {
        each.name for each in manifest.extensions if versions.get(each.name, each.version) != each.version
    }
    same_versions = {*versions} - others
    return (
        [*found, *differing(manifest.provided, there, versions, others)],
        [*causes, *hindering(manifest.provided, there, same_versions, errors)],
    )


def _versions(manifest: Manifest, found: Mapping[str, str]) -> Iterator[str]:
    if ALWAYS in found and all(each.name != ALWAYS for each in manifest.extensions):
        yield f"extension {ALWAYS}: it was dropped, but every new database has it"
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
            (changed, "changed; a restored database has the extension's original"),
            (added, "added to it; missing from a restored database"),
            (removed, "removed from it; present again in a restored database"),
        ]
        if name in others:
            kinds = [([*changed, *added, *removed], "from a different version here, or changed")]
        yield from (f"{_listed(keys)} of the extension {name}: {what}" for keys, what in kinds if keys)
    if changed := [key for key, digest in wanted[""].items() if there[""].get(key) != digest]:
        yield f"{_listed(changed)}: changed; a restored database has PostgreSQL's original"


def hindering(
    expected: Iterable[Provided], found: Iterable[Provided], extensions: Iterable[str], errors: Sequence[str]
) -> Iterator[str]:
    """Objects that an extension has only on one side, and that an error of the restore names.

    ``pg_dump`` writes what was removed from an extension and kept, and the extension creates it too. It does not write what was
    added to one, nor is that created here.

    Args:
        extensions: those of the same version.
    """
    kept = partial(_named, errors=errors)
    yield from _hindering(_by_provider(expected), _by_provider(found), extensions, kept, kept)


def predicted(
    expected: Iterable[Provided], created: Iterable[Provided], dumped: Container[str], used: Container[str]
) -> Iterator[str]:
    """What a restore will not be able to restore.

    Args:
        created: the objects of the same extensions after they were created here.
        dumped: objects that ``pg_dump`` writes.
        used: objects of extensions that others use which ``pg_dump`` writes.
    """
    wanted, there = _by_provider(expected), _by_provider(created)
    yield from _hindering(wanted, there, wanted, dumped.__contains__, used.__contains__)


def _hindering(
    wanted: _Objects,
    there: _Objects,
    extensions: Iterable[str],
    conflicts: Callable[[str], bool],
    matters: Callable[[str], bool],
) -> Iterator[str]:
    """What was removed from an extension and conflicts, and what was added to one and matters."""
    for name in sorted({*extensions} & {*wanted}):
        removed = [key for key in there[name] if key not in wanted[name] and conflicts(key)]
        added = [key for key in wanted[name] if key not in there[name] and matters(key)]
        if removed:
            yield (
                f"pg_restore cannot restore {_listed(removed)}, which the extension {name} creates too:"
                " add it to the extension in the original (ALTER EXTENSION … ADD)"
            )
        if added:
            yield (
                f"pg_restore cannot restore what uses {_listed(added)}, which pg_dump left out:"
                f" remove it from the extension {name} in the original (ALTER EXTENSION … DROP)"
            )


def own_schemas(notes: Iterable[str], used: Iterable[str]) -> Iterator[str]:
    """Objects in PostgreSQL's own schemas that others use.

    Args:
        notes: on what a dump leaves out.
        used: objects that others use which ``pg_dump`` writes.
    """
    objects = " ".join(used)
    for found in filter(None, map(_OWN.match, notes)):
        if f"{found['schema']}." in objects:
            yield _unrestorable(found.string)


def _unrestorable(what: str) -> str:
    return (
        f"pg_restore cannot restore what uses {what}, which pg_dump left out:"
        " move them into another schema in the original"
    )


def _own(notes: Iterable[str], errors: Sequence[str]) -> Iterator[str]:
    for found in filter(None, map(_OWN.match, notes)):
        if any(_MISSING in error for error in errors):
            yield _unrestorable(found.string)


def _named(identity: str, errors: Sequence[str]) -> bool:
    found = _NAME.search(identity)
    name = found["name"].strip('"') if found else identity
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", error) for error in errors)


def _by_provider(objects: Iterable[Provided]) -> _Objects:
    found: _Objects = defaultdict(dict)
    for each in objects:
        found[each.provider][each.object] = each.digest
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
