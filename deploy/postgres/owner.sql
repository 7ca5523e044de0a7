-- Gives this database, and everything in it that posthub_admin owns, to the app's role. Objects of an extension stay with
-- the extension's owner. It changes nothing if nothing is left to do.
SET lock_timeout = '5s';
SELECT format('ALTER DATABASE %I OWNER TO posthub', datname)
FROM pg_database WHERE datname = current_database() AND datdba = 'posthub_admin'::regrole
\gexec

-- Schemas first; then tables, views and sequences (a sequence of a column follows its table); then types, whose arrays and
-- rows follow; then functions, statistics and large objects.
WITH ours AS (SELECT 'posthub_admin'::regrole::oid AS admin),
member AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
found AS (
  SELECT 1 AS place, oid, 'pg_namespace'::regclass AS class, format('SCHEMA %I', nspname) AS what
  FROM pg_namespace, ours
  WHERE nspowner = admin AND nspname !~ '^pg_' AND nspname <> 'information_schema'
  UNION ALL
  SELECT 2, c.oid, 'pg_class'::regclass, format('%s %s',
    CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
      WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, format('%I.%I', nspname, relname))
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, ours
  WHERE relowner = admin AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
    AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
      AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') AND relkind = 'S')
  UNION ALL
  SELECT 3, t.oid, 'pg_type'::regclass, format('%s %I.%I', CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, nspname, typname)
  FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace, ours
  WHERE typowner = admin AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND (typtype IN ('d', 'e', 'r')
      OR (typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND relkind = 'c')))
  UNION ALL
  SELECT 4, p.oid, 'pg_proc'::regclass, format('ROUTINE %I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid))
  FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace, ours
  WHERE proowner = admin AND nspname !~ '^pg_' AND nspname <> 'information_schema'
    -- Of a range type, they belong to the type.
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
  UNION ALL
  SELECT 5, s.oid, 'pg_statistic_ext'::regclass, format('STATISTICS %I.%I', nspname, stxname)
  FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace, ours
  WHERE stxowner = admin
  UNION ALL
  SELECT 6, oid, 'pg_largeobject_metadata'::regclass, format('LARGE OBJECT %s', oid)
  FROM pg_largeobject_metadata, ours WHERE lomowner = admin
)
SELECT format('ALTER %s OWNER TO posthub', what)
FROM found
WHERE NOT EXISTS (SELECT FROM member WHERE member.classid = found.class AND member.objid = found.oid)
ORDER BY place, what
\gexec
RESET lock_timeout;
