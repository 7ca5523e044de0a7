"""Divides the definitions of an archive into parts that two sessions create at the same time.

What depends on another object of the same kind is in the same part, and so is everything about tables that inherit from each
other. Everything else comes before or after these parts. The archive states what depends on what.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backup.postgres.archive import POST_DATA, PRE_DATA, Entry

# Minimum number of definitions. Starting pg_restore once more takes as long as creating some hundreds of them.
LEAST = 1000
# A part with more than this share of all definitions would take nearly as long as all of them.
LARGEST_SHARE = 0.75
_LANES = 2
# What every table brings along, and what is created for it once it has rows.
_TABLES = frozenset({b"TABLE", b"SEQUENCE", b"SEQUENCE OWNED BY", b"DEFAULT"})
_KEYS = frozenset({b"CONSTRAINT", b"INDEX"})
# Objects that statements about another one may lock.
_RELATIONS = frozenset({b"TABLE", b"TABLE ATTACH", b"FOREIGN TABLE", b"MATERIALIZED VIEW"})


@dataclass(frozen=True)
class Division:
    """Parts of a section, as numbers of objects; what is in none of them comes last.

    Attributes:
        first: what comes before the lanes.
        lanes: what can be created at the same time. None of them needs another one.
    """

    first: frozenset[int] = frozenset()
    lanes: tuple[frozenset[int], ...] = ()


def tables(items: Sequence[Entry]) -> Division:
    """Divide the definitions that come before the rows."""
    first: set[int] = set()
    chosen: set[int] = set()
    all_of_them = {item.id for item in items}
    for item in items:
        if item.section != PRE_DATA:
            continue
        needs = all_of_them.intersection(item.needs)
        if item.kind in _TABLES and all(need in first or need in chosen for need in needs):
            chosen.add(item.id)
        elif item.kind not in _TABLES and needs <= first:
            first.add(item.id)
    lanes = _lanes(items, chosen, _TABLES)
    return Division(frozenset(first), lanes) if lanes else Division()


def keys(items: Sequence[Entry]) -> Division:
    """Divide the keys and indexes that are created once the rows are there. Foreign keys come last."""
    later = {item.id for item in items if item.section == POST_DATA}
    chosen: set[int] = set()
    for item in items:
        if item.id in later and item.kind in _KEYS and later.intersection(item.needs) <= chosen:
            chosen.add(item.id)
    return Division(lanes=_lanes(items, chosen, _KEYS))


def _lanes(items: Sequence[Entry], chosen: set[int], kinds: frozenset[bytes]) -> tuple[frozenset[int], ...]:
    """Objects in lanes of about the same size; none if that is not worth it."""
    if len(chosen) < LEAST:
        return ()
    lanes: list[set[int]] = [set() for _ in range(_LANES)]
    for group in sorted(_groups(items, chosen, kinds | _RELATIONS), key=len, reverse=True):
        min(lanes, key=len).update(group)
    if max(map(len, lanes)) > LARGEST_SHARE * len(chosen):
        return ()
    return tuple(map(frozenset, lanes))


def _groups(items: Sequence[Entry], chosen: set[int], kinds: frozenset[bytes]) -> Iterable[list[int]]:
    """The chosen objects in groups: objects that depend on the same relation are in one group."""
    above = {item.id: item.id for item in items if item.kind in kinds}

    def top(number: int) -> int:
        while above[number] != number:
            above[number] = above[above[number]]
            number = above[number]
        return number

    for item in items:
        if item.kind in kinds:
            for need in item.needs:
                if need in above:
                    above[top(item.id)] = top(need)
    groups = defaultdict(list)
    for number in sorted(chosen):
        groups[top(number)].append(number)
    return groups.values()
