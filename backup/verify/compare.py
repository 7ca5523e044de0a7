"""Compares a restored database with the dump it came from."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

from backup.cancellation import Check, also, carry, never
from backup.catalogue import layout
from backup.catalogue.manifest import Expression, Manifest, Sequence
from backup.catalogue.records import Difference
from backup.errors import DumpError
from backup.postgres import inventory, nested_types
from backup.postgres.dsn import Address
from backup.postgres.session import OWN_PATH, session
from backup.programs import Programs
from backup.progress import Progress, silent
from backup.verify import inheritance
from backup.verify.column_order import equal_in_order, reordered
from backup.verify.digests import CREATION, Digests, Key, Known, compare, with_large_objects_together
from backup.verify.dumps import Restored, archive_digests
from backup.verify.large_tables import Exchange
from backup.verify.moved_rows import Part, only_moved
from backup.verify.provided import ALWAYS

# Only the same major version prints definitions identically.
_UNUSED = re.compile(r", false\);\s*\Z")
_DATA = {"TABLE DATA", "BLOBS", "SEQUENCE SET"}
_Work: TypeAlias = Callable[[Check], Digests]
# A dump has it only if it was dropped and created again. Whether it is there is compared with the other extensions.
_RECREATED: tuple[Key, Key] = (("EXTENSION", "-", ALWAYS), ("COMMENT", "-", f"EXTENSION {ALWAYS}"))


@dataclass(frozen=True)
class Reading:
    """The digests of an archive that is read while something more important uses the processors.

    Attributes:
        known: the objects that were read so far.
    """

    known: Known
    _digests: Future[Digests]
    _needed: threading.Event

    def hurry(self) -> Future[Digests]:
        """Stop reading at a low priority: the result is needed now."""
        self._needed.set()
        return self._digests


@dataclass(frozen=True)
class Comparison:
    """What a comparison of two dumps found.

    Attributes:
        moved: tables whose rows changed, because a restore routes rows to partitions again.
    """

    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    moved: frozenset[str] = frozenset()

    def without_moved(self, counted: Iterable[Difference]) -> list[Difference]:
        """Differences in numbers of rows, except in partitions whose rows moved to another one."""
        return [each for each in counted if each.kind != "rows" or each.object not in self.moved]


def compare_counts(manifest: Manifest, address: Address) -> list[Difference]:
    """Compare rows per table, extensions, operators and sequences with what was counted in the snapshot itself."""
    with session(address, changes=OWN_PATH) as connection:
        positions = inventory.sequences(connection)
        connection.execute("BEGIN; SET LOCAL search_path TO pg_catalog")
        names = list(inventory.tables(connection))
        found = {table.label: table.rows for table in inventory.count(connection, names)}
        extensions = {extension.name: extension.version for extension in inventory.extensions(connection)}
        behind = list(sequences_behind(manifest, positions, inventory.only_advancing(connection)))
        expressions = inventory.expressions(connection)
    expected = {table.label: table.rows for table in manifest.tables}
    left_out = rows_left_out(manifest, (label for label, rows in found.items() if not rows))
    found = {label: rows for label, rows in found.items() if label not in left_out}
    wanted = {extension.name: "present" for extension in manifest.extensions}
    present = dict.fromkeys((name for name in extensions if name != ALWAYS or name in wanted), "present")
    return [
        *_unequal("rows", expected, found),
        *_unequal("extension", wanted, present),
        *_other_operators(manifest.expressions, expressions),
        *behind,
    ]


def _other_operators(wanted: Iterable[Expression], found: Iterable[Expression]) -> list[Difference]:
    """Objects that are printed alike but mean something else. Some forms do not print their operator, and a restore may
    choose another one for them. The original's operator then occurs less often.
    """
    there = {each.object: each for each in found}
    meant, got = {}, {}
    for each in wanted:
        most = dict(zip(each.operators, each.times, strict=False))
        meant[each.object] = _uses(each, most)
        if each.object in there:
            got[each.object] = _uses(there[each.object], most)
    return _unequal("operators", meant, got)


def _uses(expression: Expression, most: Mapping[str, int]) -> str:
    """Operators and how often they occur; more often than the original's does not count."""
    times = dict(zip(expression.operators, expression.times, strict=False))
    counted = {name: min(times.get(name, 0), most.get(name, 0)) for name in expression.operators}
    return ", ".join(name if uses < 2 else f"{name} ({uses} times)" for name, uses in counted.items())


def sequences_behind(
    manifest: Manifest, positions: Iterable[Sequence], advancing: Collection[str]
) -> Iterator[Difference]:
    """Sequences advance regardless of the snapshot. Only a sequence that is behind it would return a value twice.

    Names with dots may be those of two sequences, whose values are compared in order.
    """
    wanted, found = _values(manifest.sequences), _values(positions)
    for name, values in wanted.items():
        for least, value in zip(values, found[name] if name in advancing else (), strict=False):
            if value < least:
                yield Difference(kind="sequence", object=name, expected=f"at least {least}", found=str(value))


def _values(sequences: Iterable[Sequence]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for each in sequences:
        if each.last_value is not None:
            found[each.name].append(each.last_value)
    return defaultdict(list, {name: sorted(values) for name, values in found.items()})


def compare_dumps(
    manifest: Manifest,
    programs: Programs,
    archive: Path,
    address: Address,
    check: Check = never,
    *,
    locale: bool = True,
    progress: Progress = silent,
    expected: Reading | None = None,
    exchange: Exchange | None = None,
) -> Comparison:
    """Compare the archive as text with a new dump of the restored database: table by table, object by object.

    Args:
        locale: compare the database's encoding and locale too.
        progress: called with the bytes of the new dump.
        expected: the archive's digests, if it is already being read.
        exchange: how the server, if it is a throwaway one, passes the rows of large tables.
    """
    known = expected.known if expected else Known()
    restored = Restored(
        programs, address, manifest.server.encoding, archive.parent, progress, exchange, known
    )
    with ExitStack() as stack:
        mine = (
            expected.hurry()
            if expected
            else stack.enter_context(
                _in_background(check, lambda either: archive_digests(programs, archive, either, known))
            )
        )
        theirs = stack.enter_context(_in_background(check, carry(partial(restored.digests, mine))))
        try:
            digests_of_archive = mine.result()
        except DumpError as error:
            if error.killed:
                raise
            return Comparison([_unreadable(error)])
        found = theirs.result()
    same = manifest.server.version_number // 10000 == programs.major("pg_dump")
    notes = (
        []
        if same
        else ["the major version differs from the original: rows were compared, definitions were not"]
    )
    digests_of_archive, found = (_grouped(each, same=same) for each in (digests_of_archive, found))
    differences = _misplaced(digests_of_archive, found, address)
    moved = only_moved(parts(digests_of_archive), parts(found))
    shapes = {key[1:]: each.shape for key, each in found.items() if key[0] == "TABLE" and each.shape}
    left_out = {
        ("TABLE DATA", label) for label in rows_left_out(manifest, _without_rows(digests_of_archive, found))
    }
    left_out |= {("SEQUENCE SET", label) for label in _without_values(manifest, digests_of_archive, found)}
    for key, wanted, got in compare(digests_of_archive, found):
        if (key == CREATION and not locale) or (key[0], _label(key)) in left_out:
            continue
        if key[0] == "TABLE DATA" and key[1:] in moved:
            notes.append(f"{_label(key)}: rows are in other partitions of {moved[key[1:]]}; none are missing")
        elif note := _harmless(key, digests_of_archive, found, shapes, address):
            notes.append(f"{_label(key)}: {note}")
        elif same or key[0] in _DATA:
            differences.append(
                Difference(kind=key[0].lower(), object=_label(key), expected=wanted, found=got)
            )
    return Comparison(differences, notes, frozenset(".".join(table) for table in moved))


def _grouped(found: Digests, *, same: bool) -> Digests:
    """Another major version of ``pg_dump`` may write large objects in other groups."""
    return found if same else with_large_objects_together(found)


def _without_rows(expected: Digests, found: Digests) -> Iterator[str]:
    """The tables whose rows are missing from the archive, and of which none came back."""
    return (
        _label(key)
        for key, digest in found.items()
        if key[0] == "TABLE DATA" and key not in expected and digest.rows == 0
    )


def rows_left_out(manifest: Manifest, labels: Iterable[str]) -> set[str]:
    """Those of some tables whose rows a backup lacks: they are excluded, or unlogged and were dumped from a standby."""
    missing = set(labels)
    if not manifest.server.standby:
        missing &= set(manifest.excluded_rows)
    return missing - {table.label for table in manifest.tables} if missing else missing


def _without_values(manifest: Manifest, expected: Digests, found: Digests) -> Iterator[str]:
    """The sequences whose values an imported archive lacks (``--schema-only``), and which have not been used since."""
    recorded = {each.name for each in manifest.sequences}
    for key, digest in found.items():
        absent = key[0] == "SEQUENCE SET" and key not in expected and _label(key) not in recorded
        if absent and _UNUSED.search(digest.text):
            yield _label(key)


@contextmanager
def reading(programs: Programs, archive: Path, check: Check) -> Iterator[Reading]:
    """The digests of an archive, which is read while it is restored, in the time that the restore leaves."""
    known, needed = Known(), threading.Event()
    with _in_background(
        check, lambda either: archive_digests(programs, archive, either, known, needed)
    ) as found:
        yield Reading(known, found, needed)


@contextmanager
def _in_background(check: Check, work: _Work) -> Iterator[Future[Digests]]:
    """The result of work in a thread, whose check also stops it as soon as the block is left, for any reason."""
    left = threading.Event()
    either = also(check, left, "the other dump could not be read, or a signal arrived")
    with ThreadPoolExecutor(1, thread_name_prefix="digest") as pool:
        try:
            yield pool.submit(work, either)
        finally:
            left.set()


def _harmless(
    key: Key,
    expected: Digests,
    found: Digests,
    shapes: Mapping[inheritance.Table, inheritance.Shape],
    address: Address,
) -> str:
    """Why a difference does not count: a correct restore causes it too. Empty if it counts."""
    if key[0] == "COMMENT" and key[2].startswith("EXTENSION ") and key not in expected:
        return "it was removed, and comes back with the extension"
    if key in _RECREATED and _RECREATED[0] in expected and key not in found:
        return "it was created again; every new database has it, and a dump leaves it out"
    if key not in expected or key not in found:
        return ""
    dumped, restored = expected[key], found[key]
    if key[0] == "TABLE DATA" and equal_in_order(dumped, restored, address):
        return "its columns are in a different order, but it is equal"
    if dumped.shape and restored.shape and inheritance.same(dumped.shape, restored.shape, shapes):
        return "the order or storage of its columns is its parent's; otherwise it is equal"
    return ""


def _misplaced(expected: Digests, found: Digests, address: Address) -> list[Difference]:
    """Values that contain rows of tables whose columns are in a different order: such rows are text without names."""
    tables = [key[1:] for key, each in expected.items() if key in found and reordered(each, found[key])]
    if not tables:
        return []
    with session(address) as connection:
        return [
            Difference(
                kind="values",
                object=column,
                expected=f"rows of {table} as in the backup",
                found=f"values in other fields, because the columns of {table} are in a different order",
            )
            for column, table in nested_types.holding(connection, tables)
        ]


def parts(digests: Digests) -> dict[tuple[str, str], Part]:
    """The rows of partitions that a table above them routes."""
    return {
        key[1:]: Part(each.root, each.rows or 0, each.bag)
        for key, each in digests.items()
        if key[0] == "TABLE DATA" and each.root
    }


def _unreadable(error: DumpError) -> Difference:
    """The digest matches but the archive is unreadable: it was bad when written."""
    wanted = "pg_restore reads it to the end"
    return Difference(kind="object", object=layout.ARCHIVE, expected=wanted, found=error.message)


def _unequal(
    kind: str, expected: dict[str, int] | dict[str, str], found: dict[str, int] | dict[str, str]
) -> list[Difference]:
    return [
        Difference(
            kind=kind,
            object=name,
            expected=str(expected.get(name, "nothing")),
            found=str(found.get(name, "nothing")),
        )
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def _label(key: Key) -> str:
    _, schema, name = key
    return name if schema == "-" else f"{schema}.{name}"
