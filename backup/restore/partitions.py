"""The partitions of each table, according to an archive."""

import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backup.catalogue.manifest import Table
from backup.confinement import Confinement
from backup.pipeline import ChildSource
from backup.postgres.identifiers import NAME, unquoted
from backup.postgres.statements import split
from backup.programs import Programs, clean_environment

_TABLE = rb"(?P<{0}_schema>" + NAME + rb")\.(?P<{0}>" + NAME + rb")"
_ATTACH = re.compile(
    rb"ALTER TABLE ONLY "
    + _TABLE.replace(b"{0}", b"parent")
    + rb" ATTACH PARTITION "
    + _TABLE.replace(b"{0}", b"child")
    + rb" (?P<bounds>(?:FOR VALUES |DEFAULT).*;)",
    re.DOTALL,
)
_ENTRY = re.compile(rb"\d+; \d+ \d+ TABLE ATTACH ")


@dataclass(frozen=True)
class Attachment:
    """A partition and its parent, by the schemas' and tables' names.

    Attributes:
        statement: the match of the statement that attaches it.
    """

    parent: tuple[str, str]
    child: tuple[str, str]
    statement: re.Match[bytes]

    def within(self, schema: bytes) -> bytes:
        """The statement for tables in one schema, whose name is quoted."""
        found = self.statement
        return b"ALTER TABLE ONLY %b.%b ATTACH PARTITION %b.%b %b" % (
            schema,
            found["parent"],
            schema,
            found["child"],
            found["bounds"],
        )


def attachments(programs: Programs, archive: Path) -> list[Attachment]:
    """All partitions in an archive."""
    entries = [line for line in _printed(programs, archive, "--list").split(b"\n") if _ENTRY.match(line)]
    if not entries:
        return []
    with tempfile.NamedTemporaryFile("wb", suffix=".list", dir=archive.parent) as wanted:
        wanted.write(b"\n".join(entries) + b"\n")
        wanted.flush()
        script = _printed(programs, archive, f"--use-list={wanted.name}", "--file=-")
    return [
        Attachment(
            (unquoted(found["parent_schema"]), unquoted(found["parent"])),
            (unquoted(found["child_schema"]), unquoted(found["child"])),
            found,
        )
        for found in map(_ATTACH.fullmatch, split(script))
        if found
    ]


def topmost(attached: Iterable[Attachment]) -> dict[tuple[str, str], tuple[str, str]]:
    """For each partition, the topmost table above it."""
    above = {each.child: each.parent for each in attached}

    def top(name: tuple[str, str]) -> tuple[str, str]:
        while name in above:
            name = above[name]
        return name

    return {child: top(child) for child in above}


def with_partitions(
    tables: Iterable[Table],
    parents: Collection[tuple[str, str]],
    known: Iterable[Table],
    attached: Sequence[Attachment],
) -> list[Table]:
    """Tables, and partitioned ones with all their partitions. A partitioned table itself has no rows."""
    wanted = {(table.schema_name, table.name): table for table in tables}
    rows = {(table.schema_name, table.name): table for table in known}
    left = list(parents)
    while left:
        name = left.pop()
        if name not in wanted or name in parents:
            wanted[name] = rows.get(name) or Table(schema=name[0], name=name[1], rows=0)
            left += [each.child for each in attached if each.parent == name and each.child not in wanted]
    return list(wanted.values())


def _printed(programs: Programs, archive: Path, *arguments: str) -> bytes:
    command = [programs.path("pg_restore"), *arguments, str(archive)]
    confinement = Confinement(archive.parent)
    with ChildSource(
        command, env=clean_environment(), hint="python -m backup doctor", confinement=confinement
    ) as source:
        return b"".join(iter(source.read, b""))
