"""Base backups: each archive that the server sends is a source for the same pipeline that dumps go through.

A base backup is worthless without the WAL that was written while it ran. So it is complete only when the store has all
of that WAL, which ``wal serve`` puts there.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from psycopg import Connection
from psycopg.rows import TupleRow

from backup.catalogue.manifest import Physical, Server, ServerDatabase, StoredObject, Tablespace
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.engine import DumpContext, DumpResult, Lock, PreflightResult
from backup.errors import DumpError, PreflightError
from backup.physical import lsn
from backup.physical.archive import Archive, Stored
from backup.physical.spans import contiguous_end, spans
from backup.physical.walsender import MANIFEST, BaseArchive, BaseBackup, WalSender
from backup.pipeline import Source, transfer
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.lock import advisory_lock
from backup.postgres.session import session
from backup.store import Store

# "base" as a number. It differs from the key of dumps, so that both can run at the same time.
LOCK_KEY = 0x706F7374_62617365
# Maximum time for the WAL of the backup to arrive in the store.
LOG_SECONDS = 120.0
_POLL_SECONDS = 0.5
_SETTINGS = (
    "data_checksums",
    "wal_compression",
    "wal_level",
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
    "server_version",
    "shared_preload_libraries",
)
_DATABASES = """
SELECT datname, oid::bigint, datcollversion, dattablespace::bigint FROM pg_database WHERE datconnlimit <> -2 ORDER BY 1
"""
_SUPERUSER = "SELECT rolname FROM pg_roles WHERE rolsuper AND rolcanlogin ORDER BY oid LIMIT 1"
_SIZE = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database WHERE datconnlimit <> -2"
_HINT = "run it again; do not run CREATE DATABASE or ALTER DATABASE … SET TABLESPACE during the base backup"


@dataclass(frozen=True)
class ServerEngine:
    """See :class:`backup.engine.Engine`: base backups of a whole server.

    Attributes:
        name: the server's name in our settings.
        address: of its database ``postgres``.
        keys: sign the names of the WAL's objects, and identify those that are ours.
        fast: have the server write a checkpoint at once; a scheduled backup lets it take its time.
    """

    name: str
    address: Address
    keys: Keyring = field(default=NO_KEYS, repr=False)
    fast: bool = True

    def preflight(self) -> PreflightResult:
        with WalSender.connect(self.address, application="posthub-base") as sender:
            system = sender.identify()
            version = sender.show("server_version").split()[0]
        with session(self.address) as connection:
            if inventory.server(connection).standby:
                raise PreflightError(
                    f"{self.address} is a standby", hint="give the primary's address in BACKUP_SERVERS"
                )
            row = connection.execute(_SIZE).fetchone()
            ahead: timedelta = inventory.clock(connection) - datetime.now(UTC)
        size = int(row[0]) if row and row[0] is not None else 0
        return PreflightResult(
            client=f"BASE_BACKUP of {version}", size=size, system_identifier=system.identifier, clock=ahead
        )

    def lock(self) -> AbstractContextManager[Lock]:
        return advisory_lock(self.address, LOCK_KEY)

    def dump(self, context: DumpContext) -> DumpResult:
        """Store all archives, then wait until the store has the WAL up to the backup's end."""
        with (
            session(self.address) as connection,
            WalSender.connect(self.address, application="posthub-base", check=context.check) as sender,
        ):
            before = _places(connection)
            system, segment_size = sender.identify(), sender.segment_size()
            with context.timings.measure("dump"):
                # Its folder is the backup's ID in the store.
                backup = sender.base_backup(context.folder.rpartition("/")[2], fast=self.fast)
                objects = tuple(_store(archive, context) for archive in backup.archives())
            taken = inventory.clock(connection)
            _check_databases(before, _places(connection))
            server, physical = _facts(connection, backup, segment_size)
        archive = Archive(self.name, system.identifier, segment_size, self.keys)
        with context.timings.measure("log"):
            await_log(context.store, archive, physical, context.check)
        server = server.model_copy(update={"system_identifier": system.identifier})
        return DumpResult(taken=taken, server=server, objects=objects, facts={"physical": physical})


def await_log(
    store: Store,
    archive: Archive,
    physical: Physical,
    check: Callable[[], None],
    seconds: float = LOG_SECONDS,
) -> None:
    """Wait until a store has the WAL from a base backup's start to its end without a gap.

    Raises:
        DumpError: the WAL does not arrive in time.
    """
    deadline = time.monotonic() + seconds
    reached = lsn.segment_start(physical.start, physical.segment_size)
    while (reached := _reached(store, archive, physical.timeline, reached)) < physical.end:
        check()
        if time.monotonic() > deadline:
            raise DumpError(
                f"the base backup needs the WAL up to {lsn.text(physical.end)}, and the store has it up to"
                f" {lsn.text(reached)} after {seconds:.0f} s",
                hint="check that the WAL is streamed: python -m backup wal status; then run it again",
            )
        time.sleep(_POLL_SECONDS)


def _reached(store: Store, archive: Archive, timeline: int, position: int) -> int:
    """The first position from a given one on that the store lacks."""
    while True:
        name = lsn.segment_name(timeline, position // archive.segment_size, archive.segment_size)
        found = store.walk(f"{archive.prefix}{timeline:08X}/{name}")
        listing = archive.listing(Stored(info.key, info.size, info.modified) for info in found)
        end = contiguous_end(spans(listing.wal), timeline, position)
        if end == position or end % archive.segment_size:
            return end
        position = end


class _ArchiveSource(Source):
    """An archive of a base backup as the source of a pipeline."""

    def __init__(self, archive: BaseArchive) -> None:
        self._archive = archive

    def read(self) -> bytes | bytearray:
        return self._archive.read()

    def close(self) -> None:
        """Do nothing: the opener of the connection closes it."""


def _store(archive: BaseArchive, context: DumpContext) -> StoredObject:
    role: Literal["base", "tablespace", "base-manifest"] = (
        "base-manifest"
        if archive.name == MANIFEST
        else "base"
        if archive.name == "base.tar"
        else "tablespace"
    )
    return transfer(
        _ArchiveSource(archive),
        context.store,
        context.folder,
        archive.name,
        role=role,
        packing=context.packing,
        progress=context.progress,
    )


def _facts(
    connection: Connection[TupleRow], backup: BaseBackup, segment_size: int
) -> tuple[Server, Physical]:
    assert backup.end is not None
    if backup.end_timeline != backup.timeline:
        raise DumpError("the server was promoted while the base backup ran", hint="run it again")
    server = inventory.server(connection)
    superuser = connection.execute(_SUPERUSER).fetchone()
    if superuser is None:
        raise DumpError(
            "no superuser of the server may log in, so a recovered server could not be queried",
            hint=f"ALTER ROLE {server.superuser} LOGIN;",
        )
    physical = Physical(
        timeline=backup.timeline,
        start=backup.start,
        end=backup.end,
        segment_size=segment_size,
        tablespaces=tuple(
            Tablespace(oid=each.oid, location=each.location or "")
            for each in backup.tablespaces
            if each.oid is not None
        ),
        settings=_settings(connection),
        databases=tuple(_databases(connection)),
    )
    return server.model_copy(update={"superuser": str(superuser[0])}), physical


def _settings(connection: Connection[TupleRow]) -> dict[str, str]:
    rows = connection.execute(
        "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) AND setting IS NOT NULL",
        [list(_SETTINGS)],
    )
    return {str(name): str(value) for name, value in rows}


def _databases(connection: Connection[TupleRow]) -> Iterator[ServerDatabase]:
    for name, oid, version, _ in connection.execute(_DATABASES).fetchall():
        yield ServerDatabase(name=str(name), oid=int(oid), collation_version=str(version or ""))


def _places(connection: Connection[TupleRow]) -> Mapping[int, int]:
    """The tablespace of each database, by its object id."""
    return {int(row[1]): int(row[3]) for row in connection.execute(_DATABASES)}


def _check_databases(before: Mapping[int, int], after: Mapping[int, int]) -> None:
    """Warn of databases that are copied file by file during the backup: they may come back with rows that they never had.

    CREATE DATABASE does so with STRATEGY FILE_COPY, which only the WAL distinguishes from the default; moving a database to another
    tablespace always does.
    """
    if any(before.get(oid) != place for oid, place in after.items()):
        raise DumpError("a database was created or moved while the base backup ran", hint=_HINT)
