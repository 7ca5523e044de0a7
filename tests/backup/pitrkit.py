"""A primary that keeps its log in a folder, base backups of it, and recoveries from both, for one version of PostgreSQL."""

import hashlib
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Self

import psycopg
import pyrage
import zstandard
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.cancellation import never
from backup.errors import VerificationError
from backup.load.throwaway import SERVER, private_folder
from backup.physical import lsn, recover, unpack
from backup.physical.archive import Archive
from backup.physical.feed import Feed
from backup.physical.walsender import Wal, WalSender
from backup.pipeline.encrypt import encrypt
from backup.programs import Programs, clean_environment
from backup.targets import ServerTarget
from backup.wiring import Wiring
from sidecar.rootless import rootless
from stack.servers.postgres import Postgres
from stack.wait import wait_for

SEGMENT = 1 << 24
IDENTITY = pyrage.x25519.Identity.generate()
LEDGER = "CREATE TABLE ledger (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())"


def settings_of(server: Postgres, store_url: str, folder: Path) -> dict[str, str]:
    """Settings for physical backups of a server, encrypted and signed."""
    work = folder / "work"
    work.mkdir()
    return {
        "BACKUP_SERVERS": f"main={server.url}",
        "BACKUP_STORE_URL": store_url,
        "BACKUP_POSTGRES_BIN": str(server.programs),
        "BACKUP_AGE_RECIPIENTS": str(IDENTITY.to_public()),
        "BACKUP_AGE_IDENTITY": str(IDENTITY),
        "BACKUP_MANIFEST_KEY": "k" * 32,
        "BACKUP_WORK_DIR": str(work),
        "BACKUP_STORE_ATTEMPTS": "2",
    }


class Primary(Postgres):
    """A server of one version; every finished segment is copied to ``wal``."""

    def __init__(self, folder: Path, programs: Path, options: Mapping[str, str] | None = None) -> None:
        self.wal = folder / "wal"
        keep = {
            "archive_mode": "on",
            "archive_command": f"cp %p {self.wal}/%f",
            "max_prepared_transactions": "5",
        }
        super().__init__(folder, options={"unix_socket_directories": str(folder), **keep, **(options or {})})
        self.programs = programs

    def command(self) -> Sequence[str]:
        command = super().command()
        return [str(self.programs / "postgres") if word.endswith("/postgres") else word for word in command]

    def prepare(self) -> None:
        self.wal.mkdir(exist_ok=True)
        super().prepare()

    def _initialise(self) -> None:
        command = [
            str(self.programs / "initdb"),
            "-D",
            str(self.data),
            "-U",
            "posthub",
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]
        subprocess.run(rootless(command), check=True, capture_output=True, env=self.environment())
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("host replication all all trust\n")

    @contextmanager
    def session(self, database: str = "posthub") -> Iterator[Connection[TupleRow]]:
        with psycopg.connect(self.url_for(database), autocommit=True) as connection:
            yield connection

    def value(self, query: str, database: str = "posthub") -> object:
        with self.session(database) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]

    def switch(self) -> int:
        """Finish the segment, and wait until it is stored; returns the previous end of the log."""
        end = lsn.parse(str(self.value("SELECT pg_current_wal_insert_lsn()")))
        name = self.value("SELECT pg_walfile_name(pg_switch_wal())")
        while self.value("SELECT last_archived_wal FROM pg_stat_archiver") != name:
            pass
        return end

    def base(self, folder: Path) -> Path:
        """A base backup as archives, without the log."""
        command = [
            str(self.programs / "pg_basebackup"),
            "-D",
            str(folder),
            "-Ft",
            "-X",
            "none",
            "-c",
            "fast",
            "-U",
            "posthub",
            "-h",
            str(self.folder),
            "-p",
            str(self.port),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
        assert done.returncode == 0, done.stderr
        return folder


@contextmanager
def unpacked(base: Path, parent: Path) -> Iterator[Path]:
    """A base backup in a private folder."""
    with private_folder(parent) as folder:
        (folder / SERVER).mkdir()
        with (base / "base.tar").open("rb") as archive:
            unpack.unpack(archive, folder / recover.DATA, never)
        yield folder


def feed(folder: Path, wal: Path, *, without: Sequence[str] = ()) -> Callable[[str], Feed]:
    """The stored log, from a segment on."""
    names = sorted(path.name for path in wal.iterdir() if len(path.name) == 24)

    def fetch(name: str, target: Path) -> None:
        if name in without:
            raise VerificationError(f"{name} is missing from the store", hint="choose another target")
        target.write_bytes((wal / name).read_bytes())

    return lambda first: Feed(
        folder, [name for name in names if name >= first], fetch, server=folder / SERVER
    )


@contextmanager
def recovered(
    primary: Primary,
    base: Path,
    target: Mapping[str, str],
    parent: Path,
    *,
    without: Sequence[str] = (),
) -> Iterator[recover.Paused]:
    """A server at a target."""
    with (
        unpacked(base, parent) as folder,
        recover.paused(
            Programs(primary.programs),
            folder,
            "posthub",
            feed(folder, primary.wal, without=without),
            target,
            options={},
            check=never,
        ) as server,
    ):
        yield server


class Archiver(threading.Thread):
    """Stores the log of a server as it arrives, in the store's own format: a minimal ``wal serve``."""

    def __init__(self, wiring: Wiring, server: ServerTarget) -> None:
        super().__init__(name="archiver", daemon=True)
        self._wiring = wiring
        self._server = server
        self._closing = threading.Event()
        self.stored = 0
        self._slot = f"archiver_{secrets.token_hex(4)}"
        with WalSender.connect(server.address) as sender:
            sender.create_slot(self._slot)
            system, size = sender.identify(), sender.segment_size()
        self.archive = Archive(server.name, system.identifier, size, wiring.keys)
        self._timeline, self._position = system.timeline, lsn.segment_start(system.position, size)

    def run(self) -> None:
        size = self.archive.segment_size
        with WalSender.connect(self._server.address) as sender:
            stream = sender.stream(self._position, self._timeline, slot=self._slot)
            data, start = bytearray(), self._position
            while not self._closing.is_set():
                message = stream.read(0.1)
                if isinstance(message, Wal):
                    data += message.data
                    if len(data) < size - start % size and len(data) < 1 << 18:
                        continue
                while data:
                    end = min(start + len(data), lsn.segment_end(start, size))
                    self._store(start, bytes(data[: end - start]))
                    del data[: end - start]
                    start = self.stored = end
                stream.confirm(start, start)

    def _store(self, start: int, plain: bytes) -> None:
        digest = hashlib.sha256(plain).hexdigest()
        key = self.archive.wal_key(self._timeline, start, start + len(plain), digest)
        packed = BytesIO()
        encrypt(BytesIO(zstandard.compress(plain)), packed, self._wiring.packing.recipients)
        self._wiring.store.put(key, packed.getvalue())

    def wait_for(self, position: int) -> None:
        """Wait until the store has the log up to a position."""
        wait_for(
            lambda: self.stored >= position, timeout=60, what="the log is stored", hint="see the archiver"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def finish(self) -> None:
        """Store nothing more."""
        self._closing.set()
        self.join()

    def __exit__(self, *exc: object) -> None:
        self.finish()
        with WalSender.connect(self._server.address) as sender:
            sender.drop_slot(self._slot)
