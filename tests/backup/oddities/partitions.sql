-- * partitions of partitions, empty ones, default ones
CREATE TABLE m (at date, kind int) PARTITION BY RANGE (at); CREATE TABLE m_26 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (kind); CREATE TABLE m_26_1 PARTITION OF m_26 FOR VALUES IN (1, NULL); CREATE TABLE m_26_o PARTITION OF m_26 DEFAULT; CREATE TABLE m_rest PARTITION OF m DEFAULT; CREATE INDEX ON m (at); INSERT INTO m SELECT date '2025-06-01' + i, nullif(i % 3, 0) FROM generate_series(1, 400) i;
-- * by hash
CREATE TABLE h (id int, what text) PARTITION BY HASH (id); CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 4, REMAINDER 1); CREATE TABLE h3 PARTITION OF h FOR VALUES WITH (MODULUS 4, REMAINDER 3); INSERT INTO h SELECT i, 'x' FROM generate_series(1, 100) i;
-- * by hash of an enumeration, whose hash is another one after a restore
CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'f', 'g'); CREATE TABLE h (k e, n int) PARTITION BY HASH (k); CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 0); CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 1); CREATE TABLE h2 PARTITION OF h FOR VALUES WITH (MODULUS 3, REMAINDER 2); INSERT INTO h SELECT (enum_range(NULL::e))[1 + i % 6], i FROM generate_series(1, 60) i;
-- * below the one by hash of an enumeration, more partitions
CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'f'); CREATE TABLE h (k e, n int) PARTITION BY HASH (k); CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0) PARTITION BY RANGE (n); CREATE TABLE h0a PARTITION OF h0 FOR VALUES FROM (0) TO (30); CREATE TABLE h0b PARTITION OF h0 DEFAULT; CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO h SELECT (enum_range(NULL::e))[1 + i % 5], i FROM generate_series(1, 60) i;
-- * by several columns, with MINVALUE and MAXVALUE
CREATE TABLE m (a int, b text, c date) PARTITION BY RANGE (a, b, c); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (MINVALUE, MINVALUE, MINVALUE) TO (1, 'x', MAXVALUE); CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (1, 'x', MAXVALUE) TO (MAXVALUE, MAXVALUE, MAXVALUE); INSERT INTO m VALUES (0, 'a', '2026-01-01'), (5, 'b', '2026-01-01');
-- * by an expression and with a collation and an operator class
CREATE TABLE m (a text, b int) PARTITION BY LIST (lower(a) COLLATE "C"); CREATE TABLE m1 PARTITION OF m FOR VALUES IN ('x', 'it''s', E'a\nb'); CREATE TABLE m2 PARTITION OF m DEFAULT; INSERT INTO m VALUES ('X', 1), ('q', 2);
-- * columns of a partition in a different order than the parent's
CREATE TABLE m (a int NOT NULL, b text, c int) PARTITION BY RANGE (a); CREATE TABLE m1 (c int, gone int, b text, a int NOT NULL); ALTER TABLE m1 DROP gone; ALTER TABLE m ATTACH PARTITION m1 FOR VALUES FROM (0) TO (10); INSERT INTO m SELECT i, 'x', i * 2 FROM generate_series(0, 9) i;
-- * a partition with defaults, checks and indexes of its own
CREATE TABLE m (a int, b int DEFAULT 1) PARTITION BY LIST (a); CREATE TABLE m1 PARTITION OF m (b DEFAULT 2 NOT NULL, CHECK (b < 100)) FOR VALUES IN (1) WITH (fillfactor = 50); CREATE INDEX own ON m1 (b) WHERE b > 1; INSERT INTO m (a) VALUES (1); INSERT INTO m1 (a) VALUES (1);
-- * a partition that was taken off
CREATE TABLE m (a int PRIMARY KEY, b text) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10); INSERT INTO m VALUES (1, 'x'); ALTER TABLE m DETACH PARTITION m1;
-- * keys, foreign keys and triggers over partitions
CREATE TABLE p (a int PRIMARY KEY); INSERT INTO p VALUES (1), (20); CREATE FUNCTION tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TABLE m (a int REFERENCES p, b int, PRIMARY KEY (a, b), UNIQUE (b, a)) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10); CREATE TRIGGER tr BEFORE INSERT ON m FOR EACH ROW EXECUTE FUNCTION tr(); CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (100); ALTER TABLE m2 DISABLE TRIGGER tr; CREATE TABLE r (a int, b int, FOREIGN KEY (a, b) REFERENCES m); INSERT INTO m VALUES (1, 1), (20, 2); INSERT INTO r VALUES (20, 2);
-- * an index of the parent that a partition lacks
CREATE TABLE m (a int) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10); CREATE INDEX i ON ONLY m (a); INSERT INTO m VALUES (1);
-- * an index of the parent, attached by hand, with another name
CREATE TABLE m (a int) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10); CREATE INDEX i ON ONLY m (a); CREATE INDEX "other name" ON m1 (a); ALTER INDEX i ATTACH PARTITION "other name";
-- * identity, generated columns and row level security on a parent
CREATE TABLE m (a int, b int GENERATED ALWAYS AS (a * 2) STORED, c text) PARTITION BY LIST (c); CREATE TABLE m1 PARTITION OF m FOR VALUES IN ('x'); ALTER TABLE m ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON m USING (a > 0); INSERT INTO m (a, c) VALUES (1, 'x');
-- * partitions in another schema, the parent in this one
CREATE SCHEMA parts; CREATE TABLE m (a int) PARTITION BY RANGE (a); CREATE TABLE parts."P 1" PARTITION OF m FOR VALUES FROM (0) TO (10); INSERT INTO m VALUES (5);
-- * two hundred partitions
CREATE TABLE m (a int, b text) PARTITION BY RANGE (a); DO $$ BEGIN FOR i IN 0..199 LOOP EXECUTE format('CREATE TABLE m%s PARTITION OF m FOR VALUES FROM (%s) TO (%s)', i, i * 10, i * 10 + 10); END LOOP; END $$; INSERT INTO m SELECT i, 'x' FROM generate_series(0, 1999) i;
-- * a partition by time that a session's zone and date style print otherwise
CREATE TABLE m (a timestamptz, b interval) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01 00:00 Europe/Prague') TO ('2026-06-01 00:00 America/New_York'); INSERT INTO m VALUES ('2026-02-01Z', '1 mon');
-- * columns that came to a child table later
CREATE TABLE p (a int); CREATE TABLE c (b text) INHERITS (p); ALTER TABLE p ADD d int, ADD "E, f" bytea; INSERT INTO c (a, b, d, "E, f") SELECT i, E'tab\t' || i, -i, '\x00ff' FROM generate_series(1, 3) i;
-- * a table that became a child table, with its columns in a different order
CREATE TABLE p (a int, b int); CREATE TABLE c (b int, x text, a int); INSERT INTO c VALUES (1, 'x', 2); ALTER TABLE c INHERIT p;
-- * a table that became a child table, with types of two words, defaults and not null
CREATE TABLE p (a double precision NOT NULL, b varchar(5) DEFAULT 'a,b', c timestamp with time zone); CREATE TABLE c (c timestamp with time zone, b varchar(5) DEFAULT 'x, y', "d, e" numeric(5,2) DEFAULT 1.5, a double precision NOT NULL, CHECK (a > 1), CONSTRAINT named CHECK (b <> 'a')); INSERT INTO c VALUES (now(), 'b', 2, 3); ALTER TABLE c INHERIT p;
-- * two parents, and a column of both
CREATE TABLE p (a int, b int); CREATE TABLE q (b int, c int); CREATE TABLE c (d int) INHERITS (p, q); INSERT INTO c VALUES (1, 2, 3, 4); ALTER TABLE q ADD z int DEFAULT 5; INSERT INTO p VALUES (9, 9);
-- * child tables of child tables, with checks that are not inherited and columns of their own
CREATE TABLE p (a int CHECK (a > 0), CONSTRAINT alone CHECK (a < 10) NO INHERIT); CREATE TABLE c (a int DEFAULT 3, b int) INHERITS (p); CREATE TABLE d (e int) INHERITS (c); INSERT INTO p VALUES (1); INSERT INTO c VALUES (50, 1); INSERT INTO d VALUES (60, 1, 2); ALTER TABLE p ADD f text; ALTER TABLE c ALTER a SET DEFAULT 4;
-- * a child table that was cut off
CREATE TABLE p (a int, b int); CREATE TABLE c (d int) INHERITS (p); INSERT INTO c VALUES (1, 2, 3); ALTER TABLE c NO INHERIT p;
-- * a parent that lost a column which its heir keeps
CREATE TABLE p (a int, b int); CREATE TABLE c (b int, d int) INHERITS (p); INSERT INTO c VALUES (1, 2, 3); ALTER TABLE p DROP b;
-- * a foreign key of a partition under another name, over an operator of an extension
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public; CREATE TABLE r (k citext PRIMARY KEY); CREATE TABLE m (a int, k citext, FOREIGN KEY (k) REFERENCES r) PARTITION BY RANGE (a); CREATE TABLE m1 (a int, k citext, CONSTRAINT "own name" FOREIGN KEY (k) REFERENCES r); ALTER TABLE m ATTACH PARTITION m1 FOR VALUES FROM (0) TO (10);
-- * indexes of partitions of partitions that were attached by hand, with keys, comments and statistics
CREATE TABLE p (a int, b text) PARTITION BY RANGE (a) ; CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY LIST (b); ALTER TABLE p ALTER a SET NOT NULL, ALTER b SET NOT NULL; CREATE TABLE p1x PARTITION OF p1 FOR VALUES IN ('x'); CREATE UNIQUE INDEX u ON ONLY p (a, b); CREATE UNIQUE INDEX u1 ON ONLY p1 (a, b); CREATE UNIQUE INDEX u1x ON p1x (a, b) WITH (fillfactor = 60); ALTER INDEX u1 ATTACH PARTITION u1x; ALTER INDEX u ATTACH PARTITION u1; ALTER TABLE ONLY p ADD CONSTRAINT pk PRIMARY KEY (a, b); ALTER TABLE p1x ADD CONSTRAINT "pk1x" PRIMARY KEY (a, b); COMMENT ON CONSTRAINT pk ON p IS 'half'; CREATE INDEX e ON p (lower(b)) WHERE b IN ('x', 'y'); ALTER INDEX p1_lower_idx RENAME TO "E; 1"; ALTER INDEX e ALTER COLUMN 1 SET STATISTICS 55; ALTER TABLE p1x CLUSTER ON pk1x;
