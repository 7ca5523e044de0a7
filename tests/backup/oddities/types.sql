-- * every built-in type of a column, with no row
DO $$ DECLARE t text; BEGIN
  FOR t IN SELECT format_type(oid, NULL) FROM pg_type WHERE typtype IN ('b', 'r', 'm') AND typnamespace = 'pg_catalog'::regnamespace
      AND typname !~ '^pg_(ddl|node|ndist|dep|mcv|brin)' AND typname NOT IN ('aclitem') AND typarray <> 0 LOOP
    EXECUTE format('CREATE TABLE %I (a %s, b %s[])', 'all ' || t, t, t);
    EXECUTE format('INSERT INTO %I VALUES (NULL, NULL), (NULL, ''{}''), (NULL, ''{NULL}'')', 'all ' || t);
  END LOOP;
END $$;
-- * extreme numbers
CREATE TABLE t (n numeric, s numeric(1000, 500), x numeric(3, -2), f float8, g real, i bigint);
INSERT INTO t VALUES ('NaN', '1e-400', 12345, '-0', '-0', -9223372036854775808),
  ('Infinity', '-1e400', -12345, '5e-324', '1.17549435e-38', 9223372036854775807),
  (repeat('9', 1500)::numeric, 0, 0, '-Infinity', 'NaN', 0), ('1e-16000', NULL, NULL, '1.7976931348623157e308', 3.4028235e38, 1);
-- * extreme moments
CREATE TABLE t (d date, ts timestamp, tz timestamptz, i interval, tm time, ttz timetz);
INSERT INTO t VALUES ('infinity', '-infinity', 'infinity', '178000000 years', '24:00', '24:00-15:59'),
  ('4713-01-01 BC', '4713-11-24 BC', '294276-12-31 23:59:59.999999+00', '-178000000 years', '00:00:00.000001', '00:00+15:59'),
  ('5874897-12-31', '0001-01-01', '2026-03-29 01:30Z', '1 mon -1 day 00:00:00.000001', '23:59:60', NULL);
-- * intervals of limited fields and precision
CREATE TABLE t (a interval year to month, b interval day to second(3), c interval hour, d timestamp(0), e timestamptz(3), f time(2), g interval(0));
INSERT INTO t VALUES ('1-2', '3 4:05:06.789', '7 hours', '2026-01-01 01:02:03.7', now(), '01:02:03.456', '1.6 s');
-- * texts of all kinds of characters
CREATE TABLE t (a text);
INSERT INTO t VALUES (E'\t\n\r\v\f\b\x01\x7f'), (E'\\.'), (E'\\N'), ('\N'), (''), (' '), (E'\u2028\u2029\u0085\ufeff'),
  ('😀🏳️‍🌈'), (E'a\u0301'), (repeat('x', 100000)), ('-- Name: x; Type: TABLE; Schema: public; Owner: me'), (E'COPY x FROM stdin;\n1\n\\.');
-- * bytes of all kinds
CREATE TABLE t (b bytea);
INSERT INTO t SELECT decode(string_agg(lpad(to_hex(i), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, 255) i;
INSERT INTO t VALUES (''), ('\x5c2e0a'), ('\x5c4e');
-- * padded characters, the one-byte type and names
CREATE TABLE t (a char(10), b char, c "char", d name, e varchar(3), f bpchar);
INSERT INTO t VALUES ('x', '', E'\\200', 'n', 'abc', 'no limit   '), (' ', 'y', '', repeat('n', 63), '', NULL);
-- * bits
CREATE TABLE t (a bit(3), b varbit, c bit varying(5) DEFAULT B'101'); INSERT INTO t VALUES (B'101', B'', B'10101'), (B'000', repeat('10', 500)::varbit, NULL);
-- * json that is not normalised
CREATE TABLE t (j json, b jsonb);
INSERT INTO t VALUES ('{"a" : 1,  "a": 2, "b":"\u00e9\n"}', '{"a": 1e400, "é": null, "": [1, {"x": "\\\""}]}'), ('  null', 'null'), ('"\\u0041"', '1.10'), ('[ ]', '[]');
-- * json paths, and functions over them
CREATE TABLE t (p jsonpath DEFAULT '$.a[*] ? (@ > 1 && @.b like_regex "^x" flag "i")', j jsonb CHECK (jsonb_path_exists(j, '$.a ? (@ == 1)')));
INSERT INTO t (p) VALUES ('strict $.**{2 to last}.type()'), (DEFAULT);
-- * xml of both kinds
CREATE TABLE t (x xml); DO $$ BEGIN EXECUTE 'INSERT INTO t VALUES (''<a b="1">é<!-- c --></a>''), (''just text''), ('''')'; EXECUTE 'CREATE VIEW v AS SELECT xmlelement(NAME y, x) AS e FROM t'; EXCEPTION WHEN feature_not_supported THEN NULL; END $$;
-- * addresses
CREATE TABLE t (a inet, b cidr, c macaddr, d macaddr8); INSERT INTO t VALUES ('::1/64', '::/0', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05'), ('10.1.2.3/8', '10.0.0.0/8', NULL, NULL);
-- * shapes
CREATE TABLE t (a point, b line, c lseg, d box, e path, f path, g polygon, h circle);
INSERT INTO t VALUES ('(1.1,-0)', '{1,2,3}', '[(0,0),(1,1e300)]', '((0,0),(1,1))', '[(0,0),(1,1)]', '((0,0),(1,1))', '((0,0),(1,0),(0,1))', '<(0,0),0.1>');
-- * ranges and multiranges, empty, infinite, of own types
CREATE TYPE floatrange AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = floats);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
CREATE TABLE t (a int4range, b int8multirange, c tstzrange, d floatrange, e floats, f textrange, g daterange);
INSERT INTO t VALUES ('empty', '{}', '(,)', '[0.1,)', '{[1,2),[3,4)}', '["a,b","c""d")', '[2026-01-01,infinity]'), ('[1,5]', '{[1,3),(5,)}', '[-infinity,infinity]', '(,0]', '{(,)}', '(,)', 'empty');
-- * arrays of arrays, with bounds, with nulls and quotes
CREATE TABLE t (a int[], b text[][], c point[], d int4range[], e bytea[], f jsonb[]);
INSERT INTO t VALUES ('[0:1]={1,2}', '{{"a,b","c\"d"},{NULL,"null"}}', '{"(1,2)"}', '{"[1,2)",empty}', ARRAY['\x00'::bytea, '\x5c'], ARRAY['{"a": "b,c"}'::jsonb, 'null']), ('[-1:0][2:3]={{1,2},{3,4}}', '{}', NULL, NULL, NULL, NULL);
-- * composites in composites, and arrays of them
CREATE TYPE inner_one AS (a int, b text, c numeric(5,2)); CREATE TYPE outer_one AS (i inner_one, many inner_one[], d date);
CREATE TABLE t (o outer_one, many outer_one[]);
INSERT INTO t VALUES (ROW(ROW(1, 'a,"b"', 1.5), ARRAY[ROW(2, NULL, 3)::inner_one, NULL], '2026-01-01'), ARRAY[ROW(NULL, '{}', NULL)::outer_one]), (ROW(NULL, NULL, NULL), '{}');
-- * a type that lost and won attributes
CREATE TYPE changed AS (a int, gone text, b int); ALTER TYPE changed DROP ATTRIBUTE gone; ALTER TYPE changed ADD ATTRIBUTE c text COLLATE "C"; ALTER TYPE changed RENAME ATTRIBUTE a TO z;
CREATE TABLE t OF changed; INSERT INTO t VALUES (1, 2, 'x');
-- * typed tables with options
CREATE TYPE row_type AS (a int, b text); CREATE TABLE t OF row_type (a PRIMARY KEY, b DEFAULT 'x' NOT NULL, CHECK (length(b) > 0)); INSERT INTO t (a) VALUES (1);
-- * an enumeration whose values were added in the middle and renamed
CREATE TYPE e AS ENUM ('b', 'd'); ALTER TYPE e ADD VALUE 'c' BEFORE 'd'; ALTER TYPE e ADD VALUE 'a' BEFORE 'b'; ALTER TYPE e RENAME VALUE 'd' TO 'it''s'; COMMIT;
CREATE TABLE t (a e DEFAULT 'a', b e[], CHECK (a < 'it''s')); INSERT INTO t VALUES ('c', '{a,"it''s"}');
-- * an enumeration without values, a composite without attributes
CREATE TYPE "none" AS ENUM (); CREATE TYPE nothing AS (); CREATE TABLE t (a "none", b nothing);
-- * domains over domains, arrays, composites and ranges
CREATE DOMAIN d1 AS int CHECK (VALUE > 0) CHECK (VALUE < 100); CREATE DOMAIN d2 AS d1 NOT NULL DEFAULT 5 CONSTRAINT odd CHECK (VALUE % 2 = 1);
CREATE DOMAIN d3 AS text[] CHECK (array_length(VALUE, 1) < 4); CREATE DOMAIN d4 AS int4range CHECK (NOT isempty(VALUE)); CREATE DOMAIN d5 AS text COLLATE "C" DEFAULT 'x'::text;
CREATE TYPE pair AS (a int, b int); CREATE DOMAIN d6 AS pair CHECK ((VALUE).a < (VALUE).b);
CREATE TABLE t (a d1, b d2, c d3, d d4, e d5, f d6, g d1[]); INSERT INTO t VALUES (1, 3, '{a,b}', '[1,2)', 'e', '(1,2)', '{1,NULL}');
-- * a domain whose check is not valid for old rows
CREATE DOMAIN d AS int; CREATE TABLE t (a d); INSERT INTO t VALUES (-1); ALTER DOMAIN d ADD CONSTRAINT positive CHECK (VALUE > 0) NOT VALID;
-- * a base type in SQL and its casts
CREATE TYPE own; CREATE FUNCTION own_in(cstring) RETURNS own LANGUAGE internal IMMUTABLE STRICT AS 'int4in'; CREATE FUNCTION own_out(own) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE own (INPUT = own_in, OUTPUT = own_out, LIKE = int4); CREATE CAST (own AS int) WITHOUT FUNCTION AS ASSIGNMENT; CREATE CAST (int AS own) WITHOUT FUNCTION; CREATE TABLE t (a own); INSERT INTO t VALUES ('7');
-- * text search values
CREATE TABLE t (v tsvector, q tsquery); INSERT INTO t VALUES (to_tsvector('simple', 'it''s a fat ''cat'''), to_tsquery('english', 'fat & !rat <2> cat:*A')), ('''a b'':1A,2B', ''), ('', 'a | (b & !c)');
-- * object identifiers as values
CREATE TABLE t (a regclass, b regtype, c regproc, d regconfig, e regcollation, f regnamespace, g oid, h regrole, i regoperator, j regprocedure);
INSERT INTO t VALUES ('pg_class', 'integer', 'now', 'simple', '"C"', 'pg_catalog', 4294967295, NULL, '+(integer,integer)', 'length(text)'), ('999999', '999999', '999999', '999999', '999999', '999999', 0, NULL, NULL, '0');
-- * money, uuids, identifiers of transactions and positions
CREATE TABLE t (m money, u uuid, x xid8, l pg_lsn, s pg_snapshot, t tid); INSERT INTO t VALUES (-12.34, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '18446744073709551615', 'FFFFFFFF/FFFFFFFF', '10:20:10,14', '(4294967295,65535)');
-- * vectors of all kinds
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public; CREATE TABLE t (a public.vector(3), b public.vector, c public.halfvec(2), d public.sparsevec(9), e bit(8));
INSERT INTO t VALUES ('[1,2,-0.1]', '[1e-30]', '[1,65504]', '{1:1,9:-2}/9', '10101010'); CREATE INDEX ON t USING hnsw (a public.vector_ip_ops); CREATE INDEX ON t USING hnsw ((b::public.vector(1)) public.vector_l2_ops); CREATE INDEX ON t USING hnsw (e public.bit_hamming_ops);
