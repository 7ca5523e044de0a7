"""Compares rows that a restore may put into another partition.

The hash of an enum value depends on object identifiers, which change in a restore. ``pg_dump`` accounts for that: it
writes the rows of such partitions with a COPY into the topmost table that routes them (``forcePartitionRootLoad`` in its
source). So the rows of these partitions are compared as a whole, regardless of order and partition.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from backup.postgres.identifiers import NAME, unquoted

_COPY = re.compile(rb"COPY (" + NAME + rb")\.(" + NAME + rb") \((.*)\) FROM stdin;\n", re.DOTALL)
_COLUMN = re.compile(NAME)
_MODULUS = 1 << 256


@dataclass
class Routed:
    """The rows of one partition, as a sum that does not depend on their order.

    Attributes:
        root: the table that routes them, as the COPY statement quotes it.
        order: the position of each column, sorted by name; positions may differ between partitions.
    """

    root: bytes
    order: tuple[int, ...]
    bag: int = 0
    _begun: list[bytes] = field(default_factory=list)

    @classmethod
    def of(cls, copy: bytes, schema: str, name: str) -> "Routed | None":
        """From the COPY statement of a table's rows; None if it names that table itself."""
        found = _COPY.fullmatch(copy)
        if found is None or (_shown(found[1]), _shown(found[2])) == (schema, name):
            return None
        columns = _COLUMN.findall(found[3])
        return cls(found[1] + b"." + found[2], tuple(sorted(range(len(columns)), key=columns.__getitem__)))

    def add(self, data: bytes) -> None:
        """Add lines, each of which is a row; the last one continues with the next call if its end is missing."""
        *rows, rest = data.split(b"\n")
        if rows:
            rows[0] = b"".join((*self._begun, rows[0]))
            self._begun.clear()
        if rest:
            self._begun.append(rest)
        for row in rows:
            fields = row.split(b"\t")
            self.bag += int.from_bytes(
                hashlib.sha256(b"\t".join([fields[each] for each in self.order])).digest()
            )
        self.bag %= _MODULUS


@dataclass(frozen=True)
class Part:
    """The part of a digest that describes the rows of one partition."""

    root: bytes
    rows: int
    bag: int


Table = tuple[str, str]


def only_moved(expected: Mapping[Table, Part], found: Mapping[Table, Part]) -> dict[Table, str]:
    """Partitions whose rows are the same when those of all partitions of their root are taken together, with the root."""
    mine, theirs = _sums(expected), _sums(found)
    equal = {root for root, total in mine.items() if theirs.get(root) == total}
    return {
        table: part.root.decode(errors="replace")
        for table, part in expected.items()
        if part.root in equal and table in found
    }


def _sums(parts: Mapping[Table, Part]) -> dict[bytes, tuple[int, int]]:
    sums: dict[bytes, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for part in parts.values():
        rows, bag = sums[part.root]
        sums[part.root] = rows + part.rows, (bag + part.bag) % _MODULUS
    return sums


def _shown(name: bytes) -> str:
    return shown(unquoted(name).encode(errors="surrogateescape").decode(errors="replace"))


def shown(name: str) -> str:
    """A name as an object's heading shows it: on one line."""
    return name.replace("\n", " ").replace("\r", " ")
