"""The inventory of a snapshot, read independently of pg_dump: tables and rows, sequences, extensions, roles."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import LiteralString

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from backup.cancellation import check_cancelled
from backup.catalogue.manifest import Expression, Extension, Server, Table
from backup.catalogue.manifest import Sequence as Position
from backup.postgres import nested_types

# The tables whose rows pg_dump writes: ordinary tables and partitions. Not included are tables of extensions (of which
# pg_dump writes some rows if they are marked as configuration), temporary tables, and unlogged tables on a standby, which has
# no rows of them.
_DUMPED = """
SELECT n.nspname, c.relname, c.oid
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'e')
ORDER BY 1, 2
"""
# Objects that pg_dump reads or locks, and may lack privileges for: rows (also those that an extension marked as its configuration),
# partitioned tables, positions of sequences, large objects, which no read-only role covers, and rows hidden by a policy.
_UNREADABLE = """
SELECT 'table', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (c.oid = ANY(%(tables)s) OR c.oid IN (SELECT unnest(extconfig) FROM pg_extension) AND c.relkind = 'r'
       OR c.relkind = 'p' AND c.relpersistence <> 't' AND c.oid <> ALL(%(left_out)s))
  AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
UNION ALL
SELECT 'sequence', n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT (has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'))
UNION ALL
SELECT 'rows', c.oid::regclass::text FROM pg_class c
WHERE c.oid = ANY(%(tables)s) AND c.relrowsecurity AND row_security_active(c.oid)
UNION ALL
(SELECT 'large object', m.oid::text FROM pg_largeobject_metadata m
 WHERE current_setting('lo_compat_privileges') = 'off' AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
   AND NOT pg_has_role(m.lomowner, 'USAGE')
   AND NOT EXISTS (SELECT FROM aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                   AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
 LIMIT 100)
ORDER BY 1, 2
"""
# What every role may call and read, unless that was revoked: our own queries and pg_dump's need these.
_REVOKED = """
SELECT 'EXECUTE ON FUNCTION', 'pg_catalog.' || p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND NOT has_function_privilege(p.oid, 'EXECUTE')
  AND (p.proname = ANY('{array_to_string,format_type,pg_current_snapshot,pg_current_wal_insert_lsn,pg_encoding_to_char,
pg_export_snapshot,pg_get_constraintdef,pg_get_expr,pg_get_indexdef,pg_identify_object,pg_is_in_recovery,
pg_options_to_table,pg_relation_filenode,pg_sequence_last_value,pg_try_advisory_lock,pg_wal_lsn_diff,
set_config}')
       OR p.proname IN ('lo_open', 'loread', 'lo_close') AND EXISTS (SELECT FROM pg_largeobject_metadata))
UNION ALL
SELECT 'SELECT ON', 'pg_catalog.' || c.relname FROM pg_class c JOIN pg_init_privs i ON i.objoid = c.oid AND i.classoid = 'pg_class'::regclass
WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relname = ANY('{pg_aggregate,pg_am,pg_amop,pg_amproc,pg_attrdef,pg_attribute,pg_auth_members,pg_cast,pg_class,
pg_collation,pg_constraint,pg_conversion,pg_database,pg_db_role_setting,pg_default_acl,pg_depend,
pg_description,pg_enum,pg_event_trigger,pg_extension,pg_foreign_data_wrapper,pg_foreign_server,
pg_foreign_table,pg_index,pg_inherits,pg_init_privs,pg_language,pg_largeobject_metadata,pg_namespace,
pg_opclass,pg_operator,pg_opfamily,pg_parameter_acl,pg_partitioned_table,pg_policy,pg_proc,
pg_prepared_xacts,pg_publication,pg_publication_namespace,pg_publication_rel,pg_range,pg_replication_origin,pg_rewrite,pg_roles,pg_seclabel,
pg_seclabels,pg_sequence,pg_shdepend,pg_shdescription,pg_shseclabel,pg_statistic_ext,pg_tablespace,
pg_transform,pg_trigger,pg_ts_config,pg_ts_config_map,pg_ts_dict,pg_ts_parser,pg_ts_template,pg_type,
pg_user_mappings}') AND i.objsubid = 0
  AND NOT has_table_privilege(c.oid, 'SELECT')
  AND EXISTS (SELECT FROM aclexplode(i.initprivs) a WHERE a.grantee = 0 AND a.privilege_type = 'SELECT')
ORDER BY 1, 2
"""
# Tables whose locks make a dump wait: those of another session, and those of a prepared transaction, which may be forgotten.
# That one also locks what pg_dump reads without a time limit: views and sequences.
_LOCKED = """
SELECT c.oid::regclass::text, coalesce('server process ' || l.pid, 'prepared transaction ' || coalesce(x.gid, l.virtualtransaction)), l.pid IS NULL
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_locks own ON l.pid IS NULL AND own.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
    AND own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock'
  LEFT JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (c.relkind IN ('r', 'p') OR l.pid IS NULL AND c.relkind IN ('v', 'm', 'S')) AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.oid <> ALL(%s)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
_ACTING_AS = """
SELECT split_part(setting, '=', 2)
FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user) AND setting LIKE 'role=%'
  AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY setdatabase DESC
LIMIT 1
"""
_CONNECTIONS = """
SELECT rolname, rolconnlimit FROM pg_roles WHERE rolname = current_user AND NOT rolsuper AND rolconnlimit >= 0
UNION ALL
SELECT datname, datconnlimit FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""
# Number of connections that a run has open at once: its lock, its snapshot, and pg_dump.
CONNECTIONS = 3
# Objects that a dump by this role leaves out, or a restore moves elsewhere, without an error. What belongs to a table of an
# extension is not dumped. The transaction that made it shows whether the extension's scripts did so, unless pg_upgrade made
# both: then the table, whose ID it keeps, is older than the extension.
_LEFT_OUT = """
SELECT 'the options of ' || count(*) || ' user mappings, with their passwords: only a superuser sees them'
FROM pg_user_mappings WHERE umoptions IS NULL AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
HAVING count(*) > 0
UNION ALL
SELECT 'subscription ' || subname || CASE WHEN rolsuper THEN ': it is enabled, and a restore disables it' ELSE ': only a superuser dumps it' END
FROM pg_subscription CROSS JOIN pg_roles
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND rolname = current_user AND (subenabled OR NOT rolsuper)
UNION ALL
SELECT count(*) || ' tables and indexes are in the tablespace ' || spcname || ': a restore puts them into the default one'
FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
WHERE spcname <> 'pg_global' AND relpersistence <> 't' GROUP BY spcname
UNION ALL
SELECT 'the database is in the tablespace ' || spcname || ': a restore puts it into the default one'
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace
WHERE datname = current_database() AND spcname <> 'pg_default'
UNION ALL
SELECT 'the rows of ' || count(*) || ' unlogged tables: a standby has none' FROM pg_class c
WHERE relkind = 'r' AND relpersistence = 'u' AND pg_is_in_recovery() HAVING count(*) > 0
UNION ALL
SELECT 'the rows of ' || count(*) || ' foreign tables: they are on another server' FROM pg_class WHERE relkind = 'f'
HAVING count(*) > 0
UNION ALL
SELECT 'index ' || indexrelid::regclass || ': it is not valid, and pg_dump leaves it out' FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE relkind = 'i' AND relpersistence <> 't' AND NOT (indisvalid AND indisready)
UNION ALL
SELECT 'extension ' || extname || ': it belongs to ' || rolname || ', and after a restore to the role that restores'
FROM pg_extension JOIN pg_roles r ON r.oid = extowner WHERE NOT rolsuper
UNION ALL
SELECT 'the rows of ' || min(c.oid::regclass::text) || CASE WHEN count(*) > 1 THEN ' and ' || count(*) - 1 || ' more tables' ELSE '' END
  || ' of the extension ' || extname || ': it does not mark them as its configuration'
FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE relkind = 'r' AND relpersistence <> 't' AND pg_relation_size(c.oid) > 0 AND c.oid <> ALL(coalesce(extconfig, '{}')) GROUP BY extname
UNION ALL
SELECT min(o.name) || CASE WHEN count(*) > 1 THEN ' and ' || count(*) - 1 || ' more' ELSE '' END
  || ', made after the extension ' || extname || ' on its tables: a restore has only what the extension creates'
FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.oid > e.oid, LATERAL (
    SELECT 'index ' || indexrelid::regclass, xmin FROM pg_index WHERE indrelid = c.oid
    UNION ALL SELECT 'trigger ' || tgname || ' of ' || c.oid::regclass, xmin FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal
    UNION ALL SELECT 'rule ' || rulename || ' of ' || c.oid::regclass, xmin FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN'
    UNION ALL SELECT 'constraint ' || conname || ' of ' || c.oid::regclass, xmin FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('c', 'f')
    UNION ALL SELECT 'column ' || attname || ' of ' || c.oid::regclass, xmin FROM pg_attribute
      WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attacl IS NULL AND relkind IN ('r', 'p', 'f')
    UNION ALL SELECT 'publication ' || pubname || ' of ' || c.oid::regclass, r.xmin FROM pg_publication_rel r JOIN pg_publication p ON p.oid = prpubid
      WHERE prrelid = c.oid
  ) o (name, made)
WHERE made <> e.xmin AND made NOT IN (SELECT m.xmin FROM pg_depend m
  WHERE m.refclassid = 'pg_extension'::regclass AND m.refobjid = e.oid AND m.deptype = 'e') GROUP BY extname
UNION ALL
SELECT count(*) || ' objects in the schema ' || nspname || ', such as ' || min(name) FROM (
  SELECT 'pg_proc'::regclass AS class, oid, pronamespace AS schema, proname AS name FROM pg_proc
  UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace, oprname FROM pg_operator
  UNION ALL SELECT 'pg_type'::regclass, oid, typnamespace, typname FROM pg_type WHERE typelem = 0
  UNION ALL SELECT 'pg_class'::regclass, oid, relnamespace, relname FROM pg_class WHERE relkind <> 'i'
  UNION ALL SELECT 'pg_collation'::regclass, oid, collnamespace, collname FROM pg_collation
  UNION ALL SELECT 'pg_conversion'::regclass, oid, connamespace, conname FROM pg_conversion
  UNION ALL SELECT 'pg_opclass'::regclass, oid, opcnamespace, opcname FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfnamespace, opfname FROM pg_opfamily
  UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxnamespace, stxname FROM pg_statistic_ext
  UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgnamespace, cfgname FROM pg_ts_config
  UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictnamespace, dictname FROM pg_ts_dict
  UNION ALL SELECT 'pg_ts_parser'::regclass, oid, prsnamespace, prsname FROM pg_ts_parser
  UNION ALL SELECT 'pg_ts_template'::regclass, oid, tmplnamespace, tmplname FROM pg_ts_template
) o JOIN pg_namespace n ON n.oid = o.schema
WHERE o.oid >= 16384 AND nspname IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
GROUP BY nspname
UNION ALL
SELECT 'the mappings of the text search configuration pg_catalog.' || cfgname || ': they were changed; a restored database has the original ones'
FROM pg_ts_config c JOIN pg_ts_config_map m ON m.mapcfg = c.oid JOIN pg_ts_dict d ON d.oid = m.mapdict
WHERE c.oid < 16384 GROUP BY cfgname
HAVING count(*) <> 19 OR NOT bool_and(dictname = CASE WHEN maptokentype IN (1, 2, 10, 11, 16, 17) AND cfgname <> 'simple'
  THEN CASE WHEN dictname = 'english_stem' AND maptokentype IN (1, 11, 16) THEN dictname ELSE cfgname || '_stem' END
  ELSE 'simple' END)
UNION ALL
SELECT 'additions to built-in operator families, such as ' || min(opfname) || ': ' || count(*) FROM (
  SELECT 'pg_amop'::regclass AS class, oid, amopfamily AS family FROM pg_amop
  UNION ALL SELECT 'pg_amproc'::regclass, oid, amprocfamily FROM pg_amproc
) m JOIN pg_opfamily f ON f.oid = m.family
WHERE m.oid >= 16384 AND f.oid < 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = m.class AND d.objid = m.oid
                  AND (d.deptype = 'e' OR d.refclassid = 'pg_opclass'::regclass))
HAVING count(*) > 0
UNION ALL
SELECT 'the rights on ' || count(*) || ' row types, such as that of ' || min(typrelid::regclass::text)
FROM pg_type JOIN pg_class c ON c.oid = typrelid WHERE relkind <> 'c' AND relpersistence <> 't' AND typacl IS NOT NULL HAVING count(*) > 0
UNION ALL
SELECT 'the comments on ' || count(*) || ' inherited constraints and triggers, such as ' || min(name) FROM (
  SELECT tgname || ' of ' || tgrelid::regclass AS name FROM pg_trigger t JOIN pg_description d ON d.classoid = 'pg_trigger'::regclass
    AND d.objoid = t.oid WHERE tgparentid <> 0
  UNION ALL SELECT conname || ' of ' || conrelid::regclass FROM pg_constraint c JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass
    AND d.objoid = c.oid WHERE contype = 'c' AND NOT conislocal OR contype = 'f' AND conparentid <> 0
) o HAVING count(*) > 0
UNION ALL
SELECT 'the comments on ' || count(*) || ' row types, array types, multiranges, rules of views and constraint triggers, such as ' || min(name) FROM (
  SELECT format_type(t.oid, NULL) AS name FROM pg_type t JOIN pg_description d ON d.classoid = 'pg_type'::regclass AND d.objoid = t.oid
    LEFT JOIN pg_class c ON c.oid = typrelid
  WHERE t.oid >= 16384 AND (relkind <> 'c' OR typtype = 'm' OR EXISTS (SELECT FROM pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid))
  UNION ALL SELECT rulename || ' of ' || ev_class::regclass FROM pg_rewrite r JOIN pg_description d ON d.classoid = 'pg_rewrite'::regclass
    AND d.objoid = r.oid WHERE rulename = '_RETURN' AND r.oid >= 16384
  UNION ALL SELECT conname || ' of ' || conrelid::regclass FROM pg_constraint c JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass
    AND d.objoid = c.oid WHERE contype = 't'
) o HAVING count(*) > 0
UNION ALL
SELECT 'the validation of ' || count(*) || ' constraints of child tables, such as ' || min(conname || ' of ' || conrelid::regclass)
  || ': those of their parents are not valid'
FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
WHERE convalidated AND (contype = 'f' AND EXISTS (SELECT FROM pg_constraint p WHERE p.oid = c.conparentid AND NOT p.convalidated)
  OR contype IN ('c', 'n') AND NOT conislocal AND NOT relispartition AND EXISTS (SELECT FROM pg_inherits JOIN pg_constraint p ON p.conrelid = inhparent
    WHERE inhrelid = c.conrelid AND p.contype = c.contype AND p.conname = c.conname AND NOT p.convalidated)) HAVING count(*) > 0
UNION ALL
SELECT 'the statistics targets of ' || count(*) || ' expressions in exclusion constraints, such as ' || min(conname || ' of ' || conrelid::regclass)
FROM pg_constraint JOIN pg_attribute ON attrelid = conindid WHERE contype = 'x' AND attstattarget >= 0 HAVING count(*) > 0
UNION ALL
SELECT 'partition ' || inhrelid::regclass || ': it is being detached, and a restore attaches it' FROM pg_inherits i
WHERE to_jsonb(i) -> 'inhdetachpending' = 'true'
UNION ALL
SELECT 'function ' || min(p.oid::regproc::text) || ': a restore creates it with the name of its type, ' || t.oid::regtype
FROM pg_proc p JOIN pg_type t ON t.oid = prorettype
WHERE p.oid >= 16384 AND prosrc ~ '^(multi)?range_constructor[0-3]$' AND proname <> typname GROUP BY t.oid
UNION ALL
SELECT 'the changes of ' || count(*) || ' prepared transactions, such as ' || min(gid) || ': they are not committed'
FROM pg_prepared_xacts WHERE database = current_database() HAVING count(*) > 0
UNION ALL
SELECT 'replication origin ' || roname || ': a restored server has none' FROM pg_replication_origin WHERE roname !~ '^pg_[0-9]+(_[0-9]+)?$'
UNION ALL
SELECT 'logical replication slot ' || slot_name || ': a restored database has none' FROM pg_replication_slots
WHERE database = current_database() AND NOT temporary
UNION ALL
SELECT 'the settings of all roles (ALTER ROLE ALL SET): ' || string_agg(split_part(setting, '=', 1), ', ' ORDER BY setting)
FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting WHERE setdatabase = 0 AND setrole = 0 HAVING count(*) > 0
UNION ALL
SELECT 'the triggers of ' || count(DISTINCT tgconstraint) || ' constraints are disabled: a restore enables them'
FROM pg_trigger WHERE tgisinternal AND tgconstraint <> 0 AND tgenabled <> 'O' HAVING count(*) > 0
"""
# Roles that own something here, were granted something here or have settings here. Also the roles on both sides of their
# memberships, from which they inherit rights or to which they give them: the application may log in as a member of the owner.
_ROLES = """
WITH RECURSIVE own AS (SELECT oid FROM pg_database WHERE datname = current_database()), needed AS (
  SELECT refobjid AS role FROM pg_shdepend, own WHERE refclassid = 'pg_authid'::regclass
    AND (dbid = own.oid OR classid = 'pg_database'::regclass AND objid = own.oid)
  UNION SELECT setrole FROM pg_db_role_setting, own WHERE setdatabase = own.oid AND setrole <> 0
  UNION SELECT CASE WHEN m.member = needed.role THEN m.roleid ELSE m.member END
    FROM needed JOIN pg_auth_members m ON needed.role IN (m.member, m.roleid) AND m.roleid >= 16384)
SELECT DISTINCT rolname FROM pg_roles JOIN needed ON role = oid ORDER BY 1
"""
_OWNERS = """
SELECT DISTINCT pg_get_userbyid(owner) FROM (
  SELECT 'pg_class'::regclass, oid, relowner FROM pg_class WHERE relpersistence <> 't' AND relnamespace <> 'pg_toast'::regnamespace
  UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
  UNION ALL SELECT 'pg_type'::regclass, oid, typowner FROM pg_type
  UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace WHERE nspname !~ '^pg_'
) o (class, oid, owner)
WHERE oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = o.oid AND d.deptype = 'e')
UNION SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database() ORDER BY 1
"""
# Tables that were rewritten or emptied since the snapshot of the transaction: the catalogue's row is as of the snapshot, the
# function's result is as of now.
_REWRITTEN = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY(%s) AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode ORDER BY 1
"""
# Operators that are not built in, by the object whose expressions use them, and how often. Functions and types are printed
# with their schema, and are compared as text; some forms (CASE, NULLIF, IS DISTINCT FROM, IN, USING) do not print their operator.
# Not included are constraints that a partition has from its parent, whose names a restore chooses, and temporary objects.
_EXPRESSIONS = rf"""
WITH used AS (
  SELECT o.type || ' ' || o.identity AS object, r.identity AS operator,
    (SELECT count(*) FROM regexp_matches({nested_types.TREE}, format(':(?:opno|opnos \(o[0-9 ]*|eqop|sortop) %s(?![0-9])', d.refobjid), 'g')) AS times
  FROM pg_depend d
    LEFT JOIN pg_rewrite w ON d.classid = 'pg_rewrite'::regclass AND w.oid = d.objid,
    pg_identify_object(d.classid, d.objid, 0) o, pg_identify_object(d.refclassid, d.refobjid, 0) r
  WHERE d.refclassid = 'pg_operator'::regclass AND d.refobjid >= 16384 AND d.deptype IN ('n', 'a')
    AND d.classid NOT IN ('pg_operator'::regclass, 'pg_amop'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass)
    AND NOT (d.classid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint WHERE oid = d.objid AND conparentid <> 0))
    AND o.identity !~ '(^| )pg_temp(_[0-9]+)?[.]'
    AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND e.objid = coalesce(w.ev_class, d.objid)
                    AND e.classid = CASE WHEN w.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END))
SELECT object, array_agg(operator ORDER BY operator), array_agg(times ORDER BY operator)
FROM (SELECT object, operator, sum(times)::int AS times FROM used GROUP BY 1, 2) each_one
GROUP BY 1 ORDER BY 1
"""
_LOCKS = """
SELECT current_setting('max_locks_per_transaction')::bigint
  * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)
"""
BATCH = 25
SEQUENCES_AT_ONCE = 250
SEQUENCE_TRIES = 3
# The sequences in the view pg_sequences, which itself would read the values of all of them.
_SEQUENCES = """
SELECT c.oid::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND NOT pg_is_other_temp_schema(n.oid) ORDER BY 1
"""
_LAST_VALUES = """
SELECT n.nspname || '.' || c.relname,
  CASE WHEN has_sequence_privilege(c.oid, 'SELECT,USAGE') THEN pg_sequence_last_value(c.oid) END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%s)
"""
# The number of locks that pg_dump takes, plus a tenth for its indexes and our own.
_NEEDED_LOCKS = """
SELECT count(*) * 11 / 10 + 100 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = ANY(%s) AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
# From this version on, pg_dump reads the values of all sequences at once, without keeping their locks.
SEQUENCES_UNLOCKED = 18

# Every role may call it, unless that privilege was revoked.
_IDENTIFIER = """
CASE WHEN has_function_privilege('pg_control_system()', 'EXECUTE')
THEN (SELECT system_identifier::text FROM pg_control_system()) ELSE '' END
"""

Name = tuple[str, str]


def server(connection: Connection[TupleRow]) -> Server:
    """The server's version and the database's encoding and locale."""
    number = connection.info.server_version
    # The provider has its own columns since 15, and one name for its locale since 17.
    provider = "datlocprovider::text" if number >= 150000 else "'c'"
    locale = "datlocale" if number >= 170000 else "daticulocale" if number >= 150000 else "NULL"
    rules = "daticurules" if number >= 160000 else "NULL"
    sorting = "pg_database_collation_actual_version(oid)" if number >= 150000 else "NULL"
    row = connection.execute(
        f"SELECT current_setting('server_version'), pg_encoding_to_char(encoding), datcollate, datctype,"
        f" {provider}, {locale}, (SELECT rolname FROM pg_roles WHERE oid = 10), oid::bigint, {_IDENTIFIER},"
        f" pg_is_in_recovery(), {rules}, {sorting} FROM pg_database WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return Server(
        version=row[0].split()[0],
        version_number=number,
        encoding=row[1],
        collate=row[2],
        ctype=row[3],
        locale_provider=row[4],
        locale=row[5],
        collation_rules=row[10],
        collation_version=row[11] or "",
        superuser=row[6],
        database_oid=row[7],
        system_identifier=row[8],
        standby=row[9],
        roles_encoding=row[1],
    )


def system_identifier(connection: Connection[TupleRow]) -> str:
    """The identifier of this cluster; empty if the role may not read it."""
    row = connection.execute(f"SELECT {_IDENTIFIER}").fetchone()
    return str(row[0]) if row else ""


def clock(connection: Connection[TupleRow]) -> datetime:
    """The server's clock."""
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment


def tables(connection: Connection[TupleRow]) -> dict[Name, int]:
    """Names of the tables whose rows are dumped, with their OIDs."""
    return {(row[0], row[1]): row[2] for row in connection.execute(_DUMPED)}


def unreadable(connection: Connection[TupleRow], left_out: Collection[int] = ()) -> list[tuple[str, str]]:
    """The objects that pg_dump may not read, or would refuse to dump: kind and name.

    Args:
        left_out: object IDs of tables that are not dumped.
    """
    wanted = [oid for oid in tables(connection).values() if oid not in left_out]
    found = connection.execute(_UNREADABLE, {"tables": wanted, "left_out": list(left_out)})
    return [(row[0], row[1]) for row in found]


def revoked(connection: Connection[TupleRow]) -> list[tuple[str, str]]:
    """Privileges that every role has unless they were revoked, and a dump needs: the privilege, and on what."""
    return [(row[0], row[1]) for row in connection.execute(_REVOKED)]


def locked(connection: Connection[TupleRow], left_out: Collection[int] = ()) -> list[tuple[str, str, bool]]:
    """What a dump would wait for: each relation that is locked exclusively, by whom, and whether that is a prepared transaction.

    Args:
        left_out: object IDs of tables that are not dumped.
    """
    found = connection.execute(_LOCKED, [list(left_out)])
    return [(row[0], row[1], row[2]) for row in found]


def acting_as(connection: Connection[TupleRow]) -> str:
    """The role that the role which logged in is set to act as; empty if there is none."""
    row = connection.execute(_ACTING_AS).fetchone()
    return str(row[0]) if row else ""


def too_few_connections(connection: Connection[TupleRow]) -> list[tuple[str, int]]:
    """The role or database whose connection limit is below what a run needs."""
    return [(row[0], row[1]) for row in connection.execute(_CONNECTIONS) if row[1] < CONNECTIONS]


def left_out(connection: Connection[TupleRow]) -> tuple[str, ...]:
    """What a backup by this role leaves out, or a restore does not bring back unchanged; one line each."""
    return (*(row[0] for row in connection.execute(_LEFT_OUT)), *nested_types.misplaced(connection))


def lock(connection: Connection[TupleRow], names: list[Name]) -> None:
    """Take the weakest lock on tables. It blocks TRUNCATE and ALTER, against which a snapshot does not protect."""
    for start in range(0, len(names), 200):
        check_cancelled()
        batch = sql.SQL(", ").join(sql.Identifier(*name) for name in names[start : start + 200])
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(batch))


def lockable(connection: Connection[TupleRow], tables: int) -> bool:
    """Whether the server's lock table has room for two locks on each table, with half of it left for others."""
    row = connection.execute(_LOCKS).fetchone()
    return row is not None and tables <= row[0] // 4


def locks_to_set(connection: Connection[TupleRow], major: int) -> tuple[int, int, int] | None:
    """The locks that a dump takes, those that the server has room for, and the setting to raise; None if they suffice.

    Args:
        major: version of pg_dump.
    """
    locked = ["r", "p", *(["S"] if major < SEQUENCES_UNLOCKED else [])]
    row = connection.execute(
        f"SELECT ({_NEEDED_LOCKS}), ({_LOCKS}), current_setting('max_locks_per_transaction')::bigint",
        [locked],
    ).fetchone()
    assert row is not None
    needed, room, setting = row
    if needed <= room:
        return None
    # In steps of the default.
    return needed, room, -(-needed * setting // room // 64) * 64


def rewritten(connection: Connection[TupleRow], tables: Iterable[int]) -> list[str]:
    """Tables by their object ids that were rewritten, emptied or dropped since the snapshot of this transaction."""
    return [row[0] for row in connection.execute(_REWRITTEN, [list(tables)])]


def count(connection: Connection[TupleRow], names: Sequence[Name]) -> tuple[Table, ...]:
    """Tables with their exact numbers of rows; inheritance children count separately.

    Within a transaction, a failed attempt is rolled back to a savepoint, so that the snapshot survives.
    """
    return tuple(
        table
        for start in range(0, len(names), BATCH)
        for table in _counted(connection, names[start : start + BATCH])
    )


def _counted(connection: Connection[TupleRow], names: Sequence[Name]) -> list[Table]:
    check_cancelled()
    try:
        rows = _rows(connection, names, "pg_catalog")
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error:
        if connection.broken:
            raise
        connection.execute("ROLLBACK TO SAVEPOINT counting")
        rows = [_difficult(connection, name) for name in names]
    return [Table(schema=name[0], name=name[1], rows=found) for name, found in zip(names, rows, strict=True)]


def _difficult(connection: Connection[TupleRow], name: Name) -> int:
    """Count a table that cannot be counted in the usual way: its indexes may name objects that only the search path finds.

    COPY comes last: it involves no planner, and a dump reads in the same way.
    """
    for path in ("pg_catalog", "DEFAULT"):
        try:
            return _rows(connection, [name], path)[0]
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error:
            if connection.broken:
                raise
            connection.execute("ROLLBACK TO SAVEPOINT counting")
    with connection.cursor() as cursor, cursor.copy(_COPY.format(sql.Identifier(*name))) as rows:
        return sum(bytes(piece).count(b"\n") for piece in rows)


_COPY = sql.SQL("COPY {} TO STDOUT")


def _rows(connection: Connection[TupleRow], names: Sequence[Name], path: str) -> list[int]:
    """Lock in one message: locks that are not kept for the whole transaction end with it."""
    counts = sql.SQL(", ").join(
        sql.SQL("(SELECT count(*) FROM ONLY {})").format(sql.Identifier(*name)) for name in names
    )
    query = sql.SQL(
        "SAVEPOINT counting; SET LOCAL search_path TO {}; SELECT ARRAY[{}]; ROLLBACK TO SAVEPOINT counting"
    ).format(sql.SQL(path), counts)
    cursor = connection.execute(query)
    cursor.nextset()
    cursor.nextset()
    row = cursor.fetchone()
    assert row is not None
    return list(row[0])


def sequences(connection: Connection[TupleRow]) -> tuple[Position, ...]:
    """Every sequence and the last value it gave out. Call it outside a transaction.

    Reading a value locks its sequence until the end of the transaction, even if a savepoint is rolled back. So each batch
    is read in a separate transaction; values do not belong to a snapshot anyway.
    """
    oids = [row[0] for row in _alone(connection, _SEQUENCES, [])]
    found: list[Position] = []
    for start in range(0, len(oids), SEQUENCES_AT_ONCE):
        check_cancelled()
        batch = oids[start : start + SEQUENCES_AT_ONCE]
        found += [Position(name=row[0], last_value=row[1]) for row in _last_values(connection, batch)]
    return tuple(sorted(found, key=lambda each: each.name))


def _last_values(connection: Connection[TupleRow], oids: list[int]) -> list[TupleRow]:
    """Retry if a sequence was dropped between listing and reading."""
    for left in reversed(range(SEQUENCE_TRIES)):
        try:
            return _alone(connection, _LAST_VALUES, [oids])
        except psycopg.errors.InternalError:
            if not left:
                raise
    return []


def _alone(connection: Connection[TupleRow], query: LiteralString, values: list[object]) -> list[TupleRow]:
    with connection.transaction():
        connection.execute("SET LOCAL search_path TO pg_catalog")
        return connection.execute(query, values).fetchall()


def only_advancing(connection: Connection[TupleRow]) -> set[str]:
    """Sequences that only increase."""
    rows = connection.execute(
        "SELECT schemaname || '.' || sequencename FROM pg_sequences WHERE increment_by > 0 AND NOT cycle"
    )
    return {row[0] for row in rows}


def extensions(connection: Connection[TupleRow]) -> tuple[Extension, ...]:
    rows = connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall()
    return tuple(Extension(name=row[0], version=row[1]) for row in rows)


def expressions(connection: Connection[TupleRow]) -> tuple[Expression, ...]:
    """Objects whose expressions use operators that are not built in."""
    return tuple(
        Expression(object=row[0], operators=row[1], times=row[2]) for row in connection.execute(_EXPRESSIONS)
    )


def roles(connection: Connection[TupleRow]) -> tuple[str, ...]:
    """Roles that own something in this database or have privileges on it."""
    return tuple(row[0] for row in connection.execute(_ROLES))


def owners(connection: Connection[TupleRow]) -> tuple[str, ...]:
    """Roles to which a restore gives this database and its objects; what belongs to an extension is not among them."""
    return tuple(row[0] for row in connection.execute(_OWNERS))


def size(connection: Connection[TupleRow]) -> int:
    """Bytes on the server's disk."""
    row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])
