"""The environment of the benchmark of point-in-time recovery: a server, a store, the stream as a process, and our commands."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench import commands
from bench.environment import BUCKET, restoring
from sidecar.http import session
from stack.paths import ROOT
from stack.ports import HOST, choose
from stack.programs import postgres_bin
from stack.servers import ObjectStore, Postgres, Service
from stack.wait import wait_for

SERVER, DATABASE, SLOT = "main", "posthub", "posthub_wal"
WAIT_SECONDS = 600.0


@dataclass(frozen=True)
class Place:
    """A folder with a server and a store; ``env`` has the variables for both."""

    folder: Path
    postgres: Postgres
    store: ObjectStore
    env: Mapping[str, str]
    wal_port: int

    @property
    def bin(self) -> Path:
        return postgres_bin()

    @contextmanager
    def streaming(self) -> Iterator["Stream"]:
        """``wal serve`` while the block runs."""
        with Service(
            "wal",
            [sys.executable, "-m", "backup", "wal", "serve"],
            folder=self.folder / "wal",
            env=self.env,
            port=self.wal_port,
            ready="/readyz",
        ) as service:
            yield Stream(self, service)

    def backup(self, *arguments: str) -> tuple[dict[str, Any], int]:
        """Run one of our commands; its JSON, and the peak memory of its process in bytes."""
        return commands.backup(arguments, self.env)

    def listed(self) -> list[str]:
        """The base backups in the store."""
        printed = subprocess.run(
            [sys.executable, "-m", "backup", "list", "-d", SERVER, "--json"],
            env=dict(self.env),
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        return [str(each["id"]) for each in json.loads(printed)]

    def discard(self, backup_id: str) -> None:
        """Delete a base backup from the store."""
        client, prefix = self.store.client(), f"ours/{SERVER}/{backup_id}/"
        for each in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=each["Key"])

    def value(self, query: str) -> Any:
        """The first value of a query; None if it has none."""
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    def position(self) -> int:
        """The server's position in the WAL."""
        return int(self.value("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))

    def write_wal(self, megabytes: int) -> int:
        """Write WAL with the entropy of rows; returns the bytes that were written."""
        begin = self.position()
        with psycopg.connect(self.postgres.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS bench_wal (n bigint, body text, tag uuid)")
            while self.position() - begin < megabytes * 10**6:
                connection.execute(
                    "INSERT INTO bench_wal SELECT n, repeat(md5(n::text), 6) || md5(random()::text), gen_random_uuid()"
                    " FROM generate_series(1, 20000) n"
                )
        return self.position() - begin


@dataclass(frozen=True)
class Stream:
    """A running ``wal serve``."""

    place: Place
    service: Service

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        times = psutil.Process(self.service.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def peak(self) -> int:
        """Peak memory in bytes."""
        status = Path(f"/proc/{self.service.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def metric(self, name: str) -> float:
        """The value of a metric."""
        with session() as client:
            text = client.get(f"{self.service.url}/metrics", timeout=10).text
        line = next(line for line in text.splitlines() if line.startswith(f"{name}{{"))
        return float(line.rpartition(" ")[2])

    def await_metric(self, name: str, value: float) -> None:
        """Wait until a metric has a value."""
        wait_for(
            lambda: self.metric(name) == value,
            timeout=WAIT_SECONDS,
            what=f"{name} is {value:g}",
            hint=f"read {self.service.log}",
        )

    def await_stored(self) -> float:
        """Wait until the store has everything written so far; returns the seconds that this took."""
        began, end = time.monotonic(), self.place.position()
        asked = (
            f"SELECT pg_wal_lsn_diff(restart_lsn, '0/0') FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        )
        wait_for(
            lambda: int(self.place.value(asked) or 0) >= end,
            timeout=WAIT_SECONDS,
            what="the WAL is stored",
            hint=f"read {self.service.log}",
            interval=0.02,
        )
        return time.monotonic() - began


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """The server and the store, while the block runs."""
    # As in production, a commit is acknowledged only when its WAL is written.
    options = {"max_slot_wal_keep_size": "8GB", "synchronous_commit": "on"}
    with Postgres(folder / "postgres", options=options) as postgres, ObjectStore(folder / "s3") as store:
        port = choose()
        env = {
            **restoring(store, folder),
            "BACKUP_SERVERS": f"{SERVER}={postgres.url_for('postgres')}",
            "BACKUP_DATABASE_URLS": f"{DATABASE}={postgres.url}",
            "BACKUP_HOST": HOST,
            "BACKUP_WAL_PORT": str(port),
        }
        yield Place(folder, postgres, store, env, port)
