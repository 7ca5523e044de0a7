"""A small database with everything that a real one has, and settings for the embedded servers."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from prometheus_client import generate_latest

from backup.catalogue.history import Entry
from backup.redis.lock import KEY
from backup.replication.merged import read
from backup.run import run
from backup.service.metrics import registry
from backup.service.state import State
from backup.settings import BackupSettings
from backup.wiring import Wiring, wire
from stack.programs import SUPPORTED, find
from stack.servers import ObjectStore, Postgres, Redis
from tests.backup.pitrkit import Archiver

SCHEMA = """
CREATE EXTENSION vector;
CREATE TYPE state AS ENUM ('draft', 'published');
CREATE TABLE channels (id serial PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE posts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id int NOT NULL REFERENCES channels,
    body text NOT NULL,
    meta jsonb NOT NULL DEFAULT '{}',
    state state NOT NULL DEFAULT 'draft',
    created timestamptz NOT NULL DEFAULT now(),
    embedding vector(8)
);
CREATE TABLE "Mixed Case" (id int, "a ""quoted"" one" text);
CREATE TABLE empty (id int);
CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON posts USING hnsw (embedding vector_l2_ops) WITH (m = 4, ef_construction = 8);
CREATE MATERIALIZED VIEW totals AS SELECT channel_id, count(*) FROM posts GROUP BY 1;
CREATE VIEW published AS SELECT * FROM posts WHERE state = 'published';
INSERT INTO channels (name) SELECT 'channel ' || i FROM generate_series(1, 20) i;
INSERT INTO posts (channel_id, body, meta, embedding)
  SELECT 1 + i % 20, repeat(md5(i::text), 4), jsonb_build_object('n', i),
         (SELECT array_agg((i * j % 97)::real) FROM generate_series(1, 8) j)::vector
  FROM generate_series(1, 2000) i;
INSERT INTO "Mixed Case" VALUES (1, E'tab\\tnew\\nline\\\\.'), (2, NULL);
INSERT INTO events SELECT date '2026-01-01' + i, 'event ' || i FROM generate_series(0, 300) i;
SELECT lo_from_bytea(0, 'a large object');
REFRESH MATERIALIZED VIEW totals;
"""
ROWS = 20 + 2000 + 2 + 301

NewDatabase = Callable[..., str]
Wire = Callable[..., Wiring]
BackUp = Callable[[str], tuple[Wiring, Entry]]
PostgresOf = Callable[[int], Postgres]


def samples(state: State) -> dict[str, float]:
    """Series → value."""
    lines = generate_latest(registry(state)).decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


@pytest.fixture(scope="session")
def new_database(postgres: Postgres) -> NewDatabase:
    """Creates a database from SQL and returns its name."""

    def make(sql: str = SCHEMA, prefix: str = "shop") -> str:
        name = f"{prefix}_{secrets.token_hex(3)}"
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            # A fifth of the time that the default takes.
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
            connection.execute(sql)
        return name

    return make


@pytest.fixture(scope="session")
def database(new_database: NewDatabase) -> str:
    """A database that no test changes."""
    return new_database()


@pytest.fixture(scope="session")
def back_up(postgres: Postgres, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> BackUp:
    """Takes a backup of a database into a new store; for fixtures that several tests share."""

    def take(database: str) -> tuple[Wiring, Entry]:
        settings = {
            "DATABASE_URL": postgres.url_for(database),
            "BACKUP_STORE_URL": f"file://{tmp_path_factory.mktemp('store')}",
            "BACKUP_POSTGRES_BIN": str(programs),
        }
        wiring = wire(BackupSettings.load(settings))
        run(wiring, wiring.targets[0])
        entry = read(wiring).history(database).latest
        assert entry is not None
        return wiring, entry

    return take


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    folder = tmp_path / "store"
    folder.mkdir()
    return f"file://{folder}"


@pytest.fixture
def environ(postgres: Postgres, database: str, store_url: str, programs: Path) -> dict[str, str]:
    """The minimal settings of the sidecar."""
    return {
        "DATABASE_URL": postgres.url_for(database),
        "BACKUP_STORE_URL": store_url,
        "BACKUP_POSTGRES_BIN": str(programs),
        "BACKUP_REDIS_BIN": str(find("redis-server").parent),
        "BACKUP_STORE_ATTEMPTS": "2",
    }


@pytest.fixture
def wired(environ: dict[str, str]) -> Wire:
    """Wires the sidecar; settings by the names of their variables."""

    def make(**more: str) -> Wiring:
        return wire(BackupSettings.load({**environ, **more}))

    return make


@pytest.fixture
def wiring(environ: dict[str, str]) -> Wiring:
    """The sidecar, wired with the settings of the test."""
    return wire(BackupSettings.load(environ))


@pytest.fixture(params=SUPPORTED, ids=lambda version: f"postgres{version}")
def server(request: pytest.FixtureRequest, postgres_of: PostgresOf) -> Postgres:
    """The shared server of each supported version."""
    return postgres_of(request.param)


@pytest.fixture
def archiver(wiring: Wiring) -> Iterator[Archiver]:
    """The WAL of the server ``main`` on its way into the store."""
    with Archiver(wiring, wiring.server("main")) as running:
        yield running


@pytest.fixture(scope="session")
def bucket(object_store: ObjectStore) -> dict[str, str]:
    """Settings with a bucket of the embedded S3 server."""
    name = f"backups-{secrets.token_hex(3)}"
    object_store.bucket(name)
    return {
        "BACKUP_STORE_URL": f"s3://{name}/prod",
        "BACKUP_S3_ENDPOINT_URL": object_store.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": object_store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": object_store.secret_key,
    }


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A Redis whose replicas are served at once, with more databases than the usual 16."""
    folder = tmp_path_factory.mktemp("redis")
    with Redis(folder, options={"repl-diskless-sync-delay": "0", "databases": "2000"}) as server:
        yield server


@pytest.fixture
def busy_redis(shared_redis: Redis) -> Redis:
    """The shared Redis without the lock of a run that another test killed: it would stay for a minute."""
    with redis.Redis.from_url(shared_redis.url) as client:
        client.delete(KEY)
    return shared_redis
