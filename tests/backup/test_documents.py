"""A store may contain anything. It is read within bounds, changed documents never count as verified, and the rest is read."""

import copy
import json
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from backup.catalogue import layout
from backup.catalogue.document import decode, encode
from backup.catalogue.manifest import Manifest, Physical, StoredObject
from backup.catalogue.records import Attempt, Report
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.errors import CatalogueError
from backup.service import status_page
from backup.service.metrics import registry
from backup.service.state import new_state
from backup.store import MemoryStore
from sidecar import UsageError
from tests.backup.conftest import Wire
from tests.backup.documents import (
    BASE_ROLES,
    KEYS,
    NOW,
    OTHERS,
    attempt,
    history,
    manifest,
    put,
    put_attempt,
    redigested,
    report,
)

MADE = manifest(NOW - timedelta(hours=3))
DOCUMENTS = {"manifest": MADE, "report": report(MADE, KEYS), "attempt": attempt()}


def stored(keys: Keyring) -> tuple[MemoryStore, dict[str, str]]:
    """A store with one proven backup and one attempt; the keys of the three documents."""
    store = MemoryStore()
    folder = put(store, MADE, keys)
    tried = put_attempt(store, attempt(), keys)
    proof = next(info.key for info in store.walk() if layout.is_report(info.key.rpartition("/")[2]))
    return store, {"manifest": f"{folder}/{layout.MANIFEST}", "report": proof, "attempt": tried}


def believed(store: MemoryStore, keys: Keyring, what: str) -> bool:
    """Whether the changed document still counts."""
    found = history(store, keys)
    if what == "attempt":
        return bool(found.attempts)
    entry = found.find(MADE.id)
    return entry is not None and entry.verified


@pytest.mark.parametrize("what", DOCUMENTS)
@pytest.mark.parametrize("keys", [KEYS, NO_KEYS], ids=["with a key", "without a key"])
def test_no_byte_can_be_changed(what: str, keys: Keyring) -> None:
    store, places = stored(keys)
    data = store.get(places[what])
    assert believed(store, keys, what)
    for position in range(len(data)):
        for mask in (0x01, 0x20 if position % 2 else 0x7F):
            changed = bytearray(data)
            changed[position] ^= mask
            store.put(places[what], bytes(changed))
            assert not believed(store, keys, what), bytes(changed[max(0, position - 30) : position + 30])
    for changed_bytes in (data[:-1], data + b"\n", b" " + data, data.replace(b"\n", b"\r\n"), b"", b"{}"):
        store.put(places[what], changed_bytes)
        assert not believed(store, keys, what)


def of_format_1(value: dict[str, Any], *, sealed: bool) -> bytes:
    """A document as the first version wrote it: only manifests had a digest, and nothing was signed."""
    body = {name: each for name, each in value.items() if name not in ("digest", "key", "mac", "manifest")}
    body["format"] = 1
    return redigested(body) if sealed else json.dumps(body, indent=1, sort_keys=True).encode()


def test_a_format_of_a_later_version_is_not_guessed_at() -> None:
    later = json.loads(manifest().encode(KEYS)) | {"format": 3}
    with pytest.raises(CatalogueError, match="has format 3; this version reads formats 1 and 2"):
        Manifest.decode(redigested(later), "", KEYS)


@pytest.mark.parametrize("length", [31, 32])
def test_a_short_key_is_refused(length: int) -> None:
    if length >= 32:
        assert Keyring.parse("k" * length)
        return
    with pytest.raises(UsageError, match=f"key 1 has {length} characters, at least 32 are needed"):
        Keyring.parse("k" * length)


@pytest.mark.parametrize("what", DOCUMENTS)
def test_format_1_is_read_without_a_key_and_ignored_with_one(what: str) -> None:
    for keys, counts in ((NO_KEYS, True), (KEYS, False)):
        store, places = stored(keys)
        for each in ("manifest", what):
            data = of_format_1(json.loads(store.get(places[each])), sealed=each == "manifest")
            store.put(places[each], data)
        if what != "attempt":
            proof = of_format_1(json.loads(store.get(places["report"])), sealed=False)
            store.put(places["report"], proof)
        assert believed(store, keys, what) == counts, what


def test_no_byte_of_a_manifest_of_format_1_can_be_changed() -> None:
    store, places = stored(NO_KEYS)
    data = of_format_1(json.loads(store.get(places["manifest"])), sealed=True)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x01
        store.put(places["manifest"], bytes(changed))
        assert not believed(store, NO_KEYS, "manifest"), bytes(changed[max(0, position - 30) : position + 30])


def test_a_report_of_format_1_proves_no_backup_of_format_2() -> None:
    """It names no manifest, so it would prove whatever takes the manifest's place."""
    store, places = stored(NO_KEYS)
    store.put(places["report"], of_format_1(json.loads(store.get(places["report"])), sealed=False))
    assert not believed(store, NO_KEYS, "report")


def changes(value: Any) -> Iterator[Any]:
    """Variants of the value, each with one part changed."""
    if isinstance(value, dict):
        for name in value:
            yield {key: each for key, each in value.items() if key != name}
            yield from ({**value, name: changed} for changed in changes(value[name]))
    elif isinstance(value, list):
        yield [*value, "more"]
        for number, each in enumerate(value):
            yield from ([*value[:number], changed, *value[number + 1 :]] for changed in changes(each))
    elif isinstance(value, bool):
        yield not value
    else:
        yield value + 1 if isinstance(value, int | float) else f"{value}x"


@pytest.mark.parametrize("what", DOCUMENTS)
def test_no_field_can_be_changed_without_the_key(what: str) -> None:
    """Even with a matching digest."""
    store, places = stored(KEYS)
    value = json.loads(store.get(places[what]))
    tried = 0
    for changed in changes(value):
        if {**changed, "digest": ""} == {**value, "digest": ""}:
            continue  # it is recomputed
        store.put(places[what], redigested(changed))
        assert not believed(store, KEYS, what), changed
        tried += 1
    assert tried > 10


def test_one_kind_of_document_does_not_pass_for_another() -> None:
    """The same fields, signed as a report, do not sign a manifest."""
    store, places = stored(KEYS)
    value = json.loads(store.get(places["report"]))
    body = json.dumps(
        {k: v for k, v in value.items() if k not in ("digest", "key", "mac")}, indent=1, sort_keys=True
    )
    seal = KEYS.seal("attempt", body.encode())
    assert seal is not None
    store.put(places["report"], redigested({**value, "mac": seal.mac}))
    assert not believed(store, KEYS, "report")


NESTED = b'{"a":' * 1500 + b"1" + b"}" * 1500
BRACKETS = b"[" * 100_000
ODD = {
    "nested": NESTED,
    "brackets": BRACKETS,
    "infinity": b'{"format": 1, "stages": {"a": Infinity}}',
    "an endless number": b'{"format": 1, "pid": ' + b"9" * 10_000 + b"}",
    "half a character": b'{"format": 1, "id": "\\ud800"}',
    "not text": b"\xff\xfe\x00",
    "a list": b"[]",
    "null": b"null",
    "a format that is not a number": b'{"format": {"a": 1}}',
    "true as a format": b'{"format": true}',
}


def value_of(made: Manifest, **changed: Any) -> bytes:
    value = json.loads(made.encode())
    for name, each in changed.items():
        place, _, last = name.rpartition("__")
        target = value["objects"][0] if place == "object" else value
        target[last] = each
    return redigested(value)


FIELDS: dict[str, dict[str, Any]] = {
    "no time zone": {"taken": "2026-11-27T09:00:00"},
    "the year 1": {"taken": "0001-01-01T00:00:00+14:00"},
    "the year 9999": {"started": "9999-12-31T23:59:59-14:00"},
    "negative bytes": {"object__stored_bytes": -1},
    "more bytes than there are": {"object__raw_bytes": 10**30},
    "another folder": {"object__name": "../../elsewhere"},
    "two dots": {"object__name": ".."},
    "a line feed in a name": {"object__name": "a\nb"},
    "an endless stage": {"stages": {"dump": 1e308 * 10}},
    "a stage before its beginning": {"stages": {"dump": -1.0}},
    "begun on another day": {"started": "2026-01-01T00:00:00Z"},
    "negative rows": {"tables": [{"schema": "a", "name": "b", "rows": -1}]},
}


@pytest.mark.parametrize("case", [*ODD, *FIELDS])
def test_odd_documents_are_reported_and_the_others_are_read(case: str, wired: Wire) -> None:
    store = MemoryStore()
    put(store, MADE)
    odd = manifest(NOW - timedelta(hours=1))
    data = ODD[case] if case in ODD else value_of(odd, **FIELDS[case])
    for key in (
        layout.manifest("shop", odd.id),
        layout.report("shop", MADE.id, NOW),
        layout.attempt("shop", odd.id, "backup"),
    ):
        store.put(key, data)
    found = history(store)
    assert [entry.id for entry in found.backups if entry.verified] == [MADE.id]
    assert [broken.id for broken in found.broken] == [odd.id]
    assert found.latest is not None
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://nobody@127.0.0.1:9/shop")
    for info in list(store.walk()):
        wiring.store.put(info.key, store.get(info.key))
    state = new_state(wiring)
    state.refresh()
    assert state.problems["main"] is None
    assert 'backup_count{database="shop",tier="verified"} 1.0' in generate_latest(registry(state)).decode()
    assert MADE.id in status_page.render(state)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_reader_never_raises(data: st.DataObject) -> None:
    store = MemoryStore()
    put(store, MADE)
    for what, document in DOCUMENTS.items():
        value = copy.deepcopy(json.loads(encode(document)))
        for name in data.draw(st.sets(st.sampled_from(sorted(value)))):
            value[name] = data.draw(JSON)
        odd = data.draw(st.binary(max_size=50)) if data.draw(st.booleans()) else _dumped(value)
        key = {
            "manifest": layout.manifest("shop", "20261127T100000Z-000000"),
            "report": layout.report("shop", MADE.id, NOW),
            "attempt": layout.attempt("shop", "20261127T100000Z-000000", "backup"),
        }[what]
        store.put(key, odd)
    found = history(store)
    assert found.find(MADE.id) is not None


def _dumped(value: Any) -> bytes:
    try:
        return redigested(value) if isinstance(value, dict) else json.dumps(value).encode()
    except ValueError:
        return json.dumps(value).encode()


def edited(data: st.DataObject, original: bytes) -> bytes:
    """Bytes with a range replaced by any others."""
    begin = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(begin, min(len(original), begin + 40)))
    return original[:begin] + data.draw(st.binary(max_size=40)) + original[end:]


def altered(data: st.DataObject, value: Any) -> Any:
    """JSON with one value, at any depth, replaced by any other, removed or added."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(value)))
        return {**value, name: altered(data, value[name])}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        number = data.draw(st.integers(0, len(value) - 1))
        return [*value[:number], altered(data, value[number]), *value[number + 1 :]]
    if isinstance(value, dict) and data.draw(st.booleans()):
        return {**value, data.draw(st.text(max_size=8)): data.draw(JSON)}
    return data.draw(JSON)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_whatever_is_changed_is_never_verified(data: st.DataObject) -> None:
    """Any field or byte of a manifest, a report or a record, even with a matching digest."""
    what = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    keys = data.draw(st.sampled_from([KEYS, NO_KEYS]))
    store, places = stored(keys)
    original = store.get(places[what])
    if keys and data.draw(st.booleans()):
        changed = _dumped(altered(data, json.loads(original)))
    else:
        changed = edited(data, original)
    assume(changed != original)
    store.put(places[what], changed)
    assert not believed(store, keys, what), changed


class Huge(MemoryStore):
    """Lists a manifest that would not fit into memory."""

    def walk(self, prefix: str = "") -> Iterator[Any]:
        from dataclasses import replace

        for info in super().walk(prefix):
            yield replace(info, size=5 << 30) if info.key.endswith(layout.MANIFEST) else info

    def get(self, key: str) -> bytes:
        assert not key.endswith(layout.MANIFEST), "it must not be fetched"
        return super().get(key)


def test_what_is_too_large_is_not_fetched() -> None:
    store = Huge()
    put(store, MADE)
    [broken] = history(store).broken
    assert "5368709120 bytes" in broken.error.message
    for kind, most in ((Manifest, 64 << 20), (Report, 1 << 20), (Attempt, 1 << 20)):
        with pytest.raises(CatalogueError, match="bytes"):
            decode(kind, b" " * (most + 1), "x")


def test_what_would_take_much_more_memory_than_bytes_is_not_parsed() -> None:
    """An empty list has two characters and takes 64 bytes of memory: a document of 64 MiB ended a service with a memory limit."""
    data = b'{"format": 2, "x": [' + b"[]," * 4_000_000 + b"[]]}"
    tracemalloc.start()
    with pytest.raises(CatalogueError, match="values"):
        decode(Manifest, data, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data)


PLACE = Physical(timeline=1, start=1 << 24, end=(1 << 24) + 100, segment_size=1 << 24)
BASE = tuple(
    StoredObject(name=f"{name}.zst", role=role, raw_bytes=10, stored_bytes=10, sha256="0" * 64)
    for name, role in BASE_ROLES.items()
)
SPACE = StoredObject(name="5.tar.zst", role="tablespace", raw_bytes=1, stored_bytes=1, sha256="0" * 64)
UNLIKE_ANY: dict[str, dict[str, Any]] = {
    "no objects": {"objects": ()},
    "an archive twice": {"objects": MADE.objects * 2},
    "an archive of another kind": {"objects": BASE},
    "a dump with positions": {"physical": PLACE},
    "Redis without its file": {"kind": "redis", "objects": MADE.objects},
    "a server without positions": {"kind": "server", "objects": BASE},
    "a server without its files": {"kind": "server", "objects": BASE[:1], "physical": PLACE},
    "a tablespace that is not named": {"kind": "server", "objects": (*BASE, SPACE), "physical": PLACE},
    "an end before the start": {
        "kind": "server",
        "objects": BASE,
        "physical": PLACE.model_copy(update={"end": 5}),
    },
}


@pytest.mark.parametrize("case", UNLIKE_ANY)
def test_a_manifest_that_no_run_writes_is_broken(case: str) -> None:
    store = MemoryStore()
    put(store, MADE)
    odd = manifest(NOW - timedelta(hours=1), **UNLIKE_ANY[case])
    put(store, odd)
    found = history(store)
    assert [broken.id for broken in found.broken] == [odd.id]
    assert found.latest is not None
    assert found.latest.id == MADE.id


@pytest.mark.parametrize(
    "wrong", [{"segment_size": 0}, {"segment_size": 3 << 20}, {"segment_size": 1 << 40}, {"timeline": 0}]
)
def test_positions_are_within_bounds(wrong: dict[str, int]) -> None:
    """A segment of zero bytes would cause a division by zero wherever the WAL is read."""
    store = MemoryStore()
    made = manifest(NOW - timedelta(hours=1), kind="server", objects=BASE, physical=PLACE)
    put(store, made)
    assert history(store).find(made.id) is not None
    value = json.loads(made.encode())
    value["physical"] |= wrong
    store.put(layout.manifest("shop", made.id), redigested(value))
    assert [broken.id for broken in history(store).broken] == [made.id]


def test_invalid_keys() -> None:
    with pytest.raises(UsageError, match="key 2 has 5 characters") as raised:
        Keyring.parse("k" * 32 + ", short")
    assert "short" not in raised.value.message
    assert not Keyring.parse("")
    assert "kkkk" not in repr(KEYS)


def test_a_key_is_replaced_without_losing_a_backup() -> None:
    store, _ = stored(OTHERS)
    rotated = Keyring((*KEYS.keys, *OTHERS.keys))
    newer = manifest(NOW - timedelta(hours=1))
    put(store, newer, rotated)
    assert [entry.state for entry in history(store, rotated).backups] == ["verified", "verified"]
    # Once the old key is removed, only what the new one has signed counts.
    found = history(store, KEYS)
    assert [entry.id for entry in found.backups] == [newer.id]
    assert [(entry.id, entry.state) for entry in found.others] == [(MADE.id, "FORGED")]


def test_format_1_is_read() -> None:
    """As written before signatures existed: it counts without a key, and is unsigned with one."""
    store, places = stored(NO_KEYS)
    old = json.loads(MADE.encode())
    old["format"] = 1
    store.put(places["manifest"], redigested(old))
    proof = json.loads(encode(report(MADE)))
    for name in ("format", "manifest", "digest"):
        del proof[name]
    store.put(places["report"], json.dumps(proof).encode())
    assert [entry.state for entry in history(store).backups] == ["verified"]
    assert [entry.state for entry in history(store, KEYS).others] == ["unsigned"]


def test_what_is_not_a_backup_is_not_listed() -> None:
    """Days of WAL may be thousands of objects, and the catalogue is read every few seconds."""
    listed: list[str] = []

    def note(operation: str, key: str) -> None:
        if operation == "list":
            listed.append(key)

    store = MemoryStore(fault=note)
    store.put(".wal/main/1/00000001/x", b"x")
    store.put("shop/attempts/x", b"x")
    history(store)
    assert listed == ["", "shop/"]
