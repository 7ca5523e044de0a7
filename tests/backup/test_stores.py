"""One suite that every kind of store must pass, and how failures are retried."""

import errno
import os
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
from botocore.stub import Stubber
from botocore.utils import parse_timestamp

from backup.errors import NotFoundError, StoreAccessError, StoreError
from backup.pipeline.sink import PartSink
from backup.store import (
    LocalStore,
    MemoryStore,
    PartSizes,
    PendingUpload,
    Refusal,
    RetryingStore,
    RetryPolicy,
    S3Options,
    Store,
)
from backup.store.s3 import S3Store
from backup.store.s3.bucket import moment
from stack.servers import ObjectStore

MIB = 1 << 20


@pytest.fixture(params=["memory", "local", "s3", "s3-retrying"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return MemoryStore()
    if request.param == "local":
        return LocalStore(tmp_path)
    server: ObjectStore = request.getfixturevalue("object_store")
    server.bucket("suite")
    options = S3Options(
        endpoint_url=server.endpoint, access_key_id=server.access_key, secret_access_key=server.secret_key
    )
    s3 = S3Store("suite", f"some/prefix-{secrets.token_hex(4)}", options)
    return RetryingStore(s3, RetryPolicy(attempts=2, first=0.01)) if "retrying" in request.param else s3


def test_it_is_there_and_empty(store: Store) -> None:
    store.check()
    assert list(store.walk()) == []
    assert list(store.pending()) == []
    assert store.head("nothing") is None


def test_small_objects(store: Store) -> None:
    store.put("a/one.json", b"1")
    store.put("a/one.json", b"one")
    store.put("a/b/two.json", b"")
    assert store.get("a/one.json") == b"one"
    assert store.get("a/b/two.json") == b""
    found = store.head("a/one.json")
    assert found is not None
    assert found.size == 3
    assert abs((datetime.now(UTC) - found.modified).total_seconds()) < 60


def test_missing_objects(store: Store) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        store.get("nothing")
    assert store.delete(["nothing"]) == []


def test_walking(store: Store) -> None:
    for key in ("b/2", "a/1", "ab/3", "a/0/x"):
        store.put(key, b"x")
    assert [info.key for info in store.walk()] == ["a/0/x", "a/1", "ab/3", "b/2"]
    assert [info.key for info in store.walk("a/")] == ["a/0/x", "a/1"]
    assert [info.key for info in store.walk("a")] == ["a/0/x", "a/1", "ab/3"]
    assert list(store.walk("zzz/")) == []


def test_folders(store: Store) -> None:
    assert store.folders() == []
    for key in ("b/one/two/three.json", "b/two.json", "a/one.json", ".hidden/one.json", "alone.json"):
        store.put(key, b"x")
    assert store.folders() == [".hidden", "a", "b"]
    assert [store.folders(prefix) for prefix in ("b/", "b/one/", "a/", "c/")] == [["one"], ["two"], [], []]


def test_the_version_changes_with_the_content(store: Store) -> None:
    store.put("key", b"first")
    first = next(store.walk("key")).version
    store.put("key", b"other")
    assert next(store.walk("key")).version != first


def test_deleting(store: Store) -> None:
    for number in range(5):
        store.put(f"d/{number}", b"x")
    assert store.delete(f"d/{number}" for number in range(4)) == []
    assert [info.key for info in store.walk("d/")] == ["d/4"]


def test_an_upload_is_invisible_until_it_is_complete(store: Store) -> None:
    first, last = secrets.token_bytes(5 * MIB), b"the end"
    upload = store.begin("big/object")
    upload.part(2, len(first), last)
    upload.part(1, 0, first)
    assert store.head("big/object") is None
    upload.complete()
    assert store.get("big/object") == first + last
    assert list(store.pending("big/")) == []


def test_reading_from_the_middle(store: Store) -> None:
    store.put("m", bytes(range(100)))
    assert b"".join(store.stream("m", start=90)) == bytes(range(90, 100))


def test_an_aborted_upload_leaves_nothing(store: Store) -> None:
    upload = store.begin("gone")
    upload.part(1, 0, b"x" * 5 * MIB)
    upload.abort()
    assert store.head("gone") is None
    assert list(store.pending()) == []


def test_a_forgotten_upload_can_be_found_and_dropped(store: Store) -> None:
    store.begin("x/forgotten").part(1, 0, b"x" * 5 * MIB)
    store.begin("y/other").part(1, 0, b"x" * 5 * MIB)
    found = list(store.pending("x/"))
    assert [pending.key for pending in found] == ["x/forgotten"]
    store.abort(found[0])
    store.abort(found[0])
    assert list(store.pending("x/")) == []
    assert len(list(store.pending("y/"))) == 1
    assert list(store.walk()) == []


def test_an_aborted_upload_cannot_be_completed(store: Store) -> None:
    upload = store.begin("swept")
    upload.part(1, 0, b"x")
    for pending in store.pending("swept"):
        store.abort(pending)
    with pytest.raises(StoreError):
        upload.complete()
    assert store.head("swept") is None


@pytest.mark.parametrize("size", [0, 1, 5 * MIB, 17 * MIB + 3])
def test_a_sink_of_any_size(store: Store, size: int) -> None:
    data = secrets.token_bytes(size)
    sink = PartSink(store.begin("sink"), PartSizes(first=5 * MIB))
    for start in range(0, size, 700_001):
        sink.write(data[start : start + 700_001])
    sink.finish()
    sink.commit()
    assert store.get("sink") == data


def test_parts_grow_and_hold_terabytes() -> None:
    sizes = PartSizes()
    assert sizes.of(1) == 8 * MIB
    assert sizes.of(1251) == 16 * MIB
    assert sizes.of(10_000) == 1024 * MIB
    assert sum(map(sizes.of, range(1, 10_001))) > 2 << 40
    assert sum(map(PartSizes(limit=1000).of, range(1, 1001))) > 240 << 30
    # A 5 GB object stays within parts of 32 MiB, even with a thousand parts.
    used, number = 0, 0
    while used < 5e9:
        number += 1
        used += PartSizes(limit=1000).of(number)
    assert PartSizes(limit=1000).of(number) <= 32 * MIB


def test_a_thousand_parts_are_never_exceeded() -> None:
    sink = PartSink(MemoryStore().begin("k"), PartSizes(limit=4, first=10))
    with pytest.raises(StoreError, match="more than 4 parts"):
        sink.write(b"x" * 100_000)
    sink.abort()


class Flaky:
    """Fails the first attempts of each operation, a given number of times."""

    def __init__(self, times: int, *, transient: bool = True) -> None:
        self.left: dict[str, int] = {}
        self.times = times
        self.transient = transient

    def __call__(self, operation: str, key: str) -> None:
        left = self.left.setdefault(operation, self.times if operation != "read" else 0)
        if left:
            self.left[operation] = left - 1
            raise StoreError("slow down", hint="", operation=operation, transient=self.transient)


def retrying(fault: Callable[[str, str], None], waits: list[float]) -> RetryingStore:
    return RetryingStore(
        MemoryStore(fault=fault), RetryPolicy(attempts=4, first=1.0, longest=3.0), waits.append
    )


def test_a_transient_failure_is_retried() -> None:
    waits: list[float] = []
    store = retrying(Flaky(3), waits)
    store.put("key", b"value")
    assert b"".join(store.stream("key")) == b"value"
    assert [info.key for info in store.walk()] == ["key"]
    upload = store.begin("up")
    upload.part(1, 0, b"part")
    upload.complete()
    assert store.get("up") == b"part"
    assert all(0.5 <= wait <= 3.0 for wait in waits)
    assert store.take_errors()["put"] == 3
    assert store.take_errors() == {}


def test_insisting_ends() -> None:
    waits: list[float] = []
    with pytest.raises(StoreError, match="slow down"):
        retrying(Flaky(99), waits).put("key", b"")
    assert len(waits) == 3


def test_a_permanent_failure_is_not_retried() -> None:
    waits: list[float] = []
    with pytest.raises(StoreError):
        retrying(Flaky(1, transient=False), waits).put("key", b"")
    assert waits == []


def test_reading_resumes_where_it_was_cut() -> None:
    cuts = iter([0, 0, 1, 0, 1, 1, 0, 0, 0, 0])

    def cut(operation: str, key: str) -> None:
        if operation == "read" and next(cuts, 0):
            raise StoreError("connection reset", hint="", operation="get", transient=True)

    store = retrying(cut, [])
    data = secrets.token_bytes(5 * MIB)
    store.inner.put("key", data)
    assert b"".join(store.stream("key")) == data


def test_a_retention_lock_is_reported_and_effective() -> None:
    store = MemoryStore()
    store.put("locked", b"x", retain_until=datetime.now(UTC) + timedelta(days=1))
    store.put("free", b"x")
    refused = store.delete(["locked", "free"])
    assert [refusal.key for refusal in refused] == ["locked"]
    assert [info.key for info in store.walk()] == ["locked"]


def test_wrong_keys_and_missing_buckets_are_not_transient(object_store: ObjectStore) -> None:
    right = S3Options(
        endpoint_url=object_store.endpoint,
        access_key_id=object_store.access_key,
        secret_access_key=object_store.secret_key,
    )
    wrong = S3Options(
        endpoint_url=object_store.endpoint,
        access_key_id=object_store.access_key,
        secret_access_key="wrong-secret-key",
    )
    for store in (S3Store("no-such-bucket", "", right), S3Store("suite", "", wrong)):
        with pytest.raises(StoreAccessError) as caught:
            store.check()
        assert "wrong-secret-key" not in caught.value.message


def test_a_small_object_is_read_without_botocores_model_of_a_request(object_store: ObjectStore) -> None:
    store = _at(object_store.endpoint, object_store.access_key, object_store.secret_key)
    object_store.bucket("suite")
    store.put("a b/~é+1.json", b"0" * 100_000)
    seen: list[str] = []
    store._bucket.client.meta.events.register(
        "before-send.s3", lambda **event: seen.append(event["event_name"])
    )
    assert store.get("a b/~é+1.json") == b"0" * 100_000
    assert seen == []
    with pytest.raises(NotFoundError):
        store.get("missing")
    assert seen == ["before-send.s3.GetObject"]


# Answers of a server, and the number of its requests when the object is read twice.
ODD_ANSWERS: dict[str, tuple[list[tuple[int, int, bytes]], int]] = {
    "nothing odd": ([(200, 4, b"data")], 2),
    "cut off, and without an end": ([(200, 9, b"data"), (200, 4, b"data")], 3),
    "another region": ([(301, 0, b""), (200, 4, b"data")], 3),
    "another signature": ([(403, 0, b""), (200, 4, b"data")], 3),
    "overloaded": ([(503, 0, b""), (200, 4, b"data")], 3),
}


@pytest.mark.parametrize("case", ODD_ANSWERS)
def test_after_an_odd_answer_botocore_asks(case: str) -> None:
    """A stand-in: real servers give these answers only now and then, or elsewhere."""
    answers, requests = ODD_ANSWERS[case]
    asked: list[str] = []

    class Odd(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, length, data = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)
            self.close_connection = len(data) != length

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = _at(f"http://127.0.0.1:{server.server_port}", "AKEYID", "ASECRET")
        assert [store.get("key"), store.get("key")] == [b"data", b"data"]
        server.shutdown()
    assert asked == ["/suite/key"] * requests


def _at(endpoint: str, key: str, secret: str) -> S3Store:
    return S3Store("suite", "", S3Options(endpoint_url=endpoint, access_key_id=key, secret_access_key=secret))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29T21:10:54.123Z",
        "2026-11-29T21:10:54Z",
        "2026-11-29T22:10:54+01:00",
        "Sun, 29 Nov 2026 21:10:54 GMT",
        "1795986654",
        "1795986654.5",
    ],
)
def test_moments_of_servers(text: str) -> None:
    assert moment(text) == parse_timestamp(text)


def test_the_moments_of_a_listing_are_not_guessed(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _at(object_store.endpoint, object_store.access_key, object_store.secret_key)
    object_store.bucket("suite")
    store.put("moments/1", b"1")
    monkeypatch.setattr("dateutil.parser.parse", None)
    assert [info.key for info in store.walk("moments/")] == ["moments/1"]
    assert store.head("moments/1") is not None


def test_an_unreachable_server_is_retried() -> None:
    options = S3Options(
        endpoint_url="http://127.0.0.1:9", access_key_id="AKEYID", secret_access_key="ASECRET"
    )
    with pytest.raises(StoreError) as caught:
        S3Store("bucket", "", options).check()
    assert caught.value.transient


def test_pending_uploads_of_others_are_left_alone() -> None:
    store = MemoryStore()
    store.begin("a/1")
    store.begin("b/1")
    store.abort(next(store.pending("a/")))
    assert [pending.key for pending in store.pending()] == ["b/1"]
    store.abort(PendingUpload("a/1", "unknown"))


def locked_bucket(prefix: str = "") -> tuple[S3Store, Stubber]:
    """A bucket with Object Lock, with the responses of Amazon S3: no test server supports it."""
    store = S3Store(
        "bucket",
        prefix,
        S3Options(region="eu-central-1", access_key_id="AKEYID", secret_access_key="ASECRET"),
    )
    stubber = Stubber(store._bucket.client)
    stubber.add_response(
        "get_object_lock_configuration",
        {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}},
        {"Bucket": "bucket"},
    )
    stubber.activate()
    return store, stubber


def test_a_bucket_with_locks_is_asked_to_delete_versions_so_that_it_can_refuse() -> None:
    store, stubber = locked_bucket("some")
    found = {
        "Versions": [{"Key": "some/a", "VersionId": "v2"}, {"Key": "some/a.b", "VersionId": "v9"}],
        "DeleteMarkers": [{"Key": "some/a", "VersionId": "v3"}],
    }
    stubber.add_response("get_bucket_versioning", {"Status": "Enabled"}, {"Bucket": "bucket"})
    stubber.add_response("list_object_versions", found, {"Bucket": "bucket", "Prefix": "some/a"})
    wanted = [{"Key": "some/a", "VersionId": "v2"}, {"Key": "some/a", "VersionId": "v3"}]
    refusal = {"Errors": [{"Key": "some/a", "VersionId": "v2", "Code": "AccessDenied", "Message": "locked"}]}
    stubber.add_response(
        "delete_objects", refusal, {"Bucket": "bucket", "Delete": {"Objects": wanted, "Quiet": True}}
    )
    assert store.delete(["a"]) == [Refusal("a", "locked")]
    stubber.assert_no_pending_responses()


def test_a_bucket_without_locks_is_asked_once(object_store: ObjectStore) -> None:
    options = S3Options(
        endpoint_url=object_store.endpoint,
        access_key_id=object_store.access_key,
        secret_access_key=object_store.secret_key,
    )
    object_store.bucket("suite")
    store = S3Store("suite", "deletions", options)
    seen: list[str] = []
    headers: dict[str, bytes] = {}

    def watch(request: Any, event_name: str, **_: object) -> None:
        seen.append(event_name.rpartition(".")[2])
        headers.update(request.headers)

    store._bucket.client.meta.events.register("before-send.s3", watch)
    for _ in range(2):
        store.put("k", b"1")
        assert store.delete(["k"]) == []
    assert seen == ["PutObject", "GetObjectLockConfiguration", "DeleteObjects", "PutObject", "DeleteObjects"]
    # Older compatible servers refuse a bulk delete without it.
    assert "Content-MD5" in headers


def test_how_objects_are_stored_is_asked_for() -> None:
    options = S3Options(
        region="eu-central-1",
        access_key_id="AKEYID",
        secret_access_key="ASECRET",
        storage_class="STANDARD_IA",
        sse="aws:kms",
        sse_kms_key_id="key",
        object_lock_mode="COMPLIANCE",
    )
    store = S3Store("bucket", "some", options)
    until = datetime(2027, 1, 1, tzinfo=UTC)
    asked = {
        "Bucket": "bucket",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": until,
    }
    with Stubber(store._bucket.client) as stubber:
        proof = {"Body": b"1", "ContentMD5": "xMpCOKC5I4INzFCab3WEmw=="}
        stubber.add_response("put_object", {}, {**asked, "Key": "some/manifest.json", **proof})
        answer = {"Retention": {"Mode": "COMPLIANCE", "RetainUntilDate": until}}
        stubber.add_response(
            "get_object_retention", answer, {"Bucket": "bucket", "Key": "some/manifest.json"}
        )
        stubber.add_response(
            "create_multipart_upload",
            {"UploadId": "u"},
            {**asked, "Key": "some/archive", "StorageClass": "STANDARD_IA"},
        )
        store.put("manifest.json", b"1", retain_until=until)
        store.begin("archive", retain_until=until)
        stubber.assert_no_pending_responses()


def test_a_missing_folder_is_not_an_empty_store(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "mnt" / "nas")
    for action in (store.check, lambda: list(store.walk("db/")), lambda: store.put("db/k", b"1")):
        with pytest.raises(StoreAccessError, match="does not exist"):
            action()
    assert not (tmp_path / "mnt").exists()
    spool = LocalStore(tmp_path / "mnt" / "spool", "spool", made=True)
    assert list(spool.walk()) == []
    spool.check()
    spool.put("db/k", b"1")
    assert spool.get("db/k") == b"1"


def test_an_unreadable_folder_is_not_an_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("db/k", b"1")

    def refuse(_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreAccessError, match="Permission denied"):
        list(store.walk("db/"))


def test_an_object_that_disappears_during_a_listing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for number in range(3):
        store.put(f"a/{number}", b"x")
    walk = store.walk("a/")
    assert next(walk).key == "a/0"
    store.delete(["a/1"])
    assert [info.key for info in walk] == ["a/2"]
