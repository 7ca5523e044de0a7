"""The curves of whole commands and of the running service, on a store with many backups."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psutil
import psycopg

from bench.exporter.measure import Workshop
from bench.growth.distance import Distance
from bench.growth.exporter import Cost
from bench.growth.first_format import documents
from sidecar.cli import stderr_console
from sidecar.errors import OpsError
from sidecar.http import answers
from stack.ports import HOST, choose
from stack.programs import postgres_bin
from stack.servers import ObjectStore, Postgres

NAME = "shop"
BUCKET = "bench"
LATENCY = 0.03
TABLES = 25
BACKUPS = 100
# At this number, each command is carried out twice, and measured with its bytecode compiled.
FEWEST = 10
REFRESH_SECONDS = 5.0
REFRESHES = 4
PATIENCE = 600.0
SMALL = "CREATE TABLE t (id serial PRIMARY KEY, body text); INSERT INTO t (body) SELECT md5(i::text) FROM generate_series(1, 1000) i"
# A table with a sequence and two indexes.
MANY = (
    "DO $$ BEGIN FOR i IN {} LOOP EXECUTE format("
    "'CREATE TABLE t%s (id serial PRIMARY KEY, other int UNIQUE)', i); END LOOP; END $$"
)
# A transaction must not create more tables than the server has locks for.
AT_ONCE = 200
COMMANDS = {
    "list": ["list"],
    "prune --dry-run": ["prune", "--dry-run"],
    "restore latest --dry-run": ["restore", "latest", "--dry-run"],
}


def fill(folder: Path, count: int, tables: int) -> None:
    """Write verified backups, one an hour; in each of them, every table has a different number of rows."""
    for key, data in documents(NAME, count, tables):
        place = folder / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def commands(shop: Workshop, folder: Path, count: int) -> list[Cost]:
    """Commands on verified backups of 25 tables in a bucket that is 30 ms away."""
    shop.made += 1
    objects = ObjectStore(shop.folder / f"s3-{shop.made}")
    fill(objects.objects / BUCKET, count, TABLES)
    with objects, Postgres(shop.folder / f"postgres-{shop.made}") as server:
        with psycopg.connect(server.url, autocommit=True) as link:
            link.execute(f"CREATE DATABASE {NAME}".encode())
        costs: list[Cost] = []
        for name, words in COMMANDS.items():
            with Distance(int(objects.port), LATENCY) as distance:
                environ = {
                    **_compiled(shop),
                    "BACKUP_DATABASE_URLS": f"{NAME}={server.url_for(NAME)}",
                    "BACKUP_STORE_URL": f"s3://{BUCKET}",
                    "BACKUP_S3_ENDPOINT_URL": f"http://{HOST}:{distance.port}",
                    "BACKUP_S3_ACCESS_KEY_ID": objects.access_key,
                    "BACKUP_S3_SECRET_ACCESS_KEY": objects.secret_key,
                }
                if count == FEWEST:
                    _carried_out(folder, words, environ)
                distance.requests = 0
                took, used = _carried_out(folder, words, environ)
                costs += [
                    Cost(f"{name}, s", took),
                    Cost(f"{name}, CPU s", used),
                    Cost(f"{name}, requests", distance.requests),
                ]
        return costs


def _compiled(shop: Workshop) -> dict[str, str]:
    """The variables with which a program keeps its bytecode, as the image does: otherwise, compiling it takes longer than the rest."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(shop.folder / "bytecode")}


def _carried_out(folder: Path, words: list[str], environ: dict[str, str]) -> tuple[float, float]:
    """Seconds and CPU seconds of a command of a checkout.

    Raises:
        OpsError: it failed.
    """
    began = time.monotonic()
    with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - not one of our paths
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backup", *words],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), "LOG_LEVEL": "WARNING", **environ},
            stdout=nothing,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise OpsError(f"{' '.join(words)} exited with {process.returncode}", hint="see its messages above")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime


def service(shop: Workshop, folder: Path, tables: int) -> list[Cost]:
    """The service over 100 backups, each with this number of tables, whose rows differ; the store is a folder."""
    shop.made += 1
    store = shop.folder / f"store-{shop.made}"
    fill(store, BACKUPS, tables)
    with _serving(shop, folder, store) as process:
        _until_steady(process)
        before = process.cpu_times()
        time.sleep(REFRESHES * REFRESH_SECONDS)
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        return [
            Cost("the service, MB", process.memory_info().rss / 1e6),
            Cost("a refresh with nothing changed, CPU ms", used / REFRESHES * 1e3),
        ]


@contextmanager
def _serving(shop: Workshop, folder: Path, store: Path) -> Iterator[psutil.Process]:
    """The service of a checkout that has read its store."""
    port = choose()
    environ = {
        "BACKUP_DATABASE_URLS": f"{NAME}=postgresql://nobody@{HOST}:1/{NAME}",
        "BACKUP_STORE_URL": f"file://{store}",
        "BACKUP_CATALOGUE_REFRESH": str(REFRESH_SECONDS),
        "BACKUP_CATCH_UP": "false",
        "BACKUP_SCHEDULE": "0 0 1 1 *",
        "BACKUP_VERIFY_SCHEDULE": "0 0 1 1 *",
        "BACKUP_PRUNE_SCHEDULE": "0 0 1 1 *",
        "BACKUP_HOST": HOST,
        "BACKUP_PORT": str(port),
        **_compiled(shop),
    }
    log = shop.folder / f"service-{shop.made}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "backup", "serve"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(folder), **environ},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        end = time.monotonic() + PATIENCE
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > end:
                raise OpsError("the service does not get ready", hint=log.read_text()[-300:])
            time.sleep(0.2)
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _ready(port: int) -> bool:
    return answers(f"http://{HOST}:{port}/readyz")


def _until_steady(process: psutil.Process) -> None:
    """Wait for two whole refreshes: the old catalogue and the new one may be in memory together."""
    end = time.monotonic() + 2 * REFRESH_SECONDS
    while time.monotonic() < end or process.cpu_percent(interval=1.0) > 80:
        if time.monotonic() > end + PATIENCE:
            stderr_console().print("the service is never idle")
            return


def tables(shop: Workshop, folder: Path, count: int) -> list[Cost]:
    """A run over many tables, each with a sequence and two indexes, on a server with default settings."""
    with _postgres(shop) as server:
        with psycopg.connect(server.url, autocommit=True) as link:
            for start in range(0, count, AT_ONCE):
                link.execute(MANY.format(f"{start + 1}..{min(start + AT_ONCE, count)}").encode())
        with _most_locks(server) as most:
            took, used = _carried_out(folder, ["run"], {**_stored(shop), "DATABASE_URL": server.url})
        return [Cost("run, s", took), Cost("run, CPU s", used), Cost("run, locks at once", max(most))]


@contextmanager
def _most_locks(server: Postgres) -> Iterator[list[int]]:
    """The number of locks of all sessions, sampled several times a second."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        with psycopg.connect(server.url, autocommit=True) as link:
            while not over.wait(0.1):
                row = link.execute("SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()").fetchone()
                seen.append(row[0] if row else 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def databases(shop: Workshop, folder: Path, count: int) -> list[Cost]:
    """A round over many small databases of one server, each verified."""
    with _postgres(shop) as server:
        names = [f"db{number}" for number in range(count)]
        for name in names:
            with psycopg.connect(server.url, autocommit=True) as link:
                link.execute(f"CREATE DATABASE {name}".encode())
            with psycopg.connect(server.url_for(name), autocommit=True) as link:
                link.execute(SMALL)
        urls = ",".join(f"{name}={server.url_for(name)}" for name in names)
        environ = {**_stored(shop), "BACKUP_DATABASE_URLS": urls}
        took, used = _carried_out(folder, ["run", "--verify"], environ)
        manifests = Path(environ["BACKUP_STORE_URL"].removeprefix("file://")).glob("*/*/manifest.json")
        moments = [datetime.fromisoformat(json.loads(each.read_bytes())["taken"]) for each in manifests]
        return [
            Cost("run --verify, s", took),
            Cost("run --verify, CPU s", used),
            Cost("first to last snapshot, s", (max(moments) - min(moments)).total_seconds() or 0.01),
        ]


def _postgres(shop: Workshop) -> Postgres:
    shop.made += 1
    return Postgres(shop.folder / f"postgres-{shop.made}")


def _stored(shop: Workshop) -> dict[str, str]:
    store = shop.folder / f"store-{shop.made}"
    store.mkdir()
    return {
        "BACKUP_STORE_URL": f"file://{store}",
        "BACKUP_POSTGRES_BIN": str(postgres_bin()),
        **_compiled(shop),
    }


CURVES = {
    "commands": ("backups, 30 ms away", (FEWEST, 100, 1_000), commands),
    "tables": ("tables", (100, 1_000, 8_000), tables),
    "databases": ("databases", (1, 10, 50), databases),
    "service": (f"tables in each of {BACKUPS} backups", (100, 1_000, 3_000), service),
}
