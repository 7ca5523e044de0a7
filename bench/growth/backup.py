"""The backup sidecar's curves. Each point is measured by a process of the checkout, so that an older one can be compared."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.exporter.measure import Workshop
from bench.growth.exporter import Cost
from sidecar.cli import stderr_console
from stack.programs import postgres_bin
from stack.servers import Postgres

PROBE = Path(__file__).with_name("probe.py")
SECONDS = 900.0
SMALL = "CREATE TABLE t (id serial PRIMARY KEY, body text); INSERT INTO t (body) SELECT md5(i::text) FROM generate_series(1, 1000) i"
# A table with a sequence and two indexes.
MANY = (
    "DO $$ BEGIN FOR i IN {} LOOP EXECUTE format("
    "'CREATE TABLE t%s (id serial PRIMARY KEY, other int UNIQUE)', i); END LOOP; END $$"
)
# A transaction must not create more tables than the server has locks for.
AT_ONCE = 200


def probed(folder: Path, curve: str, size: int, **environ: str) -> list[Cost]:
    """What the probe measures with the code of a checkout; empty if the probe fails."""
    done = subprocess.run(
        [sys.executable, "-P", str(PROBE), curve, str(size)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "BACKUP_STORE_URL": "file:///nonexistent", **environ},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        stderr_console().print(f"{curve} {size:,}: {(done.stderr.splitlines() or ['?'])[-1]}", soft_wrap=True)
        return []
    return [Cost(what, value) for what, value in json.loads(done.stdout.splitlines()[-1]).items()]


def backups(_: Workshop, folder: Path, count: int) -> list[Cost]:
    """Verified backups of 25 tables in a store that answers after 30 ms."""
    return probed(folder, "backups", count)


def manifests(_: Workshop, folder: Path, tables: int) -> list[Cost]:
    """Tables of each of 50 backups."""
    return probed(folder, "manifests", tables)


def tables(shop: Workshop, folder: Path, count: int) -> list[Cost]:
    """A database of many tables, each with a sequence and two indexes, on a server with default settings."""
    with _postgres(shop) as server:
        with psycopg.connect(server.url, autocommit=True) as link:
            for start in range(0, count, AT_ONCE):
                link.execute(MANY.format(f"{start + 1}..{min(start + AT_ONCE, count)}").encode())
        return probed(folder, "tables", count, **_environ(shop), DATABASE_URL=server.url)


def databases(shop: Workshop, folder: Path, count: int) -> list[Cost]:
    """The nightly round of the service over many small databases, each verified."""
    with _postgres(shop) as server:
        names = [f"db{number}" for number in range(count)]
        for name in names:
            with psycopg.connect(server.url, autocommit=True) as link:
                link.execute(f"CREATE DATABASE {name}".encode())
            with psycopg.connect(server.url_for(name), autocommit=True) as link:
                link.execute(SMALL)
        urls = ",".join(f"{name}={server.url_for(name)}" for name in names)
        return probed(folder, "databases", count, **_environ(shop), BACKUP_DATABASE_URLS=urls)


def _postgres(shop: Workshop) -> Postgres:
    shop.made += 1
    return Postgres(shop.folder / f"postgres-{shop.made}")


def _environ(shop: Workshop) -> dict[str, str]:
    store = shop.folder / f"store-{shop.made}"
    store.mkdir()
    return {"BACKUP_STORE_URL": f"file://{store}", "BACKUP_POSTGRES_BIN": str(postgres_bin())}


# Name of a curve → what its size counts, its sizes, the measurement.
CURVES: dict[str, tuple[str, tuple[int, ...], Callable[[Workshop, Path, int], list[Cost]]]] = {
    "backups": ("backups", (10, 100, 1_000), backups),
    "manifests": ("tables in each of 50 backups", (100, 1_000, 3_000), manifests),
    "tables": ("tables", (100, 1_000, 3_000), tables),
    "databases": ("databases", (1, 5, 20), databases),
}
