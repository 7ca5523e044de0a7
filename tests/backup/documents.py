"""Minimal backups, for tests of signatures and of reading."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from backup.catalogue import ids, layout
from backup.catalogue.document import encode
from backup.catalogue.history import History
from backup.catalogue.manifest import Manifest, Role, Server, StoredObject
from backup.catalogue.reader import Reader
from backup.catalogue.records import Attempt, Report
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.store import Store

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
KEYS = Keyring.parse("k" * 32)
OTHERS = Keyring.parse("o" * 32)
SERVER = Server(version="18.6", version_number=180006)


# The objects of a base backup without tablespaces.
BASE_ROLES: dict[str, Role] = {"base.tar": "base", "backup_manifest": "base-manifest"}
_OBJECTS: dict[str, tuple[str, Role]] = {
    "postgres": ("database.dump.zst", "archive"),
    "redis": ("dump.rdb.zst", "rdb"),
    "server": ("base.tar.zst", "base"),
}


def manifest(moment: datetime = NOW, *, size: int = 10, database: str = "shop", **more: Any) -> Manifest:
    """A backup that was taken at a moment."""
    name, role = _OBJECTS[more.get("kind", "postgres")]
    stored = StoredObject(name=name, role=role, raw_bytes=size, stored_bytes=size, sha256="0" * 64)
    values: dict[str, Any] = {
        "id": ids.new_id(moment),
        "database": database,
        "kind": "postgres",
        "taken": moment,
        "started": moment,
        "finished": moment + timedelta(seconds=5),
        "tool": "test",
        "client": "18.6",
        "server": SERVER,
        "objects": (stored,),
        **more,
    }
    return Manifest(**values)


def report(made: Manifest, keys: Keyring = NO_KEYS, **more: Any) -> Report:
    """A verification of it that passed."""
    moment = made.finished + timedelta(minutes=1)
    values: dict[str, Any] = {
        "backup": made.id,
        "database": made.database,
        "started": moment,
        "finished": moment,
        "ok": True,
        "manifest": Manifest.decode(made.encode(keys), "").digest,
        **more,
    }
    return Report(**values)


def put(store: Store, made: Manifest, keys: Keyring = NO_KEYS, *, proven: bool = True) -> str:
    """Store a backup as a run and its verification would; returns its folder."""
    folder = layout.folder(made.database, made.id)
    for stored in made.objects:
        store.put(f"{folder}/{stored.name}", b"0" * stored.stored_bytes)
    store.put(f"{folder}/{layout.MANIFEST}", made.encode(keys))
    if proven:
        found = report(made, keys)
        store.put(layout.report(made.database, made.id, found.finished), encode(found, keys))
    return folder


def attempt(moment: datetime = NOW, **more: Any) -> Attempt:
    """A successful run."""
    values: dict[str, Any] = {
        "id": ids.new_id(moment),
        "kind": "backup",
        "database": "shop",
        "outcome": "success",
        "started": moment,
        "finished": moment,
        "totals": {"success": 3},
        **more,
    }
    return Attempt(**values)


def put_attempt(store: Store, tried: Attempt, keys: Keyring = NO_KEYS) -> str:
    key = layout.attempt(tried.database, tried.id, tried.kind)
    store.put(key, encode(tried, keys))
    return key


def history(store: Store, keys: Keyring = NO_KEYS, now: datetime = NOW) -> History:
    return Reader(store, keys).read(now).history("shop")


def redigested(value: dict[str, Any]) -> bytes:
    """What an attacker without a key can forge: the digest matches, the signature is the old one."""
    body = {name: each for name, each in value.items() if name not in ("digest", "key", "mac")}
    text = json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False).encode()
    whole = {**value, "digest": hashlib.sha256(text).hexdigest()}
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False).encode()
