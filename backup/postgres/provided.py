"""Objects that a restore takes from an extension, or from PostgreSQL itself: ``pg_dump`` writes no changes to them.

Of the objects of an extension all are read, because nothing shows which of them were changed: ``CREATE EXTENSION`` and the
change may be one transaction, and ``pg_upgrade`` creates everything again. Of PostgreSQL's own, those are read that something
has written since ``initdb``. Some of these are unchanged, because privileges, which ``pg_dump`` does write, count too.
"""

from collections.abc import Collection, Sequence

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Provided

# initdb creates the information schema last, except for PL/pgSQL, which is an extension. A view is written with its rule. What
# has an entry in pg_shdepend was given to another owner. The last transaction grants a right on the last view.
# pg_dump does write the comments on extensions, on large objects and on the schema public. Row types and array types belong to
# an extension only in some versions.
_FOUND = """
WITH initdb (last) AS (
  SELECT coalesce(max(xmin::text::bigint) + 1, 1000) FROM pg_type WHERE typnamespace = to_regnamespace('information_schema')),
member (class, id, provider, owner) AS (
  SELECT classid, objid, extname, extowner FROM pg_depend JOIN pg_extension e ON e.oid = refobjid
  WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
    AND NOT EXISTS (SELECT FROM pg_depend i WHERE i.classid = 'pg_type'::regclass AND i.objid = pg_depend.objid
                    AND pg_depend.classid = i.classid AND i.deptype = 'i')),
own (class, id, written) AS (
  SELECT 'pg_proc'::regclass::oid, oid, xmin FROM pg_proc
  UNION ALL SELECT 'pg_class'::regclass, ev_class, xmin FROM pg_rewrite
  UNION ALL SELECT 'pg_class'::regclass, oid, xmin FROM pg_class
    WHERE reloptions IS NOT NULL OR relnamespace = to_regnamespace('information_schema')
  UNION ALL SELECT 'pg_namespace'::regclass, oid, xmin FROM pg_namespace
  UNION ALL SELECT 'pg_type'::regclass, oid, xmin FROM pg_type
  UNION ALL SELECT 'pg_operator'::regclass, oid, xmin FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, oid, xmin FROM pg_opclass
  UNION ALL SELECT 'pg_cast'::regclass, oid, xmin FROM pg_cast
  UNION ALL SELECT 'pg_language'::regclass, oid, xmin FROM pg_language
  UNION ALL SELECT 'pg_conversion'::regclass, oid, xmin FROM pg_conversion
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, xmin FROM pg_ts_dict
  UNION ALL SELECT classid, objid, xmin FROM pg_shdepend
    WHERE deptype = 'o' AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT classoid, objoid, xmin FROM pg_description
  UNION ALL SELECT classoid, objoid, xmin FROM pg_seclabel),
provided AS (
  SELECT * FROM member
  UNION SELECT class, id, '', 10::oid FROM own, initdb
  WHERE id < 16384 AND (written::text::bigint > last OR %(changed)s::text[] <> '{}')
    AND class NOT IN ('pg_extension'::regclass, 'pg_largeobject'::regclass)
    AND (class, id) <> ('pg_namespace'::regclass::oid, 2200) AND (class, id) NOT IN (SELECT class, id FROM member))
SELECT class::regclass::text, class::bigint, id::bigint, owner::bigint, provider, type || ' ' || identity
FROM provided, pg_identify_object(class, id, 0)
WHERE identity IS NOT NULL AND (provider <> '' OR %(changed)s::text[] = '{}' OR type || ' ' || identity = ANY(%(changed)s))
ORDER BY 5, 6
"""
# What can be changed of an object, by its catalogue. Texts are the same on every server: they have no object identifiers. Of
# rights, pg_dump writes all but those in two schemas.
_STATES = {
    "pg_am": "(SELECT amhandler::text FROM pg_am WHERE oid = id)",
    "pg_cast": """(SELECT concat_ws(' ', castfunc::regprocedure, castcontext, castmethod) FROM pg_cast WHERE oid = id)""",
    "pg_class": """
(SELECT concat_ws(' ', relkind, relpersistence, relreplident, relrowsecurity, relforcerowsecurity, reloptions,
   (SELECT amname FROM pg_am WHERE oid = relam), CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(id) END,
   (SELECT to_jsonb(s) - '{seqrelid,seqtypid}'::text[] FROM pg_sequence s WHERE seqrelid = id),
   (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attstorage,
      to_jsonb(a) -> 'attcompression', to_jsonb(a) -> 'attstattarget', attfdwoptions, pg_get_expr(adbin, id)), ',' ORDER BY attname)
    FROM pg_attribute a LEFT JOIN pg_attrdef ON adrelid = id AND adnum = attnum
    WHERE attrelid = id AND attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'f')),
   (SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ',' ORDER BY conname) FROM pg_constraint WHERE conrelid = id),
   (SELECT string_agg(pg_get_indexdef(indexrelid), ',' ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = id),
   (SELECT string_agg(concat_ws(' ', tgenabled, pg_get_triggerdef(oid)), ',' ORDER BY tgname) FROM pg_trigger
    WHERE tgrelid = id AND NOT tgisinternal),
   (SELECT string_agg(concat_ws(' ', ev_enabled, pg_get_ruledef(oid)), ',' ORDER BY rulename) FROM pg_rewrite
    WHERE ev_class = id AND rulename <> '_RETURN'),
   (SELECT string_agg(concat_ws(' ', grantee::regrole, privilege_type), ',' ORDER BY grantee::regrole::text, privilege_type)
    FROM aclexplode(relacl) WHERE grantee <> relowner AND relnamespace = to_regnamespace('information_schema')))
 FROM pg_class WHERE oid = id)""",
    "pg_conversion": "(SELECT concat_ws(' ', conproc, condefault) FROM pg_conversion WHERE oid = id)",
    "pg_event_trigger": """
(SELECT concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags) FROM pg_event_trigger WHERE oid = id)""",
    "pg_foreign_data_wrapper": """
(SELECT concat_ws(' ', fdwhandler::regproc, fdwvalidator::regproc, fdwoptions) FROM pg_foreign_data_wrapper WHERE oid = id)""",
    "pg_foreign_server": "(SELECT concat_ws(' ', srvtype, srvversion, srvoptions) FROM pg_foreign_server WHERE oid = id)",
    "pg_language": """
(SELECT concat_ws(' ', lanpltrusted, lanplcallfoid::regproc, laninline::regproc, lanvalidator::regproc) FROM pg_language WHERE oid = id)""",
    "pg_namespace": """
(SELECT string_agg(concat_ws(' ', grantee::regrole, privilege_type), ',' ORDER BY grantee::regrole::text, privilege_type)
 FROM pg_namespace, aclexplode(nspacl) WHERE oid = id AND grantee <> nspowner AND nspname IN ('information_schema', 'pg_toast'))""",
    "pg_opclass": """
(SELECT concat_ws(' ', opcdefault, opcintype::regtype, opckeytype::regtype) FROM pg_opclass WHERE oid = id)""",
    "pg_operator": """
(SELECT concat_ws(' ', oprcode, oprrest, oprjoin, oprcanmerge, oprcanhash, oprcom::regoperator, oprnegate::regoperator)
 FROM pg_operator WHERE oid = id)""",
    "pg_opfamily": """
concat_ws(' ', (SELECT string_agg(each, ',' ORDER BY each) FROM pg_amop,
    concat_ws(' ', amopstrategy, amoppurpose, amopopr::regoperator) each WHERE amopfamily = id),
  (SELECT string_agg(each, ',' ORDER BY each) FROM pg_amproc,
    concat_ws(' ', amprocnum, amproc::regprocedure, amproclefttype::regtype, amprocrighttype::regtype) each WHERE amprocfamily = id))""",
    "pg_proc": """
(SELECT CASE WHEN prokind <> 'a' THEN pg_get_functiondef(p.oid)
   ELSE concat(proparallel, to_jsonb(a) - '{aggsortop,aggtranstype,aggmtranstype}'::text[]) END
 FROM pg_proc p LEFT JOIN pg_aggregate a ON aggfnoid = p.oid WHERE p.oid = id)""",
    "pg_transform": "(SELECT concat_ws(' ', trffromsql, trftosql) FROM pg_transform WHERE oid = id)",
    "pg_ts_config": """
(SELECT string_agg(concat_ws(' ', maptokentype, mapseqno, dictname), ',' ORDER BY maptokentype, mapseqno)
 FROM pg_ts_config_map JOIN pg_ts_dict d ON d.oid = mapdict WHERE mapcfg = id)""",
    "pg_ts_dict": "(SELECT dictinitoption FROM pg_ts_dict WHERE oid = id)",
    "pg_type": """
(SELECT concat_ws(' ', format_type(typbasetype, typtypmod), to_jsonb(t)
     - '{oid,typnamespace,typowner,typrelid,typelem,typarray,typbasetype,typcollation,typacl,typdefaultbin}'::text[],
   (SELECT string_agg(quote_literal(enumlabel), ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = id),
   (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod)), ',' ORDER BY attnum) FROM pg_attribute
    WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped),
   (SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ',' ORDER BY conname) FROM pg_constraint WHERE contypid = id))
 FROM pg_type t WHERE oid = id)""",
}
# Superusers, and the owner of the extension, are the same as after a restore, which a superuser may carry out.
_DIGESTS = sql.SQL("""
SELECT hashtextextended(concat_ws(E'\\n', CASE class WHEN 0 THEN '' {} END,
  (SELECT rolname FROM pg_shdepend s JOIN pg_roles r ON r.oid = refobjid WHERE s.classid = class AND s.objid = id AND s.deptype = 'o'
     AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT rolsuper AND r.oid <> owner),
  (SELECT string_agg(concat_ws(' ', objsubid, description), ',' ORDER BY objsubid) FROM pg_description
   WHERE classoid = class AND objoid = id),
  (SELECT string_agg(concat_ws(' ', objsubid, provider, label), ',' ORDER BY objsubid, provider) FROM pg_seclabel
   WHERE classoid = class AND objoid = id)), 0)
FROM unnest(%s::oid[], %s::oid[], %s::oid[]) WITH ORDINALITY AS found (class, id, owner, place) ORDER BY place
""")
_ONE = sql.SQL("WHEN {}::regclass THEN {}")


def provided(connection: Connection[TupleRow], changed: Sequence[str] = ()) -> tuple[Provided, ...]:
    """The objects of extensions, and those of PostgreSQL's own that were written since ``initdb``.

    Args:
        changed: of PostgreSQL's own, read these instead.
    """
    found = connection.execute(_FOUND, {"changed": list(changed)}).fetchall()
    states = [
        _ONE.format(name, sql.SQL(_STATES[name])) for name in sorted({row[0] for row in found} & set(_STATES))
    ]
    columns = [[row[place] for row in found] for place in (1, 2, 3)]
    digests = connection.execute(_DIGESTS.format(sql.SQL(" ").join(states)), columns).fetchall()
    return tuple(
        Provided(provider=row[4], object=row[5], digest=digest)
        for row, (digest,) in zip(found, digests, strict=True)
    )


# Objects that pg_dump writes: those that belong to no extension.
_DUMPED = """
SELECT type || ' ' || identity FROM (
  SELECT 'pg_proc'::regclass, oid FROM pg_proc
  UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relkind IN ('r', 'v', 'm', 'S', 'f', 'p') AND relpersistence <> 't'
  UNION ALL SELECT 'pg_type'::regclass, t.oid FROM pg_type t LEFT JOIN pg_class c ON c.oid = typrelid
    WHERE coalesce(relkind, 'c') = 'c' AND typcategory <> 'A'
  UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator
  UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
  UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
  UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion
  UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
  UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser
  UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
  UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
  UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
  UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
) o (class, id), pg_identify_object(class, id, 0)
WHERE id >= 16384 AND identity IS NOT NULL AND coalesce(schema, '') NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = id AND d.deptype = 'e')
"""
# Objects that pg_dump does not write, because they belong to an extension or to one of PostgreSQL's own schemas, and that others
# use which it writes. What belongs to a table or type is used by what uses that. Indexes, triggers and the like are parts of a table.
_USED = """
WITH unwritten (class, id) AS (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
  UNION SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE oid >= 16384 AND pronamespace = 'pg_catalog'::regnamespace
  UNION SELECT 'pg_type'::regclass, oid FROM pg_type WHERE oid >= 16384 AND typnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  UNION SELECT 'pg_class'::regclass, oid FROM pg_class WHERE oid >= 16384 AND relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  UNION SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oid >= 16384 AND oprnamespace = 'pg_catalog'::regnamespace
  UNION SELECT 'pg_collation'::regclass, oid FROM pg_collation WHERE oid >= 16384 AND collnamespace = 'pg_catalog'::regnamespace
  UNION SELECT 'pg_opclass'::regclass, oid FROM pg_opclass WHERE oid >= 16384 AND opcnamespace = 'pg_catalog'::regnamespace
  UNION SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config WHERE oid >= 16384 AND cfgnamespace = 'pg_catalog'::regnamespace
  UNION SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict WHERE oid >= 16384 AND dictnamespace = 'pg_catalog'::regnamespace),
parts (class, id, part_class, part) AS (
  SELECT class, id, class, id FROM unwritten
  UNION ALL SELECT class, id, 'pg_type'::regclass, unnest(ARRAY[t.oid, t.typarray]) FROM unwritten JOIN pg_type t
    ON class = 'pg_class'::regclass AND typrelid = id OR class = 'pg_type'::regclass AND t.oid = id),
uses (class, id, by_class, by_id) AS (
  SELECT p.class, p.id, CASE WHEN coalesce(ev_class, adrelid, nullif(conrelid, 0), tgrelid, polrelid, indrelid, stxrelid) IS NULL
      THEN CASE WHEN contypid <> 0 THEN 'pg_type'::regclass ELSE d.classid END ELSE 'pg_class'::regclass END,
    coalesce(ev_class, adrelid, nullif(conrelid, 0), tgrelid, polrelid, indrelid, stxrelid, nullif(contypid, 0), d.objid)
  FROM parts p JOIN pg_depend d ON d.refclassid = part_class AND d.refobjid = part AND d.deptype IN ('n', 'a')
    LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_constraint c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
    LEFT JOIN pg_trigger t ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
    LEFT JOIN pg_policy y ON d.classid = 'pg_policy'::regclass AND y.oid = d.objid
    LEFT JOIN pg_index i ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
    LEFT JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
  WHERE d.classid::regclass::text NOT LIKE 'pg_publication%' AND d.classid NOT IN ('pg_default_acl'::regclass, 'pg_amop'::regclass, 'pg_amproc'::regclass)
    AND NOT EXISTS (SELECT FROM pg_class q WHERE d.classid = 'pg_class'::regclass AND q.oid = d.objid AND (relkind IN ('S', 't') OR relpersistence = 't')))
SELECT DISTINCT type || ' ' || identity FROM uses u, pg_identify_object(class, id, 0)
WHERE (by_class, by_id) NOT IN (SELECT part_class, part FROM parts) AND id >= 16384 AND identity IS NOT NULL
"""


def dumped(connection: Connection[TupleRow], wanted: Collection[str] | None = None) -> set[str]:
    """The objects that ``pg_dump`` writes, by their identities.

    Args:
        wanted: return only those among these.
    """
    found = {row[0] for row in connection.execute(_DUMPED)}
    return found if wanted is None else found.intersection(wanted)


def used(connection: Connection[TupleRow], wanted: Collection[str] | None = None) -> set[str]:
    """The objects that ``pg_dump`` does not write, and that others use which it writes.

    Args:
        wanted: return only those among these.
    """
    found = {row[0] for row in connection.execute(_USED)}
    return found if wanted is None else found.intersection(wanted)
