"""A database of any size with rows like those of a content app: words, jsonb, times, embeddings; or one of many small tables.

Embeddings are like the app's: the same number of dimensions, not on every post, and with a search index.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import psycopg

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE channels (id serial PRIMARY KEY, name text NOT NULL, settings jsonb NOT NULL);
CREATE TABLE posts (
    id bigint PRIMARY KEY, channel_id int NOT NULL, body text NOT NULL, meta jsonb NOT NULL,
    state text NOT NULL, created timestamptz NOT NULL, published timestamptz, embedding vector(768)
);
CREATE TABLE comments (
    id bigint PRIMARY KEY, post_id bigint NOT NULL, body text NOT NULL, meta jsonb NOT NULL, created timestamptz NOT NULL
);
CREATE TABLE jobs (
    id bigint PRIMARY KEY, post_id bigint NOT NULL, prompt text NOT NULL, result text NOT NULL, meta jsonb NOT NULL,
    created timestamptz NOT NULL
);
CREATE TABLE events (id bigint PRIMARY KEY, post_id bigint NOT NULL, kind text, at timestamptz, payload jsonb);
"""
INDEXES = """
SET maintenance_work_mem = '512MB';
CREATE INDEX ON posts (channel_id, created);
CREATE INDEX ON posts USING hnsw (embedding vector_cosine_ops);
CREATE INDEX ON posts USING gin (meta jsonb_path_ops);
CREATE INDEX ON comments (post_id, created);
CREATE INDEX ON jobs (post_id);
CREATE INDEX ON jobs (created);
CREATE INDEX ON events (post_id);
CREATE INDEX ON events (at);
ALTER TABLE posts ADD FOREIGN KEY (channel_id) REFERENCES channels;
ALTER TABLE comments ADD FOREIGN KEY (post_id) REFERENCES posts;
ALTER TABLE jobs ADD FOREIGN KEY (post_id) REFERENCES posts;
ALTER TABLE events ADD FOREIGN KEY (post_id) REFERENCES posts;
ANALYZE;
"""
SMALL_TABLE = """
CREATE TABLE t{number} (id serial PRIMARY KEY, name text UNIQUE, payload jsonb DEFAULT '{{}}', at timestamptz);
INSERT INTO t{number} (name, at) SELECT 'name ' || i, timestamptz '2026-01-01' + i * interval '1 day' FROM generate_series(1, 20) i;
"""
BATCH = 2000
TABLES_PER_BATCH = 100
# Chosen so that the tables have similar sizes in bytes.
COMMENTS_PER_POST = 3
EVENTS_PER_POST = 4
DIMENSIONS = 768
POSTS_PER_EMBEDDING = 10


class Writer:
    """Generates rows with the entropy of real ones: words with the frequencies of a natural language, and no two equal rows."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        letters = "etaoinshrdlucmfwypvbgk"
        self._words = [
            "".join(self._random.choices(letters, k=self._random.randint(2, 10))) for _ in range(20000)
        ]
        # Zipf: the n-th word is used 1/n as often as the first.
        self._weights = [1 / 2.7]
        for number in range(1, len(self._words)):
            self._weights.append(self._weights[-1] + 1 / (number + 2.7))
        self._numbers = [f"{self._random.gauss(0, 0.05):.7f}" for _ in range(200_000)]

    def post(self, number: int) -> str:
        """One line of COPY."""
        pick = self._random
        meta = self._meta(likes=pick.randint(0, 5000), tags=pick.sample(self._words[:500], 4))
        when, body = self._moment(), self._text(20, 120)
        vector = self._embedding() if number % POSTS_PER_EMBEDDING == 0 else "\\N"
        return f"{number}\t{pick.randint(1, 500)}\t{body}\t{meta}\tpublished\t{when}\t{when}\t{vector}\n"

    def comment(self, number: int, post: int) -> str:
        """One line of COPY."""
        meta = self._meta(likes=self._random.randint(0, 50))
        return f"{number}\t{post}\t{self._text(5, 40)}\t{meta}\t{self._moment()}\n"

    def job(self, number: int, post: int) -> str:
        """One line of COPY."""
        meta = self._meta(tokens=self._random.randint(50, 2000))
        return f"{number}\t{post}\t{self._text(10, 60)}\t{self._text(20, 100)}\t{meta}\t{self._moment()}\n"

    def event(self, number: int, post: int) -> str:
        """One line of COPY."""
        pick = self._random
        payload = json.dumps(
            {"ip": f"10.{pick.getrandbits(8)}.{pick.getrandbits(8)}.1", "ms": pick.randint(1, 900)}
        )
        return f"{number}\t{post}\t{pick.choice(('view', 'like', 'share'))}\t{self._moment()}\t{payload}\n"

    def _embedding(self) -> str:
        return f"[{','.join(self._random.choices(self._numbers, k=DIMENSIONS))}]"

    def _text(self, least: int, most: int) -> str:
        count = self._random.randint(least, most)
        return " ".join(self._random.choices(self._words, cum_weights=self._weights, k=count))

    def _meta(self, **values: object) -> str:
        pick = self._random
        language = pick.choice(("en", "de", "fr", "es"))
        return json.dumps({"lang": language, "utm": f"{pick.getrandbits(64):016x}", **values})

    def _moment(self) -> str:
        pick = self._random
        return (
            f"2026-{pick.randint(1, 12):02d}-{pick.randint(1, 28):02d} {pick.randint(0, 23):02d}:"
            f"{pick.randint(0, 59):02d}:{pick.randint(0, 59):02d}.{pick.randint(0, 999999):06d}+00"
        )


def fill(url: str, megabytes: int, progress: Callable[[int], object]) -> int:
    """Fill an empty database until its dump has about this number of megabytes; returns the number of rows."""
    writer, posts, written = Writer(), 0, 0
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(
            "INSERT INTO channels (name, settings) SELECT 'channel ' || i, '{\"tone\": \"dry\"}' FROM generate_series(1, 500) i"
        )
        while written < megabytes * 1_000_000:
            for table, lines in _batch(writer, range(posts + 1, posts + BATCH + 1)):
                written += _copy(connection, table, lines)
            posts += BATCH
            progress(written)
        connection.execute(INDEXES)
    return posts * (2 + COMMENTS_PER_POST + EVENTS_PER_POST) + 500


def _batch(writer: Writer, posts: range) -> Iterator[tuple[str, Iterator[str]]]:
    """The rows that belong to some posts, by table."""
    yield "posts", (writer.post(post) for post in posts)
    yield "comments", (writer.comment(number, post) for number, post in _each(posts, COMMENTS_PER_POST))
    yield "jobs", (writer.job(post, post) for post in posts)
    yield "events", (writer.event(number, post) for number, post in _each(posts, EVENTS_PER_POST))


def _each(posts: range, count: int) -> Iterator[tuple[int, int]]:
    return ((post * count + number, post) for post in posts for number in range(count))


def _copy(connection: psycopg.Connection[tuple[object, ...]], table: str, lines: Iterator[str]) -> int:
    data = "".join(lines).encode()
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        copy.write(data)
    return len(data)


def fill_once(place: Path, url: str, size: int) -> None:
    """Fill the database, unless an earlier run in this folder did."""
    done = place / f"filled-{size}"
    if not done.exists():
        click.echo(f"filling a database of {size} MB", err=True)
        done.write_text(str(fill(url, size, lambda _: None)))


def create_tables_once(place: Path, url: str, count: int) -> None:
    """Create tables of 20 rows with two unique indexes each, unless an earlier run in this folder did."""
    done = place / f"tables-{count}"
    if done.exists():
        return
    click.echo(f"creating {count} tables", err=True)
    with psycopg.connect(url, autocommit=True) as connection:
        for begin in range(0, count, TABLES_PER_BATCH):
            numbers = range(begin, min(count, begin + TABLES_PER_BATCH))
            connection.execute("".join(SMALL_TABLE.format(number=number) for number in numbers).encode())
    done.touch()
