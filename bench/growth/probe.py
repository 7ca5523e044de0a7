"""Measures the backup sidecar of the checkout that is first on PYTHONPATH, and prints one JSON object.

It is run as a program, by ``bench.growth.backup``, so that an older checkout can be measured with its own code.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from inspect import signature
from threading import Lock
from types import ModuleType
from typing import Any

from backup.cli.common import find
from backup.service.state import new_state
from backup.settings import BackupSettings
from backup.store import MemoryStore, ObjectInfo, RetryingStore, RetryPolicy
from backup.wiring import Wiring, wire


def _first(*names: str) -> ModuleType:
    """The first of these modules that this checkout has: an older one has others."""
    for name in names[:-1]:
        with suppress(ImportError):
            return import_module(name)
    return import_module(names[-1])


read = _first("backup.replication.merged", "backup.reading").read
# Without the package, the folder of this program is searched.
documents = _first("bench.growth.first_format", "first_format").documents

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
    """A store with verified backups, one an hour, all with the same rows."""
    store = DistantStore()
    for key, data in documents(NAME, count, tables, same_rows=True):
        store.put(key, data)
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
    latest = timed(lambda: _latest(distant(store)))
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


def _latest(wiring: Wiring) -> None:
    """What a restore reads before its first byte."""
    finder: Any = find
    if "verified" in signature(finder).parameters:
        finder(wiring, NAME, "latest", verified=True)
        return
    # An older checkout reads the whole catalogue twice.
    finder(wiring, NAME, "latest", strict=True)
    read(wiring, [NAME])


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
