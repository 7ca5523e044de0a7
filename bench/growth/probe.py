"""Measures the backup sidecar of the checkout that is first on PYTHONPATH, and prints one JSON object.

It is run as a program, by ``bench.growth.backup``, so that an older checkout can be measured with its own code.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock

from backup.catalogue import ids, layout
from backup.catalogue.document import encode
from backup.catalogue.manifest import Manifest, Server, StoredObject, Table
from backup.catalogue.records import Report
from backup.cli.common import find
from backup.replication.merged import read
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import MemoryStore, ObjectInfo, RetryingStore, RetryPolicy
from backup.wiring import Wiring, wire

LATENCY = 0.03
PAGE = 1000
BACKUPS = 50
REFRESHES = 3
NAME = "shop"
Costs = dict[str, float]


class DistantStore(MemoryStore):
    """A store that is some milliseconds away, and counts its requests as S3 would: a listing has pages."""

    parallel = 16

    def __init__(self) -> None:
        self.seconds = 0.0
        self.requests = 0
        self._counting = Lock()
        super().__init__(fault=self._request)

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Without hashing every object: a server does not do that either."""
        self._request("list", prefix)
        for key, (data, modified) in sorted(self.objects.items()):
            if key.startswith(prefix):
                yield ObjectInfo(key, len(data), modified, f"{id(data):x}")

    def _request(self, operation: str, key: str) -> None:
        pages = 1
        if operation == "list":
            pages = 1 + sum(each.startswith(key) for each in self.objects) // PAGE
        with self._counting:
            self.requests += pages
        if self.seconds:
            time.sleep(self.seconds * pages)


def filled(count: int, tables: int) -> DistantStore:
    """A store with verified backups, one an hour."""
    store = DistantStore()
    rows = tuple(Table(schema="public", name=f"table_{number}", rows=number) for number in range(tables))
    now = datetime.now(UTC).replace(microsecond=0)
    for number in range(count):
        moment = now - timedelta(hours=count - number)
        archive = StoredObject(
            name="database.dump.zst", role="archive", raw_bytes=1, stored_bytes=1, sha256="0" * 64
        )
        made = Manifest(
            id=ids.new_id(moment),
            database=NAME,
            kind="postgres",
            taken=moment,
            started=moment,
            finished=moment,
            tool="bench",
            client="18",
            server=Server(version="18", version_number=180000),
            objects=(archive,),
            tables=rows,
        )
        folder, data = layout.folder(NAME, made.id), made.encode()
        store.put(f"{folder}/{archive.name}", b"0")
        store.put(f"{folder}/{layout.MANIFEST}", data)
        proof = Report(
            backup=made.id,
            database=NAME,
            started=moment,
            finished=moment,
            ok=True,
            manifest=Manifest.decode(data, "").digest,
        )
        store.put(layout.report(NAME, made.id, moment), encode(proof))
    store.requests = 0
    return store


def distant(store: DistantStore) -> Wiring:
    wiring = wire(
        BackupSettings.load({**os.environ, "BACKUP_DATABASE_URLS": f"{NAME}=postgresql://a/{NAME}"})
    )
    return replace(wiring, store=RetryingStore(store, RetryPolicy(attempts=1)))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def backups(count: int) -> Costs:
    store = filled(count, 25)
    wiring, store.seconds = distant(store), LATENCY
    listed = timed(lambda: read(wiring, [NAME]))
    asked, store.requests = store.requests, 0
    latest = timed(lambda: find(distant(store), NAME, "latest", verified=True))
    few, store.seconds = store.requests, 0.0
    state = new_state(distant(store))
    state.refresh()
    before = time.process_time()
    for _ in range(REFRESHES):
        state.refresh()
    return {
        "list, 30 ms from the store, s": listed,
        "list, requests": asked,
        "latest, 30 ms from the store, s": latest,
        "latest, requests": few,
        "refresh with nothing changed, CPU ms": (time.process_time() - before) / REFRESHES * 1e3,
    }


def manifests(tables: int) -> Costs:
    wiring = distant(filled(BACKUPS, tables))
    before = _resident()
    kept = read(wiring, [NAME])
    assert len(kept.history(NAME).backups) == BACKUPS
    return {f"catalogue of {BACKUPS} backups, MB": max(0.1, _resident() - before)}


def _resident() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123 - as short as that
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


PROBES: dict[str, Callable[[int], Costs]] = {
    "backups": backups,
    "manifests": manifests,
}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](int(sys.argv[2]))))
