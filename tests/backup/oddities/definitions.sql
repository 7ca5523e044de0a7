-- * checks with lists on varchar, char, name and domains
CREATE DOMAIN d AS varchar(10); CREATE TABLE t (a varchar(10) CHECK (a IN ('a', 'it''s', NULL)), b char(3) CHECK (b IN ('x', 'y')), c name CHECK (c IN ('a', 'b')), e d CHECK (e IN ('a', 'b')), f text CHECK (f NOT IN ('a', E'b\nc', '[x]'))); INSERT INTO t VALUES ('a', 'x', 'b', 'a', 'z');
-- * checks with lists of numbers of all kinds
CREATE TABLE t (a numeric CHECK (a = ANY (ARRAY[0, 10, 21])), b float8 CHECK (b = ANY (ARRAY[0, 10])), c real CHECK (c = ANY (ARRAY[1.5, 2])), d bigint CHECK (d IN (1, 2, 3000000000)), e smallint CHECK (e IN (1, 2)), f money CHECK (f IN ('1', '2')), g oid CHECK (g IN (1, 2)));
-- * checks with lists of addresses, classes, bits and moments
CREATE TABLE t (a cidr CHECK (a IN ('10.0.0.0/8', '10.1.0.0/16')), b inet CHECK (b IN ('10.0.0.1', '::1')), c regclass CHECK (c IN ('pg_class', 'pg_type')), d bit(3) CHECK (d IN (B'101', B'111')), e date CHECK (e IN ('2026-01-01', 'infinity')), f timestamptz CHECK (f IN ('2026-01-01Z')), g interval CHECK (g IN ('1 day', '1 mon')), h varbit CHECK (h IN (B'1', B'0')));
-- * arrays that overlap others of another type
CREATE TABLE t (a text[] CHECK (a && (ARRAY['a', 'b']::varchar[])::text[]), b varchar[] CHECK (b @> ARRAY['a']::varchar[]), c bigint[] CHECK (c && ARRAY[1, 2]::bigint[]), d int CHECK (ARRAY[d, d + 1] <@ ARRAY[1, 2, 3]), e text[][] CHECK (e <> (ARRAY[ARRAY['a', 'b'], ARRAY['c', 'd']]::varchar[])::text[]));
-- * functions that take arrays of a wider type
CREATE FUNCTION f(bigint[]) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE FUNCTION g(VARIADIC numeric[]) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'; CREATE TABLE t (a int CHECK (f(ARRAY[a, 1])), b int CHECK (g(b, 1, 2.5)), CHECK (g(VARIADIC ARRAY[a, b]))); CREATE VIEW v AS SELECT f(ARRAY[1, 2]) AS x, g(1, 2) AS y FROM t;
-- * constraints that are deferrable, not valid, without overlap
CREATE TABLE p (a int PRIMARY KEY, b int UNIQUE DEFERRABLE INITIALLY DEFERRED); CREATE TABLE t (a int, b int, r int4range, EXCLUDE USING gist (r WITH &&) WHERE (b > 0) DEFERRABLE); INSERT INTO t VALUES (-1, 7, '[1,2)'); ALTER TABLE t ADD CONSTRAINT later CHECK (a > 0) NOT VALID, ADD CONSTRAINT f FOREIGN KEY (b) REFERENCES p NOT VALID, ADD CONSTRAINT g FOREIGN KEY (a) REFERENCES p MATCH FULL ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED NOT VALID;
-- * tables that refer to each other, and a row to itself
CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a); ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED; ALTER TABLE a ADD up int REFERENCES a; BEGIN; INSERT INTO a VALUES (1, 1, 1); INSERT INTO b VALUES (1, 1); COMMIT;
-- * unique with nulls not distinct, including and partial
CREATE TABLE t (a int, b int, c text, UNIQUE NULLS NOT DISTINCT (a, b) INCLUDE (c)); CREATE UNIQUE INDEX i ON t (a) INCLUDE (c) WHERE b IS NOT NULL AND c IN ('x', 'y'); ALTER TABLE t ADD CONSTRAINT k UNIQUE (b) WITH (fillfactor = 50);
-- * constraints of PostgreSQL 18
DO $$ BEGIN IF current_setting('server_version_num')::int >= 180000 THEN
  EXECUTE 'CREATE TABLE t (a int4range, b daterange, c int NOT NULL NO INHERIT, d int, e int, PRIMARY KEY (a, b WITHOUT OVERLAPS), CONSTRAINT soft CHECK (d > 0) NOT ENFORCED, CONSTRAINT "N N" NOT NULL d)'; EXECUTE 'INSERT INTO t VALUES (''[1,2)'', ''[2026-01-01,2026-02-01)'', 1, -1, NULL)'; EXECUTE 'ALTER TABLE t ADD CONSTRAINT nn NOT NULL e NOT VALID'; EXECUTE 'CREATE TABLE u (a int4range, b daterange, FOREIGN KEY (a, PERIOD b) REFERENCES t)';
END IF; END $$;
-- * indexes of every method, order and operator class
CREATE TABLE t (a text, b int, c int[], d tsvector, e point, f inet, g jsonb, h int4range); CREATE INDEX ON t (a text_pattern_ops DESC NULLS LAST, b ASC NULLS FIRST); CREATE INDEX ON t USING hash (a); CREATE INDEX ON t USING gin (c) WITH (fastupdate = off); CREATE INDEX ON t USING gin (g jsonb_path_ops); CREATE INDEX ON t USING gist (d tsvector_ops (siglen = 100)); CREATE INDEX ON t USING gist (e, h); CREATE INDEX ON t USING spgist (f); CREATE INDEX ON t USING brin (b int4_minmax_multi_ops (values_per_range = 16)) WITH (pages_per_range = 4, autosummarize = on); CREATE INDEX ON t ((lower(a) || 'x'), (b % 3)) WITH (deduplicate_items = off); CREATE INDEX ON t (a COLLATE "C", a COLLATE "POSIX");
-- * indexes whose predicate and expressions hold lists, cases and strings of two lines
CREATE TABLE t (a varchar(9), b int); CREATE INDEX ON t ((CASE WHEN a IN ('x', 'y') THEN 'two
lines' ELSE a END)) WHERE a IN ('x', E'p\n--q') AND b = ANY ('{1,2}'); CREATE INDEX ON t ((ROW(a, b) IS NOT NULL)); CREATE INDEX ON t ((b IN (1, 2)), (a LIKE 'x%' ESCAPE '!'));
-- * an index with statistics of a column, invisible names and a comment
CREATE TABLE t (a int); CREATE INDEX "I; x" ON t ((a + 1)); ALTER INDEX "I; x" ALTER COLUMN 1 SET STATISTICS 7; COMMENT ON INDEX "I; x" IS 'two
lines';
-- * an index that could not be built
CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1);
-- * extended statistics of all kinds, with lists
CREATE TABLE t (a varchar(9), b int, c text); CREATE STATISTICS s1 (ndistinct, dependencies) ON a, b FROM t; CREATE STATISTICS s2 (mcv) ON (a IN ('x', 'y')), b FROM t; CREATE STATISTICS s3 ON (lower(c)), (b % 3) FROM t; ALTER STATISTICS s3 SET STATISTICS 7; COMMENT ON STATISTICS s1 IS 'x';
-- * views of lists, cases, rows, windows, groupings, lateral joins
CREATE TABLE t (a varchar(9), b int, c timestamptz, d int[]); CREATE VIEW v1 AS SELECT CASE WHEN a IN ('a', 'b') THEN 1 ELSE 2 END AS x, (a, b) IN (('x', 1), ('y', 2)) AS y, b BETWEEN SYMMETRIC 2 AND 1 AS z, a || ' -- x' AS "A;" FROM t WHERE a NOT IN ('x', 'y') OR b <> ALL (ARRAY[1, 2]);
CREATE VIEW v2 AS SELECT a, count(*) FILTER (WHERE b IN (1, 2)) AS n, grouping(a) AS g, percentile_cont(0.5) WITHIN GROUP (ORDER BY b) AS p, string_agg(a, ',' ORDER BY b DESC NULLS LAST) AS s FROM t GROUP BY GROUPING SETS ((a), ()), CUBE (a) HAVING count(*) > 0;
CREATE VIEW v3 AS SELECT sum(b) OVER w AS s, lag(b, 2, 0) OVER (w ROWS BETWEEN 1 PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE TIES) AS l FROM t WINDOW w AS (PARTITION BY a ORDER BY c); CREATE VIEW v4 AS SELECT t.b, x.n, o FROM t, LATERAL (SELECT count(*) AS n FROM t u WHERE u.b = t.b) x, unnest(t.d) WITH ORDINALITY AS e(val, o), ROWS FROM (generate_series(1, 2), generate_series(1, 3)) AS r(p, q);
-- * views that are recursive, of values, of unions and of other views
CREATE RECURSIVE VIEW r (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM r WHERE n < 5; CREATE VIEW u AS (SELECT 1 AS a UNION SELECT 2 EXCEPT SELECT 3) ORDER BY 1 LIMIT 2 OFFSET 1; CREATE VIEW w AS WITH x AS MATERIALIZED (SELECT n FROM r), y AS NOT MATERIALIZED (SELECT a FROM u) SELECT * FROM x, y; CREATE VIEW z AS TABLE w;
-- * views with options, that can be written to, with a default
CREATE TABLE t (a int, b text); CREATE VIEW v WITH (security_barrier, security_invoker = on, check_option = cascaded) AS SELECT a, b FROM t WHERE a > 0; ALTER VIEW v ALTER b SET DEFAULT 'x'; CREATE VIEW l AS SELECT * FROM v WHERE b <> '' WITH LOCAL CHECK OPTION; COMMENT ON COLUMN v.a IS 'x';
-- * a view on a table whose column was renamed, dropped and added since
CREATE TABLE t (a int, b text, c int); CREATE VIEW v AS SELECT t.*, t AS whole, a AS x FROM t; ALTER TABLE t RENAME a TO z; ALTER TABLE t ADD d int; CREATE VIEW w AS SELECT * FROM t NATURAL JOIN (SELECT 1 AS z) q; CREATE VIEW x AS SELECT z, a.b AS p, c.d AS q FROM t a JOIN t b USING (z) JOIN t c USING (z);
-- * views that need each other
CREATE VIEW a AS SELECT 1 AS x; CREATE VIEW b AS SELECT x FROM a; CREATE OR REPLACE VIEW a AS SELECT 1 AS x; CREATE TABLE t (id int PRIMARY KEY, v text); CREATE VIEW g AS SELECT id, v, count(*) AS n FROM t GROUP BY id;
-- * a view of casts, collations, time zones, extracts and operators by name
CREATE TABLE t (a text, b timestamptz, c interval, d jsonb, e xml, f numeric); CREATE VIEW v AS SELECT a COLLATE "C" AS a, b AT TIME ZONE 'Europe/Prague' AS b, extract(epoch FROM c) AS c, date_trunc('day', b) AS g, d #>> '{a,b}' AS d, d ? 'x' AS q, 1 OPERATOR(pg_catalog.+) 2 AS o, f::numeric(5,2)::text AS f, '2026-01-01'::date + 1 AS h, substring(a FROM 2 FOR 3) AS s, trim(BOTH 'x' FROM a) AS tr, overlay(a PLACING 'y' FROM 1) AS ov, position('a' IN a) AS po, a IS DISTINCT FROM 'x' AS di, nullif(a, '') AS nu, greatest(a, 'x') AS gr, a SIMILAR TO 'x%' AS si, (b, b) OVERLAPS (b, c) AS ol, CAST(NULL AS text[]) AS nn, -(-1) AS mm, current_catalog AS cc, a ~~* 'x' AS il FROM t;
-- * a view of json functions of SQL
DO $$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN
  EXECUTE $v$CREATE VIEW v AS SELECT x.*, JSON_VALUE(j, '$.a' RETURNING int DEFAULT 0 ON EMPTY) AS e, JSON_EXISTS(j, '$.b') AS f, JSON_OBJECT('k': 1 ABSENT ON NULL) AS g, j IS JSON OBJECT AS h FROM (SELECT '{"a": 1}'::jsonb AS j) s, JSON_TABLE(j, '$' COLUMNS (id FOR ORDINALITY, a int PATH '$.a', NESTED PATH '$.n[*]' COLUMNS (m text PATH '$'))) x$v$;
END IF; END $$;
-- * materialised views on each other, without data, with indexes and options
CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i; CREATE MATERIALIZED VIEW a WITH (fillfactor = 50) AS SELECT i % 10 AS d, count(*) AS n FROM t GROUP BY 1; CREATE MATERIALIZED VIEW b AS SELECT sum(n) AS s FROM a; CREATE MATERIALIZED VIEW never AS SELECT 1 AS x WITH NO DATA; CREATE UNIQUE INDEX ON a (d) WHERE d IN (1, 2); CREATE VIEW v AS SELECT * FROM b; CREATE MATERIALIZED VIEW c AS SELECT * FROM v; COMMENT ON MATERIALIZED VIEW a IS 'x'; ALTER MATERIALIZED VIEW a ALTER d SET STATISTICS 3;
-- * functions of every language and kind of body
CREATE FUNCTION a(int, OUT x int, INOUT y text DEFAULT 'a''b', VARIADIC z numeric[] DEFAULT ARRAY[1, 2]) LANGUAGE plpgsql AS $x$ BEGIN -- $$ ; '
 x := $1; END $x$; CREATE FUNCTION b() RETURNS TABLE (p int, q text[]) LANGUAGE sql STABLE ROWS 7 COST 3 PARALLEL SAFE LEAKPROOF AS $$ SELECT 1, ARRAY['x'] $$; CREATE FUNCTION c(x int) RETURNS int LANGUAGE sql IMMUTABLE RETURN CASE WHEN x IN (1, 2) THEN x ELSE 0 END; CREATE FUNCTION d(x varchar) RETURNS bool LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT x IN ('a', 'b;'); END; CREATE FUNCTION e() RETURNS SETOF record LANGUAGE internal AS 'pg_lock_status'; CREATE FUNCTION f() RETURNS void LANGUAGE sql SET search_path = pg_catalog, "My Path", '' SET work_mem = '1MB' SECURITY DEFINER CALLED ON NULL INPUT AS '';
CREATE FUNCTION g(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE FUNCTION g(text) RETURNS int LANGUAGE sql AS 'SELECT 2'; CREATE FUNCTION g(VARIADIC int[]) RETURNS int LANGUAGE sql AS 'SELECT 3'; CREATE FUNCTION h(anyelement, anycompatiblearray) RETURNS anyelement LANGUAGE sql AS 'SELECT $1'; CREATE FUNCTION "odd; name"(" a b" int) RETURNS int LANGUAGE sql AS 'SELECT 1';
-- * function bodies that look like a dump
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $f$
--
-- Name: t; Type: TABLE; Schema: public; Owner: me
--

SELECT 'x'; /* COPY x FROM stdin;
\.
\connect postgres
SET default_tablespace = '';
*/ SELECT '$$'$f$; CREATE PROCEDURE p(INOUT a int, OUT b text) LANGUAGE plpgsql AS $$ BEGIN COMMIT; b := E'\\'; END $$; CREATE FUNCTION l() RETURNS text LANGUAGE sql AS E'SELECT 1;\r\n\r\n--';
-- * functions that need objects made after them
CREATE TABLE later (a int); CREATE FUNCTION f() RETURNS SETOF later LANGUAGE sql AS 'SELECT * FROM later'; CREATE FUNCTION g(later) RETURNS int LANGUAGE sql AS 'SELECT ($1).a'; CREATE VIEW v AS SELECT later.g FROM later; CREATE TABLE t (a int DEFAULT 1 CHECK (a > 0), b later); CREATE FUNCTION k(t) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE INDEX ON t (k(t.*));
-- * functions that call others without their schema
CREATE FUNCTION inner_one(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)'; CREATE FUNCTION outer_one(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN inner_one($1); END'; CREATE TABLE t (a text);
-- * aggregates of all kinds
CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'; CREATE AGGREGATE total(int) (SFUNC = plus, STYPE = int, INITCOND = '0', COMBINEFUNC = plus, PARALLEL = SAFE, MSFUNC = plus, MINVFUNC = plus, MSTYPE = int, MINITCOND = '1', SORTOP = <); CREATE AGGREGATE many(VARIADIC int[]) (SFUNC = array_cat, STYPE = int[]); CREATE AGGREGATE ordered(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA); COMMENT ON AGGREGATE total(int) IS 'x';
-- * triggers of all kinds
CREATE TABLE t (a varchar(9), b int); CREATE VIEW v AS SELECT * FROM t; CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER one BEFORE UPDATE OF b, a ON t FOR EACH ROW WHEN (OLD.a IN ('x', 'y') AND NEW.b IS DISTINCT FROM OLD.b) EXECUTE FUNCTION tr('a''b', '\x', E'two\nlines'); CREATE TRIGGER two AFTER INSERT ON t REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION tr(); CREATE CONSTRAINT TRIGGER three AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION tr(); CREATE TRIGGER four INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION tr(); ALTER TABLE t DISABLE TRIGGER one, ENABLE ALWAYS TRIGGER two, ENABLE REPLICA TRIGGER three; CREATE TRIGGER five BEFORE TRUNCATE ON t EXECUTE FUNCTION tr(); COMMENT ON TRIGGER one ON t IS 'x';
-- * a trigger that refuses every row, and rows that came before it
CREATE TABLE t (a int); INSERT INTO t VALUES (1); CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''never''; END'; CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no();
-- * rules of all kinds
CREATE TABLE t (a varchar(9), b int); CREATE TABLE l (a text, b text); CREATE VIEW v AS SELECT * FROM t; CREATE RULE i AS ON INSERT TO v DO INSTEAD INSERT INTO t VALUES (NEW.a, NEW.b) RETURNING t.*; CREATE RULE d AS ON DELETE TO t WHERE OLD.a IN ('x', 'y') DO ALSO (INSERT INTO l VALUES ('gone', E'k\n--m'); DELETE FROM l WHERE a = 'x'); CREATE RULE u AS ON UPDATE TO t WHERE NEW.b IN (1, 2) DO INSTEAD NOTHING; ALTER TABLE t DISABLE RULE d; COMMENT ON RULE u ON t IS 'x';
-- * policies of all kinds, forced
CREATE TABLE t (a varchar(9), who text); ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p1 ON t USING (who = current_user AND a IN ('x', 'y')) WITH CHECK (false); CREATE POLICY p2 ON t AS RESTRICTIVE FOR SELECT TO PUBLIC USING (a <> E'w\n--x'); CREATE POLICY p3 ON t FOR INSERT TO CURRENT_USER WITH CHECK (EXISTS (SELECT FROM t u WHERE u.a = t.a)); COMMENT ON POLICY p1 ON t IS 'x'; INSERT INTO t VALUES ('a', 'nobody'); CREATE TABLE off (a int); CREATE POLICY sleeping ON off USING (false);
-- * functions in checks over partitions, domains and generated columns
CREATE FUNCTION ok(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100'; CREATE DOMAIN small AS int CHECK (ok(VALUE)); CREATE TABLE t (a small CHECK (ok(a)), b bool GENERATED ALWAYS AS (ok(a)) STORED) PARTITION BY RANGE (a); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (50); INSERT INTO t VALUES (1);
