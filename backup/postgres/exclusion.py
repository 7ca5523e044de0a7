"""Tables, or only their rows, that are deliberately excluded from backups.

Patterns are matched here and not by ``pg_dump``, so that the dump, the counts and the manifest agree on what is left out.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate

from psycopg import Connection
from psycopg.rows import TupleRow

MAX_NAMED = 5
_RELATIONS = """
SELECT n.nspname, c.relname, c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""
# A table with all its partitions and children, at every level.
_DESCENDANTS = """
WITH RECURSIVE below AS (SELECT unnest(%s::oid[]) AS oid UNION SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = oid)
SELECT n.nspname, c.relname, c.oid FROM below JOIN pg_class c USING (oid) JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2
"""
# Objects that could not be restored: references to excluded rows, and views, functions, policies, defaults, triggers and
# publications that name excluded tables. What belongs to an excluded table is excluded with it, and its sequences need no table.
_NEEDED = """
SELECT format('%%s refers to rows of %%s', conrelid::regclass, confrelid::regclass) FROM pg_constraint
WHERE contype = 'f' AND confrelid = ANY(%(all)s) AND conrelid <> ALL(%(all)s)
UNION
SELECT format('%%s needs %%s', r.ev_class::regclass, d.refobjid::regclass) FROM pg_rewrite r
  JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
WHERE d.refobjid = ANY(%(tables)s) AND r.ev_class <> ALL(%(tables)s)
UNION
SELECT format('%%s needs %%s', pg_describe_object(d.classid, d.objid, 0), d.refobjid::regclass) FROM pg_depend d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(%(tables)s) AND d.deptype IN ('n', 'a')
  AND d.classid NOT IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass)
  AND coalesce(CASE d.classid
    WHEN 'pg_class'::regclass THEN (SELECT CASE relkind WHEN 'S' THEN d.refobjid ELSE coalesce(indrelid, oid) END
      FROM pg_class LEFT JOIN pg_index ON indexrelid = oid WHERE oid = d.objid)
    WHEN 'pg_attrdef'::regclass THEN (SELECT adrelid FROM pg_attrdef WHERE oid = d.objid)
    WHEN 'pg_trigger'::regclass THEN (SELECT tgrelid FROM pg_trigger WHERE oid = d.objid)
    WHEN 'pg_policy'::regclass THEN (SELECT polrelid FROM pg_policy WHERE oid = d.objid)
    WHEN 'pg_statistic_ext'::regclass THEN (SELECT stxrelid FROM pg_statistic_ext WHERE oid = d.objid)
  END, 0) <> ALL(%(tables)s)
UNION
SELECT format('%%s needs the type of %%s', pg_describe_object(d.classid, d.objid, 0), t.typrelid::regclass) FROM pg_type t
  JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray)
WHERE t.typrelid = ANY(%(tables)s) AND d.deptype = 'n' AND NOT (d.classid = 'pg_class'::regclass AND d.objid = ANY(%(tables)s))
ORDER BY 1
"""

Name = tuple[str, str]


@dataclass(frozen=True)
class Exclusion:
    """Patterns ``schema.table``, in which ``*`` and ``?`` stand for any characters; without a schema, public is meant.

    Attributes:
        tables: patterns of tables that are excluded completely.
        rows: patterns of tables of which only the definitions are in a backup.
    """

    tables: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tables or self.rows)


@dataclass(frozen=True)
class Excluded:
    """The tables that patterns select in one database, with partitions and children, by object ID."""

    tables: dict[int, Name] = field(default_factory=dict)
    rows: dict[int, Name] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()

    @property
    def all(self) -> dict[int, Name]:
        return {**self.tables, **self.rows}

    def arguments(self) -> list[str]:
        """Options of ``pg_dump``."""
        return [
            *(f"--exclude-table={exact_pattern(name)}" for name in self.tables.values()),
            *(f"--exclude-table-data={exact_pattern(name)}" for name in self.rows.values()),
        ]

    def notes(self) -> tuple[str, ...]:
        """A description of what is excluded."""
        found = []
        if self.tables:
            found.append(f"left out by BACKUP_EXCLUDE_TABLES: {_listed(self.tables.values())}")
        if self.rows:
            found.append(f"without their rows by BACKUP_EXCLUDE_ROWS: {_listed(self.rows.values())}")
        return tuple(found)


NOTHING = Exclusion()


def resolve(connection: Connection[TupleRow], exclusion: Exclusion) -> Excluded:
    """The tables that the patterns select in a database now."""
    if not exclusion:
        return Excluded()
    known = {row[2]: (row[0], row[1]) for row in connection.execute(_RELATIONS)}
    unmatched: list[str] = []
    tables = _below(connection, _matching(known, exclusion.tables, unmatched))
    rows = _below(connection, _matching(known, exclusion.rows, unmatched))
    return Excluded(tables, {oid: name for oid, name in rows.items() if oid not in tables}, tuple(unmatched))


def needed(connection: Connection[TupleRow], excluded: Excluded) -> list[str]:
    """Why a backup without these could not be restored; empty if it can."""
    if not excluded.all:
        return []
    found = connection.execute(_NEEDED, {"all": list(excluded.all), "tables": list(excluded.tables)})
    return [row[0] for row in found]


def _matching(known: dict[int, Name], patterns: Sequence[str], unmatched: list[str]) -> list[int]:
    chosen: set[int] = set()
    for pattern in patterns:
        full = _compiled(pattern if "." in pattern else f"public.{pattern}")
        found = [oid for oid, (schema, name) in known.items() if full.match(f"{schema}.{name}")]
        if not found:
            unmatched.append(pattern)
        chosen.update(found)
    return list(chosen)


def _compiled(pattern: str) -> re.Pattern[str]:
    # Unlike in a shell, a bracket stands for itself.
    return re.compile(translate(pattern.replace("[", "[[]")))


def _below(connection: Connection[TupleRow], oids: list[int]) -> dict[int, Name]:
    return {row[2]: (row[0], row[1]) for row in connection.execute(_DESCENDANTS, [oids])} if oids else {}


def exact_pattern(name: Name) -> str:
    """A name as a pattern of ``pg_dump`` that matches nothing else."""
    return ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in name)


def _listed(names: Iterable[Name]) -> str:
    labels = [".".join(name) for name in names]
    more = f" and {len(labels) - MAX_NAMED} more" if len(labels) > MAX_NAMED else ""
    return f"{', '.join(labels[:MAX_NAMED])}{more}"
