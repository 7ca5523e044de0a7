"""Tables, or their rows, that are excluded on purpose: stated everywhere, and not a difference."""

import psycopg
import pytest

from backup.errors import PreflightError
from backup.policy.anomaly import Limits, anomalies
from backup.postgres.dsn import parse
from backup.postgres.exclusion import Excluded, _matching
from backup.run import run
from backup.verify.compare import compare_counts
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire
from tests.backup.restorekit import Command

SCHEMA = """
CREATE TABLE users (id int PRIMARY KEY, name text);
CREATE TABLE posts (id int PRIMARY KEY, author int REFERENCES users);
CREATE TABLE sessions (id serial PRIMARY KEY, data text);
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE SCHEMA audit;
CREATE TABLE audit."Log; 1" (what text); CREATE TABLE audit.log2 (what text); CREATE TABLE audit.kept (what text);
CREATE TABLE cache (k text, n serial CHECK (n > 0)); CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM events;
INSERT INTO users VALUES (1, 'a'); INSERT INTO posts VALUES (1, 1); INSERT INTO sessions (data) VALUES ('secret'), ('x');
INSERT INTO events VALUES ('2026-01-05', 'x'), ('2026-02-05', 'y'); INSERT INTO audit."Log; 1" VALUES ('x');
INSERT INTO audit.log2 VALUES ('x'); INSERT INTO audit.kept VALUES ('x'); INSERT INTO cache (k) VALUES ('x');
"""
# What names a table without being a view, a key or a column of its type.
NEEDY = """
CREATE FUNCTION kept() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM audit.kept; END;
CREATE POLICY seen ON audit.kept USING (EXISTS (SELECT FROM audit.log2));
ALTER TABLE users ADD of_cache regclass DEFAULT 'cache'::regclass; CREATE PUBLICATION of_cache FOR TABLE cache;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON audit.kept FROM audit."Log; 1" FOR EACH ROW EXECUTE FUNCTION late();
"""
# What belongs to a table is excluded with it.
OWN = """
CREATE INDEX ON cache (k); CREATE STATISTICS of_cache (ndistinct) ON k, n FROM cache; CREATE POLICY own ON cache USING (k > '');
CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER quiet AFTER INSERT ON cache FOR EACH ROW EXECUTE FUNCTION quiet();
CREATE TABLE numbered (a int DEFAULT nextval('cache_n_seq'));
"""
SETTINGS = {
    "BACKUP_EXCLUDE_TABLES": "cache audit.?og*",
    "BACKUP_EXCLUDE_ROWS": "sessions, events, nowhere.*",
}


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def test_what_is_left_out_is_stated_and_no_difference(
    command: Command, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(SCHEMA + OWN, "partly")
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS reads_{name}")
        connection.execute(f"CREATE ROLE reads_{name} LOGIN PASSWORD 'x'")
    with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
        # A role need not be able to read excluded tables.
        connection.execute(
            f"GRANT SELECT ON users, posts, sessions, events, events_1, events_2, audit.kept, counted, numbered TO reads_{name}; GRANT USAGE ON SCHEMA audit TO reads_{name};"
            f" GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO reads_{name}"
        )
    command.environ.update({"DATABASE_URL": postgres.url_for(name), **SETTINGS})
    made = command(
        "run", "--json", DATABASE_URL=f"postgresql://reads_{name}:x@127.0.0.1:{postgres.port}/{name}"
    )
    assert made.status == 0, made
    report = command("verify", "--json").json
    assert (report["ok"], report["differences"]) == (True, [])
    stated = " | ".join(report["notes"])
    assert "left out by BACKUP_EXCLUDE_TABLES: audit.Log; 1, audit.log2, public.cache" in stated
    assert (
        "by BACKUP_EXCLUDE_ROWS: public.events, public.events_1, public.events_2, public.sessions" in stated
    )
    manifest = command("show", "latest", "--json").json["manifest"]
    assert manifest["excluded_tables"] == ["audit.Log; 1", "audit.log2", "public.cache"]
    assert {table["name"] for table in manifest["tables"]} == {"users", "posts", "kept", "numbered"}
    doctor = {each["name"]: each for each in command("doctor", "--json").json}
    assert "no table matches nowhere.*" in doctor[f"postgres {name}: left out"]["detail"]
    restored = command("restore", "--json").json
    assert restored["differences"] == []
    with psycopg.connect(postgres.url_for(restored["into"])) as connection:
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM sessions), to_regclass('cache'), to_regclass('audit.log2')"
        ).fetchone()
    assert rows == (0, 0, None, None)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"BACKUP_EXCLUDE_ROWS": "users"}, "public.posts refers to rows of public.users"),
        ({"BACKUP_EXCLUDE_TABLES": "users"}, "public.posts refers to rows of public.users"),
        ({"BACKUP_EXCLUDE_TABLES": "events"}, "public.counted needs public.events"),
        ({"BACKUP_EXCLUDE_TABLES": "audit.kept"}, "function public.kept() needs audit.kept"),
        ({"BACKUP_EXCLUDE_TABLES": "audit.log2"}, "policy seen on table audit.kept needs audit.log2"),
        (
            {"BACKUP_EXCLUDE_TABLES": "cache"},
            "default value for column of_cache of table public.users needs public.cache; publication of table public.cache",
        ),
        ({"BACKUP_EXCLUDE_TABLES": "audit.Log*"}, 'trigger late on table audit.kept needs audit."Log; 1"'),
    ],
)
def test_what_could_not_be_restored_is_refused_before_the_dump(
    settings: dict[str, str], reason: str, wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(SCHEMA + NEEDY, "partly")
    wiring = wired(DATABASE_URL=postgres.url_for(name), **settings)
    with pytest.raises(PreflightError) as refused:
        run(wiring, wiring.targets[0])
    assert reason in refused.value.message


def test_a_row_that_comes_back_is_reported(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    """A table without its rows must be empty after the restore."""
    name = new_database(SCHEMA, "partly")
    wiring = wired(DATABASE_URL=postgres.url_for(name), BACKUP_EXCLUDE_ROWS="cache")
    manifest = run(wiring, wiring.targets[0])
    assert "public.cache" not in {table.label for table in manifest.tables}
    found = compare_counts(manifest, parse(postgres.url_for(name)))
    assert [(each.object, each.expected, each.found) for each in found] == [("public.cache", "nothing", "1")]


def test_another_exclusion_is_not_an_anomaly(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(SCHEMA, "partly")
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    manifest = run(wiring, wiring.targets[0])
    big = manifest.model_copy(
        update={"tables": tuple(t.model_copy(update={"rows": 9000}) for t in manifest.tables)}
    )
    less = big.model_copy(update={"excluded_tables": ("public.cache",), "tables": ()})
    assert anomalies(less, [big] * 4, Limits()) == ()
    assert anomalies(big.model_copy(update={"tables": ()}), [big] * 4, Limits()) != ()


def test_a_bracket_in_a_pattern_is_one_in_a_name() -> None:
    known = {1: ("public", "log[1]"), 2: ("public", "log1"), 3: ("public", "log[12]")}
    assert _matching(known, ["log[?]"], []) == [1]


def test_names_are_quoted_for_pg_dump() -> None:
    assert Excluded({1: ('a"b', "c.*")}, {2: ("public", "t")}).arguments() == [
        '--exclude-table="a""b"."c.*"',
        '--exclude-table-data="public"."t"',
    ]
