"""The ledger: commits that count themselves, so that a recovery shows what it lacks."""

import shutil
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

import psycopg

from bench.background import Background
from bench.pitr.place import SERVER, Place
from stack.servers import Postgres

Figures = dict[str, float]
TPS = 100


class Ledger(Background):
    """Commits numbers, at a limited rate, and records when each was acknowledged."""

    def __init__(self, url: str, rate: float | None = TPS, name: str = "ledger") -> None:
        self.acknowledged: list[tuple[int, datetime]] = []
        self._url, self._name = url, name
        self._pause = 1 / rate if rate else 0.0
        self._next = 1
        super().__init__()

    def __enter__(self) -> Self:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._name} (n bigint PRIMARY KEY, at timestamptz)"
            )
            row = connection.execute(f"SELECT coalesce(max(n), 0) FROM {self._name}").fetchone()
        self._next = int(row[0]) + 1 if row else 1
        return super().__enter__()

    def work(self) -> None:
        due = time.monotonic()
        statement = f"INSERT INTO {self._name} VALUES (%s, clock_timestamp()) RETURNING n, at"
        with suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True) as connection:
            while not self.ending.wait(max(0.0, due - time.monotonic())):
                due += self._pause
                row = connection.execute(statement.encode(), [self._next]).fetchone()
                assert row is not None
                self._next += 1
                self.acknowledged.append((row[0], row[1]))


class Found:
    """The ledger of a recovered server."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT max(n), max(at), count(*) FROM ledger").fetchone()
        assert row is not None
        self.n: int = row[0] or 0
        self.last: datetime = row[1] or datetime.fromtimestamp(0, UTC)
        self.holes: int = self.n - int(row[2])


def recovered(place: Place) -> Found:
    """The ledger, from the store alone."""
    folder = place.folder / "recovered" / "data"
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.parent.mkdir()
    place.backup("restore", SERVER, "--at", "latest", "--to-folder", str(folder))
    with Postgres(folder.parent) as server:
        return Found(server.url)
