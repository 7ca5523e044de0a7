"""Promises of the stores that no healthy server or disk shows: order, durability, short writes, and odd responses."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from backup.catalogue.history import Entry
from backup.catalogue.manifest import StoredObject
from backup.errors import NotFoundError, StoreAccessError, StoreError
from backup.load.download import MAX_RATIO, PLAUSIBLE_BYTES, implausible, object_differences
from backup.load.fetch import Fetched
from backup.pipeline import PackingOptions
from backup.pipeline.compress import MAX_THREADS, thread_count
from backup.pipeline.encrypt import fingerprint
from backup.store import LocalStore, MemoryStore, PendingUpload, RetryingStore, RetryPolicy, S3Options
from backup.store.base import ObjectInfo
from backup.store.local import UPLOADS
from backup.store.s3 import S3Store
from backup.store.s3.bucket import Bucket, client_for
from backup.store.s3.locks import Locks
from backup.store.s3.store import S3Upload
from backup.wiring import Wiring
from tests.backup.documents import manifest

Patch = pytest.MonkeyPatch
UNTIL = datetime(2027, 1, 1, tzinfo=UTC)


def test_an_object_appears_once_it_is_on_the_disk_and_its_name_too(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    """Otherwise a power cut leaves an empty file under the name of a manifest."""
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name[:4]}")
        sync(handle)

    def renamed(path: Path, target: Path) -> Path:
        done.append(f"rename to {target.name}")
        return rename(path, target)

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    monkeypatch.setattr("secrets.token_hex", lambda _: "part")
    store.put("shop/manifest.json", b"1")
    assert done == ["sync part", "rename to manifest.json", "sync shop"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: Patch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: write(file, bytes(data[:3]), at))
    store = LocalStore(tmp_path)
    store.put("a", b"0123456789")
    assert store.get("a") == b"0123456789"


def test_only_the_owner_reads_what_is_stored_in_a_folder(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = LocalStore(tmp_path)
        store.put("a", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("number", "transient", "kind"),
    [
        (errno.EIO, True, StoreError),
        (errno.ENOSPC, False, StoreError),
        (errno.EDQUOT, False, StoreError),
        (errno.EACCES, False, StoreAccessError),
        (errno.EROFS, False, StoreAccessError),
    ],
)
def test_a_full_or_forbidden_disk_is_not_tried_again(
    tmp_path: Path, monkeypatch: Patch, number: int, transient: bool, kind: type[StoreError]
) -> None:
    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    store = LocalStore(tmp_path)
    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(kind) as failed:
        store.put("a", b"1")
    assert (type(failed.value), failed.value.transient) == (kind, transient)
    assert list(store.pending()) == []


def test_no_empty_folder_is_left(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("shop/a/one", "shop/a/two", "shop/b/three"):
        store.put(key, b"1")
    store.delete(["shop/a/one"])
    assert (tmp_path / "shop" / "a").is_dir()
    store.delete(["shop/a/two", "shop/b/three"])
    assert not (tmp_path / "shop").exists()
    assert tmp_path.is_dir()


def test_what_is_written_is_not_listed_before_it_is_complete(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("shop/a", b"1")
    for folder in (tmp_path, tmp_path / "shop"):
        (folder / UPLOADS).mkdir(exist_ok=True)
        (folder / UPLOADS / "part").write_bytes(b"1")
    assert [info.key for info in store.walk()] == ["shop/a"]
    assert (store.folders(), store.folders("shop")) == (["shop"], [])


def test_an_unmounted_disk_never_counts_as_an_empty_store(tmp_path: Path) -> None:
    """A backup to the folder under the mount point would fill the system's disk, and be hidden later."""
    store = LocalStore(tmp_path / "disk")
    for ask in (lambda: store.put("a", b"1"), lambda: list(store.walk()), lambda: list(store.folders())):
        with pytest.raises(StoreAccessError, match="does not exist"):
            ask()
    assert not (tmp_path / "disk").exists()


def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: Patch) -> None:
    store = LocalStore(tmp_path)
    store.put("shop/a", b"1")

    def refuse(path: object) -> Any:
        raise PermissionError(errno.EACCES, "no", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreAccessError):
        list(store.walk())


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1.0), (6, 16.0), (7, 20.0), (40, 20.0)])
def test_waits_double_up_to_a_limit(attempt: int, longest: float) -> None:
    found = {RetryPolicy().wait(attempt) for _ in range(200)}
    assert longest / 2 <= min(found) < max(found) <= longest


class Broken(MemoryStore):
    """Reads fail; each of them yields some pieces before that."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces, self.starts = pieces, list[int]()

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        self.starts.append(start)
        data = self.get(key)[start : start + self.pieces]
        yield from (bytes([one]) for one in data)
        if start + self.pieces < len(self.get(key)):
            raise StoreError("cut", hint="", operation="get", transient=True)


def test_a_read_that_makes_progress_is_never_given_up() -> None:
    broken = Broken(2)
    store = RetryingStore(broken, RetryPolicy(attempts=2), lambda _: None)
    broken.put("a", b"0123456789")
    assert b"".join(store.stream("a")) == b"0123456789"
    assert broken.starts == [0, 2, 4, 6, 8]
    assert store.take_errors() == {"get": 4}
    assert store.take_errors() == {}
    stuck = Broken(0)
    stuck.put("a", b"0")
    with pytest.raises(StoreError, match="cut"):
        list(RetryingStore(stuck, RetryPolicy(attempts=3), lambda _: None).stream("a"))
    assert len(stuck.starts) == 3


class Listing(MemoryStore):
    """Fails after the first unfinished upload."""

    parallel = 7

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        yield PendingUpload(f"{prefix}a", "1")
        raise StoreError("no", hint="", operation="pending")


def test_uploads_that_were_listed_before_a_failure_are_not_lost() -> None:
    store = RetryingStore(Listing(), RetryPolicy(attempts=1))
    listed = store.pending("shop/")
    assert next(listed) == PendingUpload("shop/a", "1")
    with pytest.raises(StoreError):
        next(listed)
    assert store.parallel == 7


def bucket(client: Any, **options: Any) -> Bucket:
    return cast(
        "Bucket",
        SimpleNamespace(
            client=client,
            name="b",
            key=lambda key: f"p/{key}",
            explained=lambda *_: nullcontext(),
            options=S3Options(**options),
        ),
    )


class Completes:
    """A bucket that accepts parts, and forgets the upload when it is completed."""

    def __init__(self, fail: Exception | None = None) -> None:
        self.parts: list[int] = []
        self.digests: list[bool] = []
        self._fail = fail

    def upload_part(self, **given: Any) -> dict[str, str]:
        self.digests.append("ContentMD5" in given)
        return {"ETag": f"e{given['PartNumber']}"}

    def complete_multipart_upload(self, **given: Any) -> None:
        self.parts = [part["PartNumber"] for part in given["MultipartUpload"]["Parts"]]
        if self._fail:
            raise self._fail


def upload(client: Completes, *, size: int | None = None, **more: Any) -> S3Upload:
    info = None if size is None else ObjectInfo("a", size, UNTIL, "v")
    store: Any = SimpleNamespace(head=lambda _: info)
    return S3Upload(
        store, bucket(client), "a", "u", **{"locking": False, "locks": None, "retain_until": None, **more}
    )


@pytest.mark.parametrize("locking", [False, True])
def test_parts_are_completed_in_order_whatever_order_they_arrive_in(locking: bool) -> None:
    client, confirmed = Completes(), list[str]()
    locks: Any = SimpleNamespace(confirm=lambda key, _until: confirmed.append(key))
    made = upload(client, locking=locking, locks=locks, retain_until=UNTIL if locking else None)
    for number in (3, 1, 2):
        made.part(number, 0, b"x")
    made.complete()
    assert client.parts == [1, 2, 3]
    assert client.digests == [locking] * 3
    assert confirmed == (["a"] if locking else [])


@pytest.mark.parametrize(("size", "raises"), [(3, False), (2, True), (None, True)])
def test_an_upload_whose_answer_was_lost_is_complete_if_the_object_is(size: int | None, raises: bool) -> None:
    gone = NotFoundError("no such upload", hint="", operation="complete")
    made = upload(Completes(gone), size=size)
    for number in (1, 2, 3):
        made.part(number, 0, b"x")
    with pytest.raises(NotFoundError) if raises else nullcontext():
        made.complete()


def locks_of(client: Any) -> Locks:
    return Locks(bucket(client))


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}}, "x")


def answering(answer: Any) -> Callable[..., Any]:
    def call(**_: object) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return call


LOCKED = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}


@pytest.mark.parametrize(
    ("retention", "settings", "head", "locked"),
    [
        ({"Retention": {"RetainUntilDate": UNTIL}}, {}, {}, True),
        ({"Retention": {}}, LOCKED, {"ObjectLockRetainUntilDate": UNTIL}, False),
        (error("NoSuchObjectLockConfiguration"), LOCKED, {"ObjectLockRetainUntilDate": UNTIL}, True),
        (error("NoSuchObjectLockConfiguration"), LOCKED, {}, False),
        # A server that repeats the header of the request and has no locks.
        (error("NotImplemented"), {}, {"ObjectLockRetainUntilDate": UNTIL}, False),
        (error("AccessDenied"), {}, {}, True),
    ],
)
def test_a_lock_is_believed_only_where_the_store_says_so(
    retention: Any, settings: Any, head: Any, locked: bool
) -> None:
    client = SimpleNamespace(
        get_object_retention=answering(retention),
        get_object_lock_configuration=answering(settings),
        head_object=answering(head),
    )
    client_ = locks_of(client)
    client_._bucket.url = "s3://b"
    with nullcontext() if locked else pytest.raises(StoreError, match="did not set it"):
        client_.confirm("a", UNTIL)


@pytest.mark.parametrize(
    ("answer", "versioned"),
    [
        ({"Status": "Enabled"}, True),
        ({"Status": "Suspended"}, True),
        ({}, False),
        (error("NotImplemented"), False),
        (error("AccessDenied"), True),
    ],
)
def test_a_bucket_whose_versions_were_suspended_still_has_some(answer: Any, versioned: bool) -> None:
    assert locks_of(SimpleNamespace(get_bucket_versioning=answering(answer))).versioned() == versioned


def test_a_small_object_that_must_be_locked_is_checked(monkeypatch: Patch) -> None:
    store, confirmed = S3Store("b", "p", S3Options(endpoint_url="http://127.0.0.1:1")), list[str]()
    monkeypatch.setattr(store._locks, "confirm", lambda key, _until: confirmed.append(key))
    with Stubber(store._bucket.client) as stubber:
        for _ in range(2):
            stubber.add_response("put_object", {})
        store.put("free", b"1")
        store.put("locked", b"1", retain_until=UNTIL)
    assert confirmed == ["locked"]


NEAR = "http://127.0.0.1:1"


def test_each_object_is_stored_as_the_settings_say() -> None:
    store = S3Store(
        "b",
        "p",
        S3Options(endpoint_url=NEAR, sse="aws:kms", sse_kms_key_id="k", object_lock_mode="COMPLIANCE"),
    )
    encrypted = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}
    locked = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": UNTIL}
    assert store._storing(None) == encrypted
    assert store._storing(UNTIL) == encrypted | locked
    assert S3Store("b", "p", S3Options(endpoint_url=NEAR))._storing(None) == {}


@pytest.mark.parametrize(("until", "by_default"), [(None, False), (None, True), (UNTIL, False)])
def test_parts_have_digests_wherever_the_object_will_be_locked(
    monkeypatch: Patch, until: datetime | None, by_default: bool
) -> None:
    store = S3Store("b", "p", S3Options(endpoint_url=NEAR))
    monkeypatch.setattr(store._locks, "enabled", lambda: by_default)
    with Stubber(store._bucket.client) as stubber:
        stubber.add_response("create_multipart_upload", {"UploadId": "u"})
        made: Any = store.begin("a", retain_until=until)
    assert (made._locking, made._retain_until) == (bool(until) or by_default, until)


def test_a_read_that_resumes_at_the_end_requests_nothing(monkeypatch: Patch) -> None:
    store = S3Store("b", "p", S3Options(endpoint_url=NEAR))
    monkeypatch.setattr(store, "head", lambda _: ObjectInfo("a", 5, UNTIL, "v"))
    with Stubber(store._bucket.client):
        assert list(store.stream("a", start=5)) == []


def test_other_keys_of_a_listing_are_left_alone_and_the_order_is_ours() -> None:
    store = S3Store("b", "p", S3Options(endpoint_url="http://127.0.0.1:1"))
    sizes = [{"Key": f"p/{key}", "Size": 1, "LastModified": UNTIL, "ETag": "e"} for key in ("b", "a/x", "a")]
    uploads = [{"Key": key, "UploadId": "u"} for key in ("p/shop/1", "other/shop/2", "p/else/3")]
    with Stubber(store._bucket.client) as stubber:
        stubber.add_response("list_objects_v2", {"Contents": sizes})
        stubber.add_response("list_multipart_uploads", {"Uploads": uploads})
        assert [info.key for info in store.walk()] == ["a", "a/x", "b"]
        assert list(store.pending("shop/")) == [PendingUpload("shop/1", "u")]


def test_a_client_tries_each_call_once_and_asks_no_proxy_for_a_near_store(monkeypatch: Patch) -> None:
    """RetryingStore tries again, and counts the failures."""
    near: Any = client_for(S3Options(endpoint_url="http://127.0.0.1:1", read_timeout=7)).meta.config
    assert near.retries["total_max_attempts"] == 1
    assert (near.proxies, near.read_timeout, near.s3["addressing_style"]) == ({}, 7, "path")
    far: Any = client_for(S3Options(endpoint_url="https://s3.example.org", path_style=False)).meta.config
    assert (far.proxies, far.s3["addressing_style"]) == (None, "virtual")


STORED = StoredObject(
    name="a", role="archive", raw_bytes=50, stored_bytes=5, sha256="a" * 64, encryption="age"
)
GOOD = Fetched("a" * 64, 5, 50)


@pytest.mark.parametrize(
    ("got", "found"),
    [
        (GOOD, None),
        (Fetched(None, 0, 0, "it is missing"), "nothing"),
        (Fetched("a" * 64, 4, 50), "4 bytes, SHA-256"),
        (Fetched("b" * 64, 5, 50), "SHA-256 bbb"),
        (Fetched("a" * 64, 5, 99, "too much", too_large=True), "more than 50 bytes"),
        (Fetched("a" * 64, 5, 20, "decompression failed"), "decompression failed"),
        (Fetched("a" * 64, 5, 49), "49 bytes uncompressed"),
    ],
)
def test_an_object_that_differs_from_its_manifest_is_named(got: Fetched, found: str | None) -> None:
    differences = object_differences(STORED, got)
    assert [each.object for each in differences] == ([] if found is None else ["a"])
    assert found is None or found in str(differences[0])


def entry(trust: Any = "unchecked", **stored: Any) -> Entry:
    return Entry(manifest(objects=(STORED.model_copy(update=stored),)), trust=trust)


def wiring(*, encrypts: bool) -> Wiring:
    packing = SimpleNamespace(recipients=())
    return cast("Wiring", SimpleNamespace(packing=packing, identities=("key",) if encrypts else ()))


LARGE = {"raw_bytes": PLAUSIBLE_BYTES + 1, "stored_bytes": PLAUSIBLE_BYTES // MAX_RATIO}


@pytest.mark.parametrize(
    ("backup", "encrypts", "kinds"),
    [
        (entry(), True, []),
        (entry(encryption=None), True, ["encryption"]),
        (entry(encryption=None), False, []),
        (entry(**LARGE), False, ["size"]),
        (entry(**{**LARGE, "stored_bytes": PLAUSIBLE_BYTES // MAX_RATIO + 1}), False, []),
        (entry(raw_bytes=PLAUSIBLE_BYTES, stored_bytes=1), False, []),
        (entry("signed", encryption=None, **LARGE), True, []),
    ],
)
def test_an_unsigned_backup_is_believed_within_bounds(
    backup: Entry, encrypts: bool, kinds: list[str]
) -> None:
    assert [each.kind for each in implausible(wiring(encrypts=encrypts), backup)] == kinds


def test_a_name_says_whether_an_object_is_encrypted() -> None:
    recipient: Any = object()
    assert (PackingOptions().suffix, PackingOptions(recipients=(recipient,)).suffix) == (".zst", ".zst.age")


def test_a_public_key_cannot_be_read_from_its_name_in_a_manifest() -> None:
    """With the key, anyone could encrypt a forgery."""
    key = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
    assert len(fingerprint(key)) == 16
    assert not any(key[at : at + 6] in fingerprint(key) for at in range(len(key) - 6))


@pytest.mark.parametrize(
    ("wanted", "cores", "threads"), [(3, 64, 3), (0, 4, 4), (0, 64, MAX_THREADS), (0, None, 1)]
)
def test_compression_uses_the_cores_that_help(
    monkeypatch: Patch, wanted: int, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert thread_count(wanted) == threads


def test_a_lock_ends_after_the_days_that_are_set() -> None:
    days: Any = SimpleNamespace(settings=SimpleNamespace(s3_object_lock_days=7))
    assert Wiring.retain_until(days, UNTIL) == UNTIL + timedelta(days=7)
    none: Any = SimpleNamespace(settings=SimpleNamespace(s3_object_lock_days=0))
    assert Wiring.retain_until(none, UNTIL) is None
