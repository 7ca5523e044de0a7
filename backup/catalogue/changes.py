"""What changed between two backups, from their manifests alone. Pure; nothing is downloaded."""

from collections.abc import Mapping
from dataclasses import dataclass

from backup.catalogue.manifest import Manifest


@dataclass(frozen=True)
class Count:
    """Rows of a table, or keys of a Redis database, in both backups; None if it does not exist there."""

    name: str
    before: int | None
    after: int | None

    @property
    def change(self) -> int:
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class Presence:
    """Something without a number: an extension with its version, a role, a sequence. Only one of the two has it."""

    kind: str
    name: str
    added: bool


@dataclass(frozen=True)
class Changes:
    """What differs, the largest difference first.

    Attributes:
        same: number of tables or keyspaces with equal numbers of rows.
    """

    counts: tuple[Count, ...]
    others: tuple[Presence, ...]
    same: int


def compare(before: Manifest, after: Manifest) -> Changes:
    """Compare two backups."""
    old, new = _rows(before), _rows(after)
    every = [Count(name, old.get(name), new.get(name)) for name in sorted({*old, *new})]
    counts = [each for each in every if each.before != each.after]
    counts.sort(key=lambda each: (-abs(each.change), each.name))
    others = [
        Presence(kind, name, added=name in there)
        for kind, here, there in (
            ("extension", _extensions(before), _extensions(after)),
            ("role", set(before.roles), set(after.roles)),
            ("sequence", _sequences(before), _sequences(after)),
        )
        for name in sorted(here ^ there)
    ]
    return Changes(tuple(counts), tuple(others), len(every) - len(counts))


def _rows(manifest: Manifest) -> Mapping[str, int]:
    tables = {table.label: table.rows for table in manifest.tables}
    return {**tables, **{f"db{space.number}": space.keys for space in manifest.keyspaces}}


def _extensions(manifest: Manifest) -> set[str]:
    return {f"{each.name} {each.version}" for each in manifest.extensions}


def _sequences(manifest: Manifest) -> set[str]:
    return {each.name for each in manifest.sequences}
