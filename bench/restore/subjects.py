"""The subjects: ours, the limit that no restore with pg_restore can beat, and the app's earlier script."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg

from bench import commands
from sidecar import OpsError
from stack.paths import ROOT
from stack.servers import ObjectStore

JOBS = 2
# Our restore sets it itself; the limit builds its indexes with the same amount.
MEMORY = {"PGOPTIONS": "-c maintenance_work_mem=256MB"}
SEED_KEY = "seed.sql.gz"


@dataclass(frozen=True)
class Measured:
    """One run.

    Attributes:
        seconds: for ours the restore: from the first byte of the download to a database that answers.
        whole: with the proof.
        rss: peak of our own process, in bytes; PostgreSQL's programs are not in it.
    """

    seconds: float
    whole: float | None = None
    rss: int | None = None
    stages: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Bench:
    """Where everything is. ``env`` has the variables for database and store; ``folder`` has the dumps of the others.

    Attributes:
        older: another checkout of this project, whose verification of its own backup is measured too.
    """

    url: str
    bin: Path
    folder: Path
    env: Mapping[str, str]
    store: ObjectStore
    older: Path | None = None

    def prepare(self) -> None:
        """The backup that is restored, and the same data in the formats of the others."""
        self._backup("run")
        if self.older is not None:
            self._backup("run", older=True)
        self._must(
            [str(self.bin / "pg_dump"), "-Fc", "-Z0", f"--file={self._archive}", f"--dbname={self.url}"]
        )
        dump = subprocess.Popen(
            [str(self.bin / "pg_dump"), f"--dbname={self.url}"], stdout=subprocess.PIPE, env=dict(self.env)
        )
        with self._gzipped.open("wb") as target:
            packed = subprocess.run(["gzip", "-c"], stdin=dump.stdout, stdout=target, check=False)
        if dump.wait() or packed.returncode:
            raise OpsError("pg_dump | gzip failed", hint="read what it printed")
        self.store.client().upload_file(str(self._gzipped), "bench", SEED_KEY)

    def limit(self) -> Measured:
        """``pg_restore -j2`` from a local uncompressed archive."""
        with self._empty("limit") as target:
            command = [
                str(self.bin / "pg_restore"),
                f"--jobs={JOBS}",
                f"--dbname={target.url}",
                str(self._archive),
            ]
            begin = time.monotonic()
            self._must(command, MEMORY)
            return Measured(time.monotonic() - begin)

    def seed(self) -> Measured:
        """The app's earlier script for restores: the file from the store, then ``gunzip | psql``."""
        with self._empty("seed") as target:
            begin = time.monotonic()
            self._gzipped.unlink(missing_ok=True)
            self.store.client().download_file("bench", SEED_KEY, str(self._gzipped))
            unpack = subprocess.Popen(["gunzip", "-c", str(self._gzipped)], stdout=subprocess.PIPE)
            command = [str(self.bin / "psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", f"--dbname={target.url}"]
            loaded = subprocess.run(
                command, stdin=unpack.stdout, stdout=subprocess.DEVNULL, check=False, env=dict(self.env)
            )
            if unpack.wait() or loaded.returncode:
                raise OpsError("gunzip | psql failed", hint="read what it printed")
            return Measured(time.monotonic() - begin)

    def ours(self) -> Measured:
        """``backup restore`` next to the live database: download, decryption, decompression, restore, proof, statistics."""
        with self._empty("ours", make=False) as target:
            begin = time.monotonic()
            facts, rss = self._backup("restore", "latest", "--into", target.name)
            return Measured(_restore(facts["stages"]), time.monotonic() - begin, rss, facts["stages"])

    def verification(self) -> Measured:
        """``backup verify``: the same into a throwaway server, which is created and removed in that time."""
        return self._verification()

    def today(self) -> Measured:
        """The same by the older checkout."""
        return self._verification(older=True)

    def _verification(self, *, older: bool = False) -> Measured:
        begin = time.monotonic()
        facts, rss = self._backup("verify", "latest", older=older)
        return Measured(facts["restore_seconds"], time.monotonic() - begin, rss, facts["stages"])

    @property
    def _archive(self) -> Path:
        return self.folder / "limit.dump"

    @property
    def _gzipped(self) -> Path:
        return self.folder / "seed.sql.gz"

    def _empty(self, name: str, *, make: bool = True) -> "_Target":
        return _Target(self.url, f"bench_{name}", make)

    def _must(self, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        if subprocess.run(list(command), env={**self.env, **(more or {})}, check=False).returncode:
            raise OpsError(f"{Path(command[0]).name} failed", hint="read what it printed")

    def _backup(self, *arguments: str, older: bool = False) -> tuple[dict[str, Any], int]:
        root = self.older if older and self.older is not None else ROOT
        env = {**self.env, "PYTHONPATH": str(root)}
        if older:
            env["BACKUP_STORE_URL"] += "-today"
        return commands.backup(arguments, env, root)


class _Target:
    """A database for one measurement, empty or not created yet."""

    def __init__(self, url: str, name: str, make: bool) -> None:
        self.name = name
        self.url = f"{url.rpartition('/')[0]}/{name}"
        self._server = url
        self._make = make

    def __enter__(self) -> Self:
        self._sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        if self._make:
            self._sql(f"CREATE DATABASE {self.name} TEMPLATE template0")
        self._sql("CHECKPOINT")
        return self

    def __exit__(self, *_: object) -> None:
        self._sql(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            connection.execute(statement.encode())


def _restore(stages: Mapping[str, float]) -> float:
    return sum(stages.get(stage, 0.0) for stage in ("download", "globals", "restore"))
