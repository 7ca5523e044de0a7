"""Types within other types: what a restore does to row types, and to hashes of enumerations.

``pg_dump`` writes a row as text with its fields in order, and no names. A restore may put the columns of a child table
into another order, those of its parents first, and then reads such a text into the wrong fields. See also
:mod:`backup.verify.column_order`.
"""

from collections.abc import Collection

from psycopg import Connection, sql
from psycopg.abc import Query
from psycopg.rows import TupleRow

# Each type of which another one is made: array, domain, range, multirange, composite type or row type.
_PARTS = """
SELECT typelem, oid FROM pg_type WHERE typelem <> 0
UNION ALL SELECT typbasetype, oid FROM pg_type WHERE typbasetype <> 0
UNION ALL SELECT rngsubtype, rngtypid FROM pg_range
UNION ALL SELECT refobjid, objid FROM pg_depend
  WHERE classid = 'pg_type'::regclass AND refclassid = 'pg_type'::regclass AND deptype = 'i'
UNION ALL SELECT atttypid, reltype FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
  WHERE attnum > 0 AND NOT attisdropped AND reltype <> 0
"""
# The stored expressions of an object that pg_depend names as d. Some columns are missing in older versions.
TREE = """
CASE d.classid
  WHEN 'pg_rewrite'::regclass THEN (SELECT concat(ev_action, ev_qual) FROM pg_rewrite WHERE oid = d.objid)
  WHEN 'pg_attrdef'::regclass THEN (SELECT adbin::text FROM pg_attrdef WHERE oid = d.objid)
  WHEN 'pg_constraint'::regclass THEN (SELECT conbin::text FROM pg_constraint WHERE oid = d.objid)
  WHEN 'pg_class'::regclass THEN (SELECT concat(indexprs, indpred) FROM pg_index WHERE indexrelid = d.objid)
  WHEN 'pg_policy'::regclass THEN (SELECT concat(polqual, polwithcheck) FROM pg_policy WHERE oid = d.objid)
  WHEN 'pg_trigger'::regclass THEN (SELECT tgqual::text FROM pg_trigger WHERE oid = d.objid)
  WHEN 'pg_proc'::regclass THEN (SELECT concat(proargdefaults, to_jsonb(p) ->> 'prosqlbody') FROM pg_proc p WHERE oid = d.objid)
  WHEN 'pg_statistic_ext'::regclass THEN (SELECT to_jsonb(s) ->> 'stxexprs' FROM pg_statistic_ext s WHERE oid = d.objid)
  WHEN 'pg_type'::regclass THEN (SELECT typdefaultbin::text FROM pg_type WHERE oid = d.objid)
  WHEN 'pg_publication_rel'::regclass THEN (SELECT to_jsonb(r) ->> 'prqual' FROM pg_publication_rel r WHERE oid = d.objid)
END"""
# What contains rows of certain other tables, with the name of that table: types, columns whose rows a dump has, and objects
# whose expressions have such rows as constants.
_HOLDERS = rf"""
containing (type, held) AS (
  SELECT reltype, c.oid FROM pg_class c JOIN moved ON moved.oid = c.oid
  UNION SELECT whole, held FROM containing JOIN ({_PARTS}) p (part, whole) ON part = type),
columns AS (
  SELECT nspname AS schema, relname AS name, attname AS field, h.held::regclass::text AS held
  FROM containing h JOIN pg_attribute a ON atttypid = type JOIN pg_class c ON c.oid = attrelid
    JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relkind = 'r' AND relpersistence <> 't' AND attnum > 0 AND NOT attisdropped AND attgenerated = ''),
constants AS (
  SELECT DISTINCT o.type || ' ' || o.identity AS object, h.held::regclass::text AS held
  FROM containing h JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = h.type AND d.deptype IN ('n', 'a'),
    pg_identify_object(d.classid, d.objid, 0) o
  WHERE {TREE} ~ format(':(consttype %1$s [^}}]*:constisnull false|row_typeid %1$s )', h.type) AND o.identity IS NOT NULL)
"""
# Tables whose columns a restore puts into another order: first come those of the parents, in their order.
_MISPLACED = f"""
WITH RECURSIVE moved AS (
  SELECT child AS oid FROM (
    SELECT c.attrelid AS child, row_number() OVER (PARTITION BY c.attrelid ORDER BY c.attnum) AS place,
      row_number() OVER (PARTITION BY c.attrelid ORDER BY min(ARRAY[inhseqno, p.attnum]), c.attnum) AS restored
    FROM pg_inherits JOIN pg_class k ON k.oid = inhrelid JOIN pg_attribute c ON c.attrelid = k.oid
      LEFT JOIN pg_attribute p ON p.attrelid = inhparent AND p.attname = c.attname AND p.attnum > 0
    WHERE k.relkind IN ('r', 'f') AND NOT relispartition AND c.attnum > 0 AND NOT c.attisdropped
    GROUP BY c.attrelid, c.attnum) o
  WHERE place <> restored
  UNION SELECT inhrelid FROM pg_inherits JOIN moved ON moved.oid = inhparent), {_HOLDERS}
SELECT 'column ' || schema || '.' || name || '.' || field || ' contains rows of ', held FROM columns
UNION ALL SELECT object || ' has constants that are rows of ', held FROM constants ORDER BY 1, 2
"""
_NAMED = """
WITH RECURSIVE moved AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
  WHERE (translate(nspname, E'\\r\\n', '  '), translate(relname, E'\\r\\n', '  ')) IN
    (SELECT * FROM unnest(%s::text[], %s::text[])))"""
_HOLDING = f"{_NAMED}, {_HOLDERS.replace('%', '%%')} SELECT schema, name, field, held FROM columns ORDER BY 1, 2, 3, 4"
_CONSTANTS = f"{_NAMED}, {_HOLDERS.replace('%', '%%')} SELECT object, held FROM constants ORDER BY 1, 2"
# Whether a key of a table that is partitioned by hash has a value of such a type within it. The type of an expression is not
# known, only that of its operator class.
_REHASHED = f"""
WITH RECURSIVE changing (type) AS (
  SELECT oid FROM pg_type WHERE typtype = 'e' OR typnamespace = 'pg_catalog'::regnamespace AND typname ~ '^reg'
  UNION SELECT whole FROM changing JOIN ({_PARTS}) p (part, whole) ON part = type)
SELECT EXISTS (SELECT FROM pg_partitioned_table CROSS JOIN unnest(partattrs::int2[], partclass::oid[]) AS key (number, class)
  JOIN pg_opclass o ON o.oid = class LEFT JOIN pg_attribute ON attrelid = partrelid AND attnum = number AND number > 0
  WHERE partstrat = 'h' AND opcintype <> 'anyenum'::regtype AND (atttypid IN (SELECT type FROM changing)
    OR atttypid IS NULL AND opcintype::regtype::text IN ('anyarray', 'record', 'anyrange', 'anymultirange', 'oid')))
"""
# The servers of most databases need milliseconds to plan the queries above, and find nothing.
_BY_HASH = "SELECT EXISTS (SELECT FROM pg_partitioned_table WHERE partstrat = 'h')"
_WITH_PARENTS = """
SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class k ON k.oid = inhrelid WHERE k.relkind IN ('r', 'f') AND NOT relispartition)
"""
_HAS_VALUE = "SELECT EXISTS (SELECT FROM ONLY {} WHERE num_nonnulls({}) > 0)"


def misplaced(connection: Connection[TupleRow]) -> list[str]:
    """Columns and objects whose values a restore would change, because it changes the order of the columns of a child table."""
    if not _is_true(connection, _WITH_PARENTS):
        return []
    return [
        f"{what}{held}: a restore changes the order of that table's columns, and puts the values into other fields"
        for what, held in connection.execute(_MISPLACED)
    ]


def rehashed(connection: Connection[TupleRow]) -> bool:
    """Whether a restore puts rows into other partitions than ``pg_dump`` expects.

    The hash of an enumeration's value, or of an object's identifier that is shown as a name, is another one after a restore.
    ``pg_dump`` knows that of keys that are enumerations, and of no others, such as arrays of them.
    """
    return _is_true(connection, _BY_HASH) and _is_true(connection, _REHASHED)


def holding(connection: Connection[TupleRow], tables: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    """Columns and objects that contain rows of other tables, with the name of that table; columns without a value are not included.

    Args:
        tables: names, as the headings of a dump show them.
    """
    wanted = [[table[part] for table in tables] for part in (0, 1)]
    columns = [
        (f"{schema}.{name}.{field}", held)
        for schema, name, field, held in connection.execute(_HOLDING, wanted).fetchall()
        if _has_value(connection, sql.Identifier(schema, name), sql.Identifier(field))
    ]
    return [*columns, *((name, held) for name, held in connection.execute(_CONSTANTS, wanted))]


def _has_value(connection: Connection[TupleRow], table: sql.Identifier, field: sql.Identifier) -> bool:
    return _is_true(connection, sql.SQL(_HAS_VALUE).format(table, field))


def _is_true(connection: Connection[TupleRow], query: Query) -> bool:
    row = connection.execute(query).fetchone()
    return row is not None and bool(row[0])
