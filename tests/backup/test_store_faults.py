"""Stores and proxies with one fault: each ends in a clear error, nothing is lost, and doctor finds it before."""

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest

from backup.catalogue import layout
from backup.catalogue.commit import commit
from backup.catalogue.signatures import NO_KEYS
from backup.catalogue.sweep import sweep
from backup.doctor import examine
from backup.errors import DumpError, StoreAccessError, StoreError
from backup.settings import BackupSettings
from backup.store import RetryingStore, RetryPolicy, S3Options
from backup.store.s3 import S3Store
from backup.wiring import wire
from stack.servers import ObjectStore
from tests.backup import documents
from tests.backup.restorekit import Command
from tests.backup.storeproxy import Cut, Forward, Proxy, Reply, Request, Rule, proxied, refusal, refusing

WRITES = ("PutObject", "CreateMultipartUpload", "UploadPart")
DENIED = refusal(403, "AccessDenied", "Access Denied")
# A page that is well-formed XML, and one that is not.
XHTML = Reply(200, {"Content-Type": "text/html"}, b"<html><body>Console</body></html>")
HTML = Reply(
    200, {"Content-Type": "text/html"}, b"<!doctype html><html><meta charset=utf8><body>Console</html>"
)
LOCKED = b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"


@pytest.fixture
def bucket(object_store: ObjectStore) -> str:
    return object_store.bucket(f"b{secrets.token_hex(4)}")


def store_at(endpoint: str, bucket: str, object_store: ObjectStore, **more: object) -> S3Store:
    keys = {"access_key_id": object_store.access_key, "secret_access_key": object_store.secret_key}
    return S3Store(bucket, "p", S3Options(endpoint_url=endpoint, **keys, **more))  # type: ignore[arg-type]


Faulty = Callable[..., AbstractContextManager[tuple[S3Store, Proxy]]]


@pytest.fixture
def faulty(object_store: ObjectStore, bucket: str) -> Faulty:
    """A store with a rule in front of it; yields the store and its proxy."""

    @contextmanager
    def make(rule: Rule, **more: object) -> Iterator[tuple[S3Store, Proxy]]:
        with proxied(object_store.port, rule) as proxy:
            yield store_at(proxy.endpoint, bucket, object_store, **more), proxy

    return make


def everything(reply: Reply) -> Rule:
    return lambda _, __: reply


def changed(operation: str, old: bytes, new: bytes) -> Rule:
    """Change the body of the answers to an operation."""

    def rule(request: Request, forward: Forward) -> Reply:
        reply = forward()
        if request.operation != operation:
            return reply
        return Reply(reply.status, reply.headers, reply.body.replace(old, new))

    return rule


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        (refusal(400, "ExpiredToken"), "renew the temporary credentials"),
        (refusal(400, "InvalidToken"), "renew the temporary credentials"),
        (refusal(403, "RequestTimeTooSkewed"), "synchronise the clocks"),
        (refusal(403, "SecondLevelDomainForbidden"), "BACKUP_S3_PATH_STYLE=false"),
        (refusal(301, "PermanentRedirect"), "the bucket is in another region: set BACKUP_S3_REGION"),
        (refusal(400, "AuthorizationHeaderMalformed", Region="eu-1"), "region is eu-1: set BACKUP_S3_REGION"),
        (Reply(301, {"x-amz-bucket-region": "eu-2"}), "region is eu-2: set BACKUP_S3_REGION"),
        (Reply(301, {"Location": "https://s3.test/b/p?x=y"}), "to where it redirects: https://s3.test"),
        (Reply(308, {"Location": "https://s3.test/b"}), "to where it redirects: https://s3.test"),
        (refusal(404, "NoSuchBucket"), "create the bucket, or correct its name"),
        (refusal(503, "SlowDown"), "the store limits the number of requests"),
        (Reply(429), "the store limits the number of requests"),
        (refusal(403, "QuotaExceeded"), "raise the bucket's quota"),
        (refusal(507, "XMinioStorageFull"), "raise the bucket's quota"),
        (Reply(413, {"Content-Type": "text/html"}), "allow larger requests"),
        (refusal(400, "KMS.DisabledException"), "kms:GenerateDataKey"),
        (
            refusal(403, "AccessDenied", "not authorized to perform: kms:GenerateDataKey"),
            "kms:GenerateDataKey",
        ),
        (Reply(401), "check the bucket name, the region, the access key and its privileges"),
        (HTML, "not of its web console"),
        (Reply(502, {"Content-Type": "text/html"}, b"<html>"), "check the log of the S3 server"),
    ],
)
def test_each_cause_has_its_own_advice(faulty: Faulty, reply: Reply, hint: str) -> None:
    """Of an upload, and of the first request of doctor and of a run."""
    with faulty(everything(reply)) as (store, _):
        for action in (store.check, lambda: store.begin("k"), lambda: store.put("k", b"1")):
            with pytest.raises(StoreError) as raised:
                action()
            assert hint in raised.value.hint, raised.value


@pytest.mark.parametrize("code", ["ExpiredToken", "KMS.NotFoundException", "SecondLevelDomainForbidden"])
def test_what_only_a_change_of_the_configuration_resolves_is_not_tried_again(
    faulty: Faulty, code: str
) -> None:
    with faulty(everything(refusal(400, code))) as (store, proxy):
        with pytest.raises(StoreAccessError):
            RetryingStore(store, RetryPolicy(attempts=3, first=0)).check()
        assert len(proxy.seen) == 1


def test_a_page_is_not_an_empty_store(faulty: Faulty) -> None:
    with faulty(everything(XHTML)) as (store, _):
        for action in (
            store.check,
            lambda: list(store.walk()),
            store.folders,
            lambda: list(store.pending()),
            lambda: store.begin("k"),
        ):
            with pytest.raises(StoreError, match="the answer is not that of an S3 server"):
                action()


def head(store: S3Store) -> object:
    return store.head("k")


def walk(store: S3Store) -> object:
    return list(store.walk())


def upload(store: S3Store) -> object:
    return store.begin("u").part(1, 0, b"1")


@pytest.mark.parametrize(
    ("operation", "field", "action"),
    [
        ("HeadObject", "ETag", head),
        ("HeadObject", "Last-Modified", head),
        ("ListObjectsV2", "ETag", walk),
        ("ListObjectsV2", "LastModified", walk),
        ("ListObjectsV2", "Size", walk),
        ("UploadPart", "ETag", upload),
    ],
)
@pytest.mark.parametrize("value", ["", "not a value"])
def test_a_field_that_is_missing_or_wrong(
    faulty: Faulty, operation: str, field: str, action: Callable[[S3Store], object], value: str
) -> None:
    """The answer of a proxy, or of a server that is only similar to S3's, is an error of the store."""

    def rule(request: Request, forward: Forward) -> Reply:
        reply = forward()
        if request.operation != operation:
            return reply
        headers = {name: text for name, text in reply.headers.items() if name.lower() != field.lower()}
        new = f"<{field}>{value}</{field}>" if value else ""
        body = re.sub(rf"<{field}>.*?</{field}>".encode(), new.encode(), reply.body, flags=re.DOTALL)
        return Reply(reply.status, {**headers, **({field: value} if value else {})}, body)

    with faulty(rule) as (store, _):
        store.put("k", b"1")
        if field == "ETag" and value:
            action(store)  # it may be any text
            return
        with pytest.raises(StoreError, match="the answer is not that of an S3 server: "):
            action(store)


def test_a_listing_that_ends_early_is_an_error(faulty: Faulty) -> None:
    """It says that there is more, and not where it continues."""
    more = b"<IsTruncated>true</IsTruncated>"

    def rule(request: Request, forward: Forward) -> Reply:
        reply = forward()
        if not request.operation.startswith("List"):
            return reply
        body = reply.body.replace(b"<IsTruncated>false</IsTruncated>", b"")
        return Reply(reply.status, reply.headers, re.sub(rb"</(Name|Bucket)>", rb"</\1>" + more, body))

    with faulty(rule) as (store, _):
        store.put("shop/a", b"1")
        store.begin("shop/b")
        for listing in (lambda: list(store.walk()), store.folders, lambda: list(store.pending())):
            with pytest.raises(StoreError, match="the store's listing is incomplete"):
                listing()


def test_a_listing_that_lacks_a_manifest_deletes_nothing(
    faulty: Faulty, object_store: ObjectStore, bucket: str
) -> None:
    backup = "shop/20260101T000000Z-aaaaaa"
    dead = "shop/20250101T000000Z-bbbbbb"
    entry = re.compile(rb"<Contents>\s*<Key>[^<]*manifest.json</Key>.*?</Contents>", re.DOTALL)

    def rule(request: Request, forward: Forward) -> Reply:
        reply = forward()
        body = entry.sub(b"", reply.body) if request.operation == "ListObjectsV2" else reply.body
        return Reply(reply.status, reply.headers, body)

    with faulty(rule) as (store, _):
        for key in (f"{backup}/database.dump", f"{backup}/manifest.json", f"{dead}/database.dump"):
            store.put(key, b"1")
        swept = sweep(store, "shop")
    assert [info.key for info in store_at(object_store.endpoint, bucket, object_store).walk()] == [
        f"{backup}/database.dump",
        f"{backup}/manifest.json",
    ]
    assert swept.objects == 1
    assert "lacked the manifest of 20260101T000000Z-aaaaaa" in swept.problems[0]


@pytest.mark.parametrize("reports", [None, "bytes 0-2999999/3000000"])
def test_a_range_that_is_ignored(faulty: Faulty, reports: str | None) -> None:
    data = secrets.token_bytes(3_000_000)

    def rule(request: Request, forward: Forward) -> Reply:
        if request.operation != "GetObject":
            return forward()
        return Reply(200, {"Content-Range": reports} if reports else {}, data)

    with faulty(rule) as (store, _):
        store.put("k", data)
        for start in (1, 1 << 20, 2_999_999):
            assert b"".join(store.stream("k", start=start)) == data[start:]


def test_a_download_that_is_cut_resumes_although_ranges_are_ignored(faulty: Faulty) -> None:
    data = secrets.token_bytes(3_000_000)
    lengths = [1_200_000, 2_500_000, 3_000_000]

    def rule(request: Request, forward: Forward) -> Reply:
        if request.operation != "GetObject":
            return forward()
        length = lengths.pop(0)
        return Reply(200, {"Content-Length": str(len(data)), "Connection": "close"}, data[:length])

    with faulty(rule) as (store, _):
        store.put("k", data)
        retrying = RetryingStore(store, RetryPolicy(attempts=2, first=0))
        assert b"".join(retrying.stream("k")) == data
        assert lengths == []


def test_a_bulk_delete_that_fails_for_some_is_repeated(faulty: Faulty) -> None:
    failures = [1]

    def rule(request: Request, forward: Forward) -> Reply:
        if request.operation == "DeleteObjects" and failures:
            failures.pop()
            error = "<Error><Key>p/a</Key><Code>SlowDown</Code><Message>slow</Message></Error>"
            return Reply(200, {}, f"<DeleteResult>{error}</DeleteResult>".encode())
        return forward()

    with faulty(rule) as (store, _):
        store.put("a", b"1")
        retrying = RetryingStore(store, RetryPolicy(attempts=2, first=0))
        assert retrying.delete(["a"]) == []
        assert retrying.errors == {"delete": 1}
        assert store.head("a") is None


def retention(mode: str, until: datetime) -> Reply:
    body = f"<Retention><Mode>{mode}</Mode><RetainUntilDate>{until:%Y-%m-%dT%H:%M:%SZ}</RetainUntilDate></Retention>"
    return Reply(200, {}, body.encode())


@pytest.mark.parametrize("multipart", [False, True])
def test_a_lock_that_is_weaker_than_asked_for(faulty: Faulty, multipart: bool) -> None:
    until = datetime.now(UTC) + timedelta(days=14)

    def lock(asked: str, mode: str, days: int) -> None:
        reply = retention(mode, until - timedelta(days=days))
        with faulty(refusing(reply, "GetObjectRetention"), object_lock_mode=asked) as (store, _):
            if multipart:
                upload = store.begin("k", retain_until=until)
                upload.part(1, 0, b"1")
                upload.complete()
            else:
                store.put("k", b"1", retain_until=until)

    lock("GOVERNANCE", "GOVERNANCE", 0)
    lock("GOVERNANCE", "COMPLIANCE", 0)
    lock("COMPLIANCE", "COMPLIANCE", 0)
    lock("GOVERNANCE", "GOVERNANCE", -1)
    for asked, mode, days in (("COMPLIANCE", "GOVERNANCE", 0), ("GOVERNANCE", "GOVERNANCE", 13)):
        with pytest.raises(StoreError, match=f"set a weaker one: {mode}, until "):
            lock(asked, mode, days)


def test_parts_have_digests_where_the_key_may_not_ask_for_locks(faulty: Faulty) -> None:
    """The bucket may have a default retention, and would refuse them."""

    def digests(reply: Reply) -> list[bool]:
        with faulty(refusing(reply, "GetObjectLockConfiguration")) as (store, proxy):
            upload = store.begin("k")
            upload.part(1, 0, b"1")
            upload.complete()
            return ["content-md5" in each.headers for each in proxy.seen if each.operation == "UploadPart"]

    assert digests(DENIED) == [True]
    assert digests(Reply(200, {}, LOCKED)) == [True]
    assert digests(refusal(404, "ObjectLockConfigurationNotFoundError")) == [False]


def only(reply: Reply, operation: str, part: str) -> Rule:
    """Answer an operation on the keys that contain a text."""
    return lambda request, forward: (
        reply if request.operation == operation and part in request.key else forward()
    )


def test_a_manifest_that_is_accepted_and_not_stored(faulty: Faulty) -> None:
    made = documents.manifest(objects=())
    with (
        faulty(only(Reply(200, {"ETag": '"x"'}), "PutObject", "manifest")) as (store, _),
        pytest.raises(DumpError, match=r"the store accepted \d+ bytes of manifest.json but has nothing"),
    ):
        commit(store, made, NO_KEYS)
    with faulty(lambda _, forward: forward()) as (store, _):
        commit(store, made, NO_KEYS)
        assert store.head(layout.manifest("shop", made.id)) is not None


def cut_above(size: int) -> Rule:
    """A proxy that breaks off larger requests."""

    def rule(request: Request, forward: Forward) -> Reply:
        if len(request.body) > size:
            raise Cut
        return forward()

    return rule


def settings(proxy: Proxy, bucket: str, object_store: ObjectStore) -> dict[str, str]:
    """Those of a sidecar whose database does not answer: the checks of the stores come first."""
    return {
        "DATABASE_URL": "postgresql://user@127.0.0.1:9/shop",
        "BACKUP_STORE_URL": f"s3://{bucket}/p",
        "BACKUP_S3_ENDPOINT_URL": proxy.endpoint,
        "BACKUP_S3_ACCESS_KEY_ID": object_store.access_key,
        "BACKUP_S3_SECRET_ACCESS_KEY": object_store.secret_key,
        "BACKUP_STORE_ATTEMPTS": "2",
    }


def unlisted(request: Request, forward: Forward) -> Reply:
    """A store that lists nothing of what it has."""
    reply = forward()
    if request.operation != "ListObjectsV2":
        return reply
    return Reply(
        reply.status, reply.headers, re.sub(rb"<Contents>.*</Contents>", b"", reply.body, flags=re.DOTALL)
    )


@pytest.mark.parametrize(
    ("rule", "verdict", "says"),
    [
        pytest.param(lambda _, forward: forward(), True, "two parts", id="healthy"),
        pytest.param(refusing(DENIED, *WRITES), False, "Access Denied", id="read-only"),
        pytest.param(refusing(DENIED, "CreateMultipartUpload"), False, "Access Denied", id="no-multipart"),
        pytest.param(refusing(DENIED, "HeadObject"), False, "Forbidden", id="no-head"),
        pytest.param(
            refusing(DENIED, "DeleteObject", "DeleteObjects"), False, "s3:DeleteObject", id="no-delete"
        ),
        pytest.param(
            refusing(DENIED, "AbortMultipartUpload"), None, "s3:AbortMultipartUpload", id="no-abort"
        ),
        pytest.param(
            refusing(DENIED, "ListMultipartUploads"), None, "s3:ListBucketMultipartUploads", id="no-uploads"
        ),
        pytest.param(
            only(Reply(200, {"ETag": '"x"'}), "PutObject", ""), False, "NoSuchKey", id="put-dropped"
        ),
        pytest.param(
            refusing(Reply(200, {}, b"<CompleteMultipartUploadResult/>"), "CompleteMultipartUpload"),
            False,
            "NoSuchKey",
            id="complete-dropped",
        ),
        pytest.param(
            refusing(refusal(200, "InternalError"), "CompleteMultipartUpload"),
            False,
            "InternalError",
            id="error-200",
        ),
        pytest.param(unlisted, False, "it does not list the object", id="unlisted"),
        pytest.param(
            changed("ListObjectsV2", b"<IsTruncated>false", b"<IsTruncated>true"),
            False,
            "the store's listing is incomplete",
            id="truncated",
        ),
        pytest.param(everything(XHTML), False, "not that of an S3 server", id="page"),
        pytest.param(
            refusing(XHTML, "CreateMultipartUpload"), False, "not that of an S3 server", id="page-later"
        ),
        pytest.param(cut_above(7 << 20), False, "ConnectionClosedError", id="large-requests-cut"),
        pytest.param(
            lambda request, forward: Reply(413) if len(request.body) > 7 << 20 else forward(),
            False,
            "allow larger requests",
            id="large-requests-refused",
        ),
        pytest.param(
            refusing(refusal(403, "InvalidObjectState"), "GetObject"),
            False,
            "can be read at once",
            id="archived",
        ),
    ],
)
def test_doctor_finds_it(
    object_store: ObjectStore, bucket: str, rule: Rule, verdict: bool | None, says: str
) -> None:
    with proxied(object_store.port, rule) as proxy:
        wiring = wire(BackupSettings.load(settings(proxy, bucket, object_store)))
        checks = list(takewhile(lambda check: check.name.startswith("store main"), examine(wiring)))
    assert [each for each in checks if each.ok is verdict and says in each.detail + each.fix], checks
    if verdict is not False:
        assert [each for each in checks if each.ok is False] == []


@pytest.mark.parametrize("deletes", [True, False])
def test_doctor_tries_to_delete_a_locked_object(
    object_store: ObjectStore, bucket: str, deletes: bool
) -> None:
    """A store may report a lock and not enforce it."""

    def rule(request: Request, forward: Forward) -> Reply:
        if request.operation == "GetObjectRetention":
            return retention("GOVERNANCE", datetime.now(UTC) + timedelta(days=2))
        if request.operation.startswith("DeleteObject") and not deletes:
            return refusal(403, "AccessDenied", "protected by object lock")
        return forward()

    with proxied(object_store.port, rule) as proxy:
        given = {**settings(proxy, bucket, object_store), "BACKUP_S3_OBJECT_LOCK_DAYS": "1"}
        wiring = wire(BackupSettings.load(given))
        checks = {
            check.name: check for check in takewhile(lambda each: "store main" in each.name, examine(wiring))
        }
    assert checks["store main: lock"].ok is not deletes, checks
    assert ("deleted the object regardless" in checks["store main: lock"].detail) is deletes


@pytest.mark.parametrize("verb", ["doctor", "run"])
def test_a_page_is_reported_by_the_commands(
    object_store: ObjectStore,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    with proxied(object_store.port, everything(XHTML)) as proxy:
        done = Command(settings(proxy, bucket, object_store), monkeypatch, capsys)(verb)
    assert done.status == 1
    assert "not of its web console" in " ".join((done.out + done.err).split()), done
