"""Checks of the stores: what a run does with them is tried with small objects."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from backup.doctor.check import MAX_SKEW_SECONDS, Check, Shared
from backup.errors import KeptError, StoreError
from backup.store import NoDeleteStore, PartSizes, RetryingStore, Store, Upload
from backup.wiring import Wiring
from sidecar.humanize import size

PROBE = ".doctor/probe"
# As large as a run's parts: a proxy in front of the store may refuse larger requests.
PROBE_BYTES = PartSizes().first
LOCKED_SECONDS = 90
# How servers name a lock when they refuse to delete an object.
_LOCKED = re.compile(r"lock|retention|retain|worm|immutab", re.IGNORECASE)


def checks(wiring: Wiring, store: RetryingStore, known: Shared) -> Iterator[Check]:
    """A store that cannot be reached gets one result."""
    name = f"store {store.name}"
    asked = partial(known.asked, name)
    access = asked(f"{name}: access", lambda: _access(wiring, store))
    yield access
    if access.ok:
        yield asked(f"{name}: put, get, delete", lambda: _small_object(store))
        if wiring.settings.s3_object_lock_days and store.name != "spool":
            yield asked(f"{name}: lock", lambda: _lock(store))
        yield asked(f"{name}: multipart", lambda: _multipart(store))
        yield asked(f"{name}: clock", lambda: _clock(store))


def _access(wiring: Wiring, store: Store) -> str:
    store.check()
    for target in wiring.targets:
        list(store.walk(f"{target.name}/"))  # a run reads the whole listing
    # Test objects that an earlier doctor could not delete, because they were locked.
    with suppress(StoreError):
        store.delete([info.key for info in store.walk(".doctor/")])
    return store.url


def _probe_key(store: RetryingStore) -> str:
    """A key for a test object; always the same one if it cannot be deleted, unless the store does not allow it to be replaced."""
    if isinstance(store.inner, NoDeleteStore):
        if store.head(PROBE) is None:
            return PROBE
        with suppress(KeptError):
            store.put(PROBE, secrets.token_bytes(8))
            return PROBE
    return f".doctor/{secrets.token_hex(6)}"


def _forget(store: Store, key: str) -> None:
    """Another check covers whether it may be deleted."""
    with suppress(StoreError):
        store.delete([key])


def _small_object(store: RetryingStore) -> str | Check:
    key, data = _probe_key(store), secrets.token_bytes(64)
    store.put(key, data)
    try:
        if store.get(key) != data:
            raise StoreError("it returned different bytes", hint="do not use this store", operation="get")
        if key not in {info.key for info in store.walk(".doctor/")}:
            raise StoreError("it does not list the object", hint="do not use this store", operation="list")
    finally:
        kept = _why_kept(store, key)
    if isinstance(store.inner, NoDeleteStore):
        if kept:
            return "put and get work; it cannot delete, as intended"
        fix = "give it a key without s3:DeleteObject: docs/two-keys.md"
        return Check(
            f"store {store.name}: put, get, delete", None, "BACKUP_DELETE=never, but this key can delete", fix
        )
    if kept and (locked := store.default_retention() or _LOCKED.search(kept)):
        how_long = locked if isinstance(locked, str) else "a time that this key may not read"
        return Check(
            f"store {store.name}: put, get, delete",
            None,
            f"all three work; the bucket locks everything for {how_long}, including the test objects",
            "none needed",
        )
    if kept:
        raise StoreError(
            f"it did not delete the test object: {kept}",
            hint="allow s3:DeleteObject, or set BACKUP_DELETE=never: docs/two-keys.md",
            operation="delete",
        )
    return "all three work"


def _why_kept(store: RetryingStore, key: str) -> str | None:
    """Why the key cannot delete, regardless of this process's own limits; None if it can."""
    real = store.inner.inner if isinstance(store.inner, NoDeleteStore) else store
    try:
        refused = real.delete([key])
    except StoreError as error:
        return error.message
    return refused[0].reason if refused else None


def _lock(store: RetryingStore) -> str:
    """Store a locked object, as a run does. Its retention is short, so that the next doctor can remove it."""
    key = _probe_key(store)
    soon = datetime.now(UTC) + timedelta(seconds=LOCKED_SECONDS)
    store.put(key, b"lock", retain_until=soon)
    if _why_kept(store, key) is None and datetime.now(UTC) < soon - timedelta(seconds=MAX_SKEW_SECONDS):
        raise StoreError(
            "the store set a retention lock, and deleted the object regardless",
            hint="use a store that supports Object Lock, or set BACKUP_S3_OBJECT_LOCK_DAYS=0",
            operation="lock",
        )
    upload = store.begin(_probe_key(store), retain_until=soon)
    with _aborted(upload):
        upload.part(1, 0, b"lock")
        upload.complete()
    return "objects are locked"


@contextmanager
def _aborted(upload: Upload) -> Iterator[None]:
    """Drop an upload whose block fails. Why it failed matters more than what then remains of it."""
    try:
        yield
    except BaseException:
        with suppress(StoreError):
            upload.abort()
        raise


def _multipart(store: RetryingStore) -> str | Check:
    key, part = _probe_key(store), os.urandom(PROBE_BYTES)
    upload = store.begin(key)
    with _aborted(upload):
        upload.part(1, 0, part)
        upload.part(2, len(part), b"end")
        upload.complete()
        read = b"".join(store.stream(key))
        rest = b"".join(store.stream(key, start=len(part)))
    _forget(store, key)
    if read != part + b"end" or rest != b"end":
        raise StoreError("it returned different bytes", hint="do not use this store", operation="complete")
    if problem := _why_uploads_remain(store):
        what, privilege = problem
        return Check(
            f"store {store.name}: multipart",
            None,
            f"it works; unfinished uploads cannot be {what}",
            f"allow {privilege}, or let the bucket abort unfinished uploads after some days",
        )
    return f"two parts, {size(len(read))}"


def _why_uploads_remain(store: RetryingStore) -> tuple[str, str] | None:
    """Why the uploads of killed and failed runs remain, and the privilege that this takes; None if they are removed."""
    try:
        store.begin(_probe_key(store)).abort()
    except StoreError as error:
        return f"aborted, so those of failed runs remain: {error.message}", "s3:AbortMultipartUpload"
    try:
        list(store.pending(".doctor/"))
    except StoreError as error:
        detail = f"listed, so those of killed runs remain: {error.message}"
        return detail, "s3:ListBucketMultipartUploads"
    return None


def _clock(store: RetryingStore) -> str | Check:
    key = _probe_key(store)
    store.put(key, b"clock")
    info = store.head(key)
    _forget(store, key)
    skew = abs(time.time() - info.modified.timestamp()) if info else 0.0
    if skew > MAX_SKEW_SECONDS:
        return Check(
            f"store {store.name}: clock",
            False,
            f"{skew:.0f} s off from this host's clock",
            "synchronise the clocks (NTP)",
        )
    return f"{skew:.1f} s off from this host's clock"
