"""Damage of every kind, which a verification must name; and healthy oddities, which it must not report.

The database is dumped and restored once; each case damages a copy of the restored database.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import zstandard

from backup.catalogue import layout
from backup.catalogue.manifest import Manifest
from backup.catalogue.records import Difference
from backup.errors import CatalogueError
from backup.load.download import download
from backup.load.pg_restore import load_archive
from backup.pipeline import ChildSource
from backup.postgres.databases import databases
from backup.postgres.dsn import Address, parse
from backup.replication.merged import read
from backup.run import run
from backup.verify import large_tables, verify
from backup.verify.compare import compare_counts, compare_dumps
from backup.verify.large_tables import Exchange
from backup.wiring import Wiring
from stack.servers import Postgres
from tests.backup.conftest import BackUp, NewDatabase, Wire

pyrage = pytest.importorskip("pyrage")

ROLES = """
DO $$ BEGIN
  CREATE ROLE mutant_reader;
EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""
SCHEMA = """
CREATE EXTENSION vector;
CREATE SCHEMA audit;
CREATE TYPE state AS ENUM ('draft', 'published');
CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%');
CREATE SEQUENCE tickets START 100;
SELECT nextval('tickets') FROM generate_series(1, 5);
CREATE TABLE channels (id serial PRIMARY KEY, name varchar(100) UNIQUE NOT NULL, contact email);
CREATE TABLE posts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id int NOT NULL REFERENCES channels,
    body text NOT NULL CHECK (length(body) > 0),
    words int GENERATED ALWAYS AS (array_length(string_to_array(body, ' '), 1)) STORED,
    meta jsonb NOT NULL DEFAULT '{}',
    state state NOT NULL DEFAULT 'draft',
    note text COLLATE "C",
    created timestamptz NOT NULL,
    embedding vector(3)
) WITH (fillfactor = 90);
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "Mixed Case" (id int, "The Name" text);
CREATE UNLOGGED TABLE scratchpad (id int);
CREATE TABLE audit.log (id int, what text);
CREATE TABLE alone (id int);
CREATE INDEX posts_created ON posts (created);
CREATE INDEX posts_near ON posts USING hnsw (embedding vector_l2_ops);
CREATE STATISTICS posts_stats ON channel_id, state FROM posts;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'x'; RETURN NEW; END $$;
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i * 2;
CREATE TRIGGER posts_stamp BEFORE UPDATE ON posts FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE RULE quiet AS ON DELETE TO alone DO INSTEAD NOTHING;
CREATE VIEW published AS SELECT id, body FROM posts WHERE state = 'published';
CREATE PUBLICATION feed FOR TABLE channels;
ALTER TABLE posts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON posts FOR SELECT TO mutant_reader USING (channel_id = 1);
GRANT SELECT ON channels TO mutant_reader;
GRANT SELECT (id) ON posts TO mutant_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT ON TABLES TO mutant_reader;
COMMENT ON TABLE posts IS 'what customers write';
COMMENT ON COLUMN posts.body IS 'as they wrote it';
INSERT INTO channels (name, contact) SELECT 'channel ' || i, 'c' || i || '@example.org' FROM generate_series(1, 20) i;
INSERT INTO posts (channel_id, body, meta, created, embedding)
  SELECT 1 + i % 20, 'post ' || i, jsonb_build_object('n', i), timestamptz '2026-01-01 00:00Z' + i * interval '1 hour',
         ARRAY[i, i % 7, 1]::real[]::vector FROM generate_series(1, 300) i;
UPDATE posts SET state = 'published' WHERE id % 3 = 0;
INSERT INTO events SELECT date '2025-12-01' + i, 'event ' || i FROM generate_series(0, 60) i;
INSERT INTO "Mixed Case" VALUES (1, 'one'), (2, 'two');
INSERT INTO audit.log VALUES (1, 'made');
CREATE MATERIALIZED VIEW totals AS SELECT channel_id, count(*) FROM posts GROUP BY 1;
SELECT lo_from_bytea(4711, 'a large object');
"""

# Damage to the restored database: the SQL, and what must be named.
DAMAGES = {
    "a row is lost": ("DELETE FROM posts WHERE id = 7", "public.posts"),
    "a row is there twice": (
        "INSERT INTO events_2026 SELECT * FROM events_2026 LIMIT 1",
        "public.events_2026",
    ),
    "one byte of a text": ("UPDATE channels SET name = 'chanmel 7' WHERE id = 7", "public.channels"),
    "two rows' values are swapped": (
        "UPDATE channels SET contact = 'c' || (CASE id WHEN 3 THEN 4 ELSE 3 END) || '@example.org' WHERE id IN (3, 4)",
        "public.channels",
    ),
    "an empty text for null": ("UPDATE posts SET note = '' WHERE id = 5", "public.posts"),
    "a value in a document": ("UPDATE posts SET meta = '{\"n\": 8}' WHERE id = 9", "public.posts"),
    "a microsecond": ("UPDATE posts SET created = created + interval '1 us' WHERE id = 9", "public.posts"),
    "a component of a vector": ("UPDATE posts SET embedding = '[1, 2, 4]' WHERE id = 9", "public.posts"),
    "rows of a quoted table": ('TRUNCATE "Mixed Case"', "public.Mixed Case"),
    "a partition is empty": ("TRUNCATE events_2025", "public.events_2025"),
    "a partition is apart": ("ALTER TABLE events DETACH PARTITION events_2025", "events_2025"),
    "an index": ("DROP INDEX posts_created", "public.posts_created"),
    "an index of vectors": ("DROP INDEX posts_near", "public.posts_near"),
    "an index over another column": (
        "DROP INDEX posts_created; CREATE INDEX posts_created ON posts (channel_id)",
        "public.posts_created",
    ),
    "a foreign key": (
        "ALTER TABLE posts DROP CONSTRAINT posts_channel_id_fkey",
        "posts posts_channel_id_fkey",
    ),
    "a unique constraint": (
        "ALTER TABLE channels DROP CONSTRAINT channels_name_key",
        "channels channels_name_key",
    ),
    "a primary key": ("ALTER TABLE posts DROP CONSTRAINT posts_pkey", "posts posts_pkey"),
    "a check": ("ALTER TABLE posts DROP CONSTRAINT posts_body_check", "public.posts"),
    "a check of a domain": ("ALTER DOMAIN email DROP CONSTRAINT email_check", "public.email"),
    "not null": ("ALTER TABLE channels ALTER name DROP NOT NULL", "public.channels"),
    "a trigger": ("DROP TRIGGER posts_stamp ON posts", "posts posts_stamp"),
    "a trigger is off": ("ALTER TABLE posts DISABLE TRIGGER posts_stamp", "posts posts_stamp"),
    "a function": ("DROP FUNCTION twice", "public.twice"),
    "a function does something else": (
        "CREATE OR REPLACE FUNCTION twice(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i * 3",
        "public.twice",
    ),
    "a rule": ("DROP RULE quiet ON alone", "alone quiet"),
    "a grant": ("REVOKE SELECT ON channels FROM mutant_reader", "TABLE channels"),
    "a grant on a column": ("REVOKE SELECT (id) ON posts FROM mutant_reader", "COLUMN posts.id"),
    "default privileges": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA audit REVOKE SELECT ON TABLES FROM mutant_reader",
        "DEFAULT PRIVILEGES",
    ),
    "a policy": ("DROP POLICY own ON posts", "posts own"),
    "row level security is off": ("ALTER TABLE posts DISABLE ROW LEVEL SECURITY", "public.posts"),
    "an owner": ("ALTER TABLE alone OWNER TO mutant_reader", "public.alone"),
    "a view": ("DROP VIEW published", "public.published"),
    "a view shows something else": (
        "CREATE OR REPLACE VIEW published AS SELECT id, body FROM posts WHERE state = 'draft'",
        "public.published",
    ),
    "a materialised view was not filled": ("REFRESH MATERIALIZED VIEW totals WITH NO DATA", "public.totals"),
    "a default": ("ALTER TABLE posts ALTER state DROP DEFAULT", "public.posts"),
    "a default from a sequence": ("ALTER TABLE channels ALTER id DROP DEFAULT", "channels id"),
    "a generated column": ("ALTER TABLE posts ALTER words DROP EXPRESSION", "public.posts"),
    "an identity": ("ALTER TABLE posts ALTER id DROP IDENTITY", "posts_id_seq"),
    "a comment": ("COMMENT ON TABLE posts IS NULL", "TABLE posts"),
    "a comment on a column": ("COMMENT ON COLUMN posts.body IS 'as they meant it'", "COLUMN posts.body"),
    "an extension": ("DROP EXTENSION vector CASCADE", "vector"),
    "a sequence restarts": ("SELECT setval('tickets', 1)", "public.tickets"),
    "a sequence steps otherwise": ("ALTER SEQUENCE tickets INCREMENT 2", "public.tickets"),
    "a type of a column": ("ALTER TABLE audit.log ALTER id TYPE bigint", "audit.log"),
    "a length of a column": ("ALTER TABLE channels ALTER name TYPE varchar(101)", "public.channels"),
    "a name of a column": ('ALTER TABLE "Mixed Case" RENAME "The Name" TO "the name"', "public.Mixed Case"),
    "a collation": ('ALTER TABLE posts ALTER note TYPE text COLLATE "POSIX"', "public.posts"),
    "a storage setting": ("ALTER TABLE posts RESET (fillfactor)", "public.posts"),
    "a table is logged": ("ALTER TABLE scratchpad SET LOGGED", "public.scratchpad"),
    "a table": ("DROP TABLE alone", "public.alone"),
    "a table too many": ("CREATE TABLE extra (id int)", "public.extra"),
    "a schema": ("DROP SCHEMA audit CASCADE", "audit"),
    "a value of an enumeration": ("ALTER TYPE state ADD VALUE 'gone'", "public.state"),
    "a large object": ("SELECT lo_unlink(4711)", "4711"),
    "a byte of a large object": ("SELECT lo_put(4711, 2, 'L')", "4711"),
    "statistics of columns": ("DROP STATISTICS posts_stats", "public.posts_stats"),
    "a publication": ("DROP PUBLICATION feed", "feed"),
}


@dataclass(frozen=True)
class Original:
    """A backup, its archive as a file, and a database that was restored from it."""

    wiring: Wiring
    manifest: Manifest
    archive: Path
    restored: str


@pytest.fixture(scope="module")
def original(
    postgres: Postgres,
    new_database: NewDatabase,
    back_up: BackUp,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Original]:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(ROLES)
    wiring, entry = back_up(new_database(SCHEMA, "mutant"))
    files, differences = download(wiring, entry, tmp_path_factory.mktemp("mutations"))
    assert differences == []
    restored = new_database("SELECT 1", "mutated")
    assert load_archive(wiring.programs, parse(postgres.url_for(restored)), files["archive"], 2) == []
    yield Original(wiring, entry.manifest, files["archive"], restored)
    with databases(parse(postgres.url)) as server:
        server.drop(restored)


def dumped(original: Original, address: Address, exchange: Exchange | None = None) -> list[Difference]:
    compared = compare_dumps(
        original.manifest, original.wiring.programs, original.archive, address, exchange=exchange
    )
    assert compared.notes == []
    return compared.differences


def compared(original: Original, address: Address, folder: Path) -> list[Difference]:
    """The differences; those in rows are the same if the server passes the rows of all tables through files."""
    found = dumped(original, address)
    if any(each.kind == "table data" for each in found):
        assert dumped(original, address, Exchange(folder, sessions=2, least=1)) == found
    assert list(folder.iterdir()) == []
    return [*compare_counts(original.manifest, address), *found]


def test_a_healthy_restore_has_no_differences(original: Original, postgres: Postgres, tmp_path: Path) -> None:
    assert compared(original, parse(postgres.url_for(original.restored)), tmp_path) == []


def test_rows_that_a_server_passes_through_files_are_those_of_the_dump(
    original: Original, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_tables, "PIECE", 1 << 13)
    address, commands = parse(postgres.url_for(original.restored)), list[list[str]]()

    def start(command: Sequence[str], **options: Any) -> ChildSource:
        commands.append([word for word in command if word.startswith(("--exclude", "--table"))])
        return ChildSource(command, **options)

    monkeypatch.setattr("backup.verify.dumps.ChildSource", start)
    assert dumped(original, address, Exchange(tmp_path, sessions=2, least=1)) == []
    tables = large_tables.large_tables(address, 1)
    assert max(len(list(each.pieces())) for each in tables) > 3
    # One dump, without these rows: none of them differed.
    assert max(commands) == [f'--exclude-table-data="{s}"."{t}"' for s, t in (e.name for e in tables)]
    assert len(commands) == 2
    assert {each.name[1] for each in tables} >= {"posts", "channels", "Mixed Case", "events_2026"}


def test_rows_that_cannot_be_passed_through_files_are_dumped(
    original: Original, postgres: Postgres, tmp_path: Path
) -> None:
    exchange = Exchange(tmp_path / "missing", sessions=2, least=1)
    assert dumped(original, parse(postgres.url_for(original.restored)), exchange) == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(damage: str, original: Original, postgres: Postgres, tmp_path: Path) -> None:
    statement, named = DAMAGES[damage]
    copy = f"{original.restored}_copy"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {copy} TEMPLATE {original.restored} STRATEGY file_copy")
        try:
            with psycopg.connect(postgres.url_for(copy), autocommit=True) as mutant:
                mutant.execute(statement.encode())
            found = compared(original, parse(postgres.url_for(copy)), tmp_path)
        finally:
            connection.execute(f"DROP DATABASE {copy} WITH (FORCE)")
    assert named in " | ".join(each.object for each in found), found
    # No other object is reported to have changed rows.
    assert len(found) <= 12, found


# --- The stored objects ------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(wired: Wire, postgres: Postgres) -> Wiring:
    """Two backups in a store of this test's own, encrypted."""
    identity = pyrage.x25519.Identity.generate()
    wiring = wired(
        BACKUP_AGE_RECIPIENTS=str(identity.to_public()),
        BACKUP_AGE_IDENTITY=str(identity),
        BACKUP_VERIFY_URL=postgres.url,
    )
    for _ in range(2):
        run(wiring, wiring.targets[0])
    return wiring


def _files(wiring: Wiring) -> list[dict[str, Path]]:
    """The objects of each backup as files, oldest first."""
    folder = Path(wiring.store.url.removeprefix("file://")) / wiring.targets[0].name
    backups = [path for path in folder.iterdir() if path.name != layout.ATTEMPTS]
    # Two of one second have IDs in any order.
    backups.sort(key=lambda path: json.loads((path / layout.MANIFEST).read_bytes())["started"])
    return [{path.name.split(".")[0]: path for path in each.iterdir()} for each in backups]


def _flip(path: Path, share: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)


def _reseal(path: Path, **changes: object) -> None:
    """Change a manifest and seal it again."""
    manifest = Manifest.decode(path.read_bytes(), "")
    path.write_bytes(manifest.model_copy(update=changes).encode())


def _without_last_byte(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


Backups = list[dict[str, Path]]
OBJECTS: dict[str, tuple[Callable[[Backups], object], str]] = {
    "the archive is cut off": (lambda b: _without_last_byte(b[1]["database"]), "database.dump"),
    "the archive is empty": (lambda b: b[1]["database"].write_bytes(b""), "database.dump"),
    "the archive is gone": (lambda b: b[1]["database"].unlink(), "database.dump"),
    "a byte of the ciphertext": (lambda b: _flip(b[1]["database"]), "database.dump"),
    "the first byte": (lambda b: _flip(b[1]["database"], 0.0), "database.dump"),
    "something was appended": (
        lambda b: b[1]["database"].write_bytes(b[1]["database"].read_bytes() + b"\0"),
        "database.dump",
    ),
    "the globals are gone": (lambda b: b[1]["globals"].unlink(), "globals.sql"),
    "a byte of the globals": (lambda b: _flip(b[1]["globals"]), "globals.sql"),
    "an older archive under a newer manifest": (
        lambda b: b[1]["database"].write_bytes(b[0]["database"].read_bytes()),
        "database.dump",
    ),
    "a manifest that counted a row more": (
        lambda b: _reseal(b[1]["manifest"], tables=_one_row_more(b[1]["manifest"])),
        "public.posts",
    ),
    "a sequence that stood further in the snapshot": (
        lambda b: _reseal(b[1]["manifest"], sequences=_further(b[1]["manifest"])),
        "public.channels_id_seq",
    ),
    "a manifest that knew another extension": (
        lambda b: _reseal(b[1]["manifest"], extensions=_one_extension_more(b[1]["manifest"])),
        "hstore",
    ),
}


def _one_row_more(path: Path) -> object:
    tables = Manifest.decode(path.read_bytes(), "").tables
    return tuple(
        table.model_copy(update={"rows": table.rows + 1}) if table.name == "posts" else table
        for table in tables
    )


def _further(path: Path) -> object:
    sequences = Manifest.decode(path.read_bytes(), "").sequences
    return tuple(
        each.model_copy(update={"last_value": 10_000}) if each.name == "public.channels_id_seq" else each
        for each in sequences
    )


def _one_extension_more(path: Path) -> object:
    extensions = Manifest.decode(path.read_bytes(), "").extensions
    return (*extensions, extensions[0].model_copy(update={"name": "hstore"}))


def test_damaged_objects_are_named(stored: Wiring) -> None:
    kept = {path: path.read_bytes() for files in _files(stored) for path in files.values()}
    for damage, (harm, named) in OBJECTS.items():
        backups = _files(stored)
        harm([{name: path for name, path in each.items() if path in kept} for each in backups])
        entry = read(stored).history(stored.targets[0].name).latest
        assert entry is not None
        report = verify(stored, entry)
        assert not report.ok, damage
        assert any(each.object.startswith(named) for each in report.differences), (damage, report.differences)
        for path, data in kept.items():
            path.write_bytes(data)
    entry = read(stored).history(stored.targets[0].name).latest
    assert entry is not None
    assert verify(stored, entry).ok


def test_damaged_manifests_are_named(stored: Wiring) -> None:
    """A backup with an untrustworthy manifest does not count; it is listed as broken, by its id."""
    older, newer = _files(stored)
    path, data = newer["manifest"], newer["manifest"].read_bytes()
    value = json.loads(data)
    harms: dict[str, bytes] = {
        "a byte": data.replace(b'"rows": 2000', b'"rows": 2001'),
        "cut off": data[:-20],
        "empty": b"",
        "the older one": older["manifest"].read_bytes(),
        "a format of tomorrow": json.dumps({**value, "format": 2}).encode(),
        "no digest": json.dumps({name: each for name, each in value.items() if name != "digest"}).encode(),
    }
    for harm, damaged in harms.items():
        path.write_bytes(damaged)
        history = read(stored).history(stored.targets[0].name)
        assert [broken.id for broken in history.broken] == [path.parent.name], harm
        assert isinstance(history.broken[0].error, CatalogueError)
        assert len(history.backups) == 1


def test_a_whole_object_with_half_an_archive_in_it(wired: Wire, postgres: Postgres) -> None:
    """A dump that died, but was sealed: the digests match, and the archive ends in the middle."""
    import hashlib

    wiring = wired(BACKUP_VERIFY_URL=postgres.url)
    run(wiring, wiring.targets[0])
    files = _files(wiring)[0]
    plain = zstandard.ZstdDecompressor().decompressobj().decompress(files["database"].read_bytes())
    half = zstandard.ZstdCompressor(write_checksum=True).compress(plain[: len(plain) // 2])
    files["database"].write_bytes(half)
    manifest = Manifest.decode(files["manifest"].read_bytes(), "")
    sealed = {
        "sha256": hashlib.sha256(half).hexdigest(),
        "stored_bytes": len(half),
        "raw_bytes": len(plain) // 2,
    }
    objects = tuple(
        each.model_copy(update=sealed) if each.role == "archive" else each for each in manifest.objects
    )
    _reseal(files["manifest"], objects=objects)
    entry = read(wiring).history(wiring.targets[0].name).latest
    assert entry is not None
    report = verify(wiring, entry)
    assert {"restore archive", "object database.dump"} <= {
        f"{each.kind} {each.object}" for each in report.differences
    }, report.differences


# --- Healthy oddities --------------------------------------------------------------------------------------------------

HEALTHY = {
    "nothing at all": "SELECT 1",
    "partitions of partitions, empty ones, a default one": """
        CREATE TABLE m (at date, kind int) PARTITION BY RANGE (at);
        CREATE TABLE m_2026 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY LIST (kind);
        CREATE TABLE m_2026_1 PARTITION OF m_2026 FOR VALUES IN (1);
        CREATE TABLE m_2026_other PARTITION OF m_2026 DEFAULT;
        CREATE TABLE m_rest PARTITION OF m DEFAULT;
        CREATE INDEX ON m (at);
        INSERT INTO m SELECT date '2025-06-01' + i, i % 3 FROM generate_series(1, 400) i""",
    "generated and identity columns, composite and exotic types": """
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (START 1000 INCREMENT 7), a int,
            b int GENERATED ALWAYS AS (a * 2) STORED, p pair, r int4range, arr text[][], n numeric, m money, i interval,
            b1 bytea, x xml, ip inet, bits bit(5), f float8, f4 real, tz timetz, j json, ts tsvector, u uuid);
        INSERT INTO t (a, p, r, arr, n, m, i, b1, ip, bits, f, f4, tz, j, ts, u) VALUES
          (1, (1, 'x,"y"'), '[1,5)', '{{a,"b c"},{NULL,"\\\\"}}', 'NaN', '12.34', '1 year -2 days 03:04:05.000006',
           '\\x00ff', '10.0.0.0/8', B'10101', 'Infinity', 0.1, '12:00+02', '{"a" : 1,  "a": 2}', 'the quick fox',
           '00000000-0000-0000-0000-000000000001')""",
    "materialised views that stand on each other": """
        CREATE TABLE t AS SELECT i FROM generate_series(1, 100) i;
        CREATE MATERIALIZED VIEW a AS SELECT i % 10 AS d, count(*) FROM t GROUP BY 1;
        CREATE MATERIALIZED VIEW b AS SELECT sum(count) FROM a;
        CREATE MATERIALIZED VIEW never AS SELECT 1 WITH NO DATA;
        CREATE UNIQUE INDEX ON a (d)""",
    "pgvector with both kinds of index": """
        CREATE EXTENSION vector;
        CREATE TABLE t (id int, v vector(3), h halfvec(3), s sparsevec(5));
        INSERT INTO t SELECT i, ARRAY[i, i % 7, 1]::real[]::vector, ARRAY[i % 11, 2, 3]::real[]::vector::halfvec,
          '{1:1,3:2}/5' FROM generate_series(1, 300) i;
        CREATE INDEX ON t USING hnsw (v vector_cosine_ops) WITH (m = 8);
        CREATE INDEX ON t USING ivfflat (v vector_l2_ops) WITH (lists = 4)""",
    "domains, enumerations, constraints on varchar": """
        CREATE DOMAIN positive AS int CHECK (VALUE > 0) DEFAULT 1;
        CREATE TYPE mood AS ENUM ('sad', 'O''K', 'happy');
        CREATE TABLE t (id positive, mood mood, kind varchar(10) CHECK (kind IN ('a', 'b', 'it''s')),
          EXCLUDE USING gist (int4range(id, id + 1) WITH &&));
        INSERT INTO t VALUES (1, 'happy', 'a'), (5, 'O''K', 'it''s')""",
    "lists of strings that PostgreSQL prints in two ways": """
        CREATE TABLE t (k varchar(10) CHECK (k IN ('a', NULL)), j varchar(10) CHECK (j IN ('a', upper('b'))),
          l varchar(10) CHECK (l IN (E'a\\nb', 'c')));
        CREATE INDEX ON t (k) WHERE k IN ('a', 'b');
        CREATE VIEW v AS SELECT CASE WHEN k IN ('a', 'b') THEN j ELSE 'x' END IN ('x', ']') FROM t""",
    "columns that were added to a child table later": """
        CREATE TABLE p (a int); CREATE TABLE c (b text) INHERITS (p); ALTER TABLE p ADD d int, ADD "E, f" bytea;
        INSERT INTO c (a, b, d, "E, f") SELECT i, E'tab\\t' || i, -i, '\\x00ff' FROM generate_series(1, 3) i""",
    "row level security, forced": """
        CREATE TABLE t (id int, who text);
        ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
        CREATE POLICY mine ON t USING (who = current_user) WITH CHECK (false);
        INSERT INTO t SELECT i, 'nobody' FROM generate_series(1, 10) i""",
    "a foreign table that leads nowhere": """
        CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing OPTIONS (host 'far');
        CREATE FOREIGN TABLE there (id int) SERVER far; CREATE USER MAPPING FOR PUBLIC SERVER far""",
    "unlogged tables with rows": "CREATE UNLOGGED TABLE t AS SELECT i FROM generate_series(1, 50) i",
    "names that need quotes": """
        CREATE SCHEMA "My Schema"; CREATE TABLE "My Schema"."select" ("from" int, "a ""b"" c" text, "ünï" text);
        INSERT INTO "My Schema"."select" VALUES (1, E'tab\\there', E'\\\\.'), (2, '', NULL), (3, E'a\\nb', '-- Name: x; Type: TABLE');
        CREATE TABLE "x; Type: TABLE; Schema: public" (id int); CREATE VIEW "Ω" AS SELECT 1 AS "1";
        CREATE TABLE "semi;colon" (a int); INSERT INTO "semi;colon" VALUES (1)""",
    "empty tables, and one without columns": """
        CREATE TABLE empty (id int); CREATE TABLE none (); INSERT INTO none SELECT FROM generate_series(1, 5)""",
    "large objects with owners and grants": """
        SELECT lo_from_bytea(0, convert_to(repeat(i::text, 5000), 'UTF8')) FROM generate_series(1, 5) i;
        SELECT lo_create(777777); GRANT SELECT ON LARGE OBJECT 777777 TO PUBLIC""",
    "its own collations": """
        CREATE TABLE t (a text COLLATE "C", b text COLLATE "POSIX", c text COLLATE "ucs_basic");
        INSERT INTO t VALUES ('a', 'B', 'ä'); CREATE INDEX ON t (a COLLATE "POSIX" DESC NULLS LAST)""",
    "inheritance, rules, event triggers, casts, operators, aggregates": """
        CREATE TABLE parent (id int, what text); CREATE TABLE child (more int) INHERITS (parent);
        INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3);
        CREATE FUNCTION plus(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE RETURN a + b;
        CREATE FUNCTION plus(a text, b text) RETURNS text LANGUAGE sql IMMUTABLE RETURN a || b;
        CREATE OPERATOR @+ (FUNCTION = plus, LEFTARG = int, RIGHTARG = int);
        CREATE AGGREGATE total(int) (SFUNC = plus, STYPE = int, INITCOND = '0');
        CREATE FUNCTION report() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
        CREATE EVENT TRIGGER tell ON ddl_command_end EXECUTE FUNCTION report();
        CREATE PROCEDURE nothing() LANGUAGE plpgsql AS $$ BEGIN NULL; END $$""",
    "settings of the database that change how values look": """
        CREATE TABLE t (at timestamptz, raw bytea, i interval, d date);
        INSERT INTO t VALUES ('2026-07-01 12:00Z', '\\xdeadbeef', '1 day 2 hours', '2026-07-04');
        DO $$ BEGIN
          EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'Asia/Tokyo');
          EXECUTE format('ALTER DATABASE %I SET bytea_output = %L', current_database(), 'escape');
          EXECUTE format('ALTER DATABASE %I SET datestyle = %L', current_database(), 'SQL, DMY');
          EXECUTE format('ALTER DATABASE %I SET intervalstyle = %L', current_database(), 'iso_8601');
          EXECUTE format('ALTER DATABASE %I SET search_path = %L', current_database(), 'pg_temp');
          EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
        END $$""",
}


@pytest.mark.parametrize("variant", HEALTHY)
def test_healthy_oddities_are_not_reported(
    variant: str, wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    wiring = wired(
        DATABASE_URL=postgres.url_for(new_database(HEALTHY[variant], "healthy")),
        BACKUP_VERIFY_URL=postgres.url,
    )
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(wiring.targets[0].name).latest
    assert entry is not None
    assert verify(wiring, entry).differences == ()


def test_a_throwaway_server_does_not_report_them_either(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    """One database with all oddities that are compatible, verified as production's is, in a throwaway server."""
    name = new_database(ROLES + SCHEMA, "healthy")
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    run(wiring, wiring.targets[0])
    entry = read(wiring).history(name).latest
    assert entry is not None
    assert verify(wiring, entry).differences == ()
