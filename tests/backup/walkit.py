"""Shared by tests of the WAL stream: a streamer in a thread, a ledger that counts its commits, and access to the store."""

import hashlib
import io
import os
import secrets
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psycopg
import pyrage
import requests
import zstandard

from backup.cancellation import Stop
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.physical import lsn
from backup.physical.archive import Archive, Listing, Stored
from backup.physical.measures import Measures
from backup.physical.slot import NAME
from backup.physical.spans import cover, spans
from backup.physical.storage import Outlet
from backup.physical.stream import Streamer
from backup.physical.walsender import WalSender
from backup.pipeline import PackingOptions
from backup.pipeline.encrypt import decrypt, parse_identities, parse_recipients
from backup.postgres.dsn import parse
from backup.store import Store
from backup.targets import ServerTarget
from stack.paths import ROOT
from stack.ports import HOST
from stack.servers import Postgres
from stack.wait import wait_for

SEGMENT = 16 << 20
IDENTITY = pyrage.x25519.Identity.generate()
SECRET, PUBLIC = str(IDENTITY), str(IDENTITY.to_public())


def until(condition: Callable[[], object], what: str, timeout: float = 90) -> None:
    wait_for(condition, timeout=timeout, what=what, hint="look at the server's log", interval=0.05)


@contextmanager
def serving(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """``wal serve`` while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backup", "wal", "serve"], cwd=ROOT, env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def page(environment: dict[str, str], path: str) -> requests.Response:
    return requests.get(f"http://{HOST}:{environment['BACKUP_WAL_PORT']}{path}", timeout=5)


def is_ready(environment: dict[str, str]) -> bool:
    with suppress(requests.ConnectionError):
        return page(environment, "/readyz").status_code == 200
    return False


class Stream:
    """A streamer in a thread."""

    def __init__(
        self,
        server: Postgres,
        store: Store,
        *,
        keys: Keyring = NO_KEYS,
        interval: float = 0.2,
        name: str = "main",
        recipient: str = PUBLIC,
        retain_until: Callable[[datetime], datetime | None] = lambda _: None,
    ) -> None:
        self.store, self.keys, self.name = store, keys, name
        self.stop, self.measures = Stop(), Measures()
        packing = PackingOptions(recipients=tuple(parse_recipients([recipient])))
        outlet = Outlet(store, keys, packing, interval, lambda: datetime.now(UTC), retain_until)
        target = ServerTarget(name, parse(server.url))
        self.streamer = Streamer(target, outlet, self.stop, self.measures)
        self._thread = threading.Thread(target=self.streamer.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop.request()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def stores(self, position: int) -> None:
        """Wait until everything up to a position is stored."""
        until(
            lambda: (self.measures.stored or 0) >= position, f"the WAL up to {lsn.text(position)} is stored"
        )


def write(server: Postgres, kilobytes: int = 10) -> int:
    """Write WAL of random bytes; returns the position after it."""
    pieces = [1000] * (kilobytes // 1000) + [kilobytes % 1000]
    return emit(server, *(secrets.token_bytes(piece << 10) for piece in pieces if piece))


def emit(server: Postgres, *messages: bytes) -> int:
    """Commit messages to the WAL one by one; returns the position after the last one, between two records."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        # The tests' server does not wait for the disk: the position could be in the middle of a record.
        connection.execute("SET synchronous_commit = on")
        for message in messages:
            connection.execute("SELECT pg_logical_emit_message(true, 'test', %s::bytea)", [message])
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        return lsn.parse(row[0])


def archive_of(server: Postgres, keys: Keyring = NO_KEYS, name: str = "main") -> Archive:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
        assert row is not None
        return Archive(name, row[0], SEGMENT, keys)


def listing(store: Store, archive: Archive) -> Listing:
    return archive.listing(Stored(info.key, info.size, info.modified) for info in store.walk(archive.prefix))


def plain(store: Store, key: str) -> bytes:
    opened = io.BytesIO()
    decrypt(io.BytesIO(store.get(key)), opened, parse_identities(SECRET))
    return zstandard.ZstdDecompressor().decompressobj().decompress(opened.getvalue())


def content(store: Store, archive: Archive, timeline: int, start: int, end: int) -> bytes:
    """The stored bytes between two positions; every object contains what its name states."""
    data = bytearray()
    for each in cover(listing(store, archive).wal, timeline, start, end):
        bytes_of = plain(store, each.stored.key)
        assert len(bytes_of) == each.end - each.start
        assert hashlib.sha256(bytes_of).hexdigest()[:32] == each.sha
        data += bytes_of[start + len(data) - each.start :]
    assert len(data) >= end - start, f"stored up to {lsn.text(start + len(data))} of {lsn.text(end)}"
    return bytes(data[: end - start])


def same_as_server(server: Postgres, store: Store, archive: Archive, end: int, timeline: int = 1) -> int:
    """Compare everything that is stored and that the server still has, byte by byte; returns the number of bytes."""
    stored = [span for span in spans(listing(store, archive).wal) if span.timeline == timeline]
    assert len(stored) == 1, f"there are holes: {stored}"
    compared = 0
    for start in range(stored[0].start, end, SEGMENT):
        file = server.data / "pg_wal" / lsn.segment_name(timeline, start // SEGMENT, SEGMENT)
        with suppress(FileNotFoundError):  # recycled meanwhile
            upto = min(start + SEGMENT, end)
            assert content(store, archive, timeline, start, upto) == file.read_bytes()[: upto - start]
            compared += upto - start
    return compared


class Ledger:
    """Commits numbers one after the other, and records which of them were acknowledged."""

    def __init__(self, server: Postgres) -> None:
        self.url = server.url
        self.acknowledged = 0
        self.moments: list[float] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS ledger (n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp())"
            )
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(30)

    def _run(self) -> None:
        with suppress(psycopg.Error), psycopg.connect(self.url, autocommit=True) as connection:
            while not self._ending.wait(0.005):
                connection.execute("INSERT INTO ledger (n) VALUES (%s)", [self.acknowledged + 1])
                self.acknowledged += 1


@contextmanager
def without_slot(server: Postgres) -> Iterator[None]:
    """Drop the slot afterwards, so that the shared server keeps nothing."""
    yield
    with psycopg.connect(server.url, autocommit=True) as connection:
        until(
            lambda: (
                connection.execute(
                    "SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s", [NAME]
                ).fetchone()
                in ((True,), None)
            ),
            "the slot is free",
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s",
            [NAME],
        )


class standby:  # noqa: N801 - used like a function
    """A running standby of a server."""

    def __init__(self, primary: Postgres) -> None:
        folder = primary.folder.with_name(f"standby{secrets.token_hex(3)}")
        (folder / "data").mkdir(parents=True, mode=0o700)
        with WalSender.connect(parse(primary.url)) as sender:
            for archive in sender.base_backup("test", fast=True).archives():
                data = b"".join(iter(archive.read, b""))
                if archive.name == "base.tar":
                    unpack(data, folder / "data")
        (folder / "data" / "standby.signal").touch()
        (folder / "data" / "postgresql.auto.conf").write_text(f"primary_conninfo = '{primary.url}'\n")
        options = {"wal_keep_size": "512MB", "max_slot_wal_keep_size": "1GB"}
        self.server = Postgres(folder, programs=primary.programs, options=options)

    def __enter__(self) -> Postgres:
        return self.server.start()

    def __exit__(self, *exc: object) -> None:
        self.server.stop()


def unpack(data: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        # Python 3.11.2 of Debian 12 has no filters yet; the archive is our own server's.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)
