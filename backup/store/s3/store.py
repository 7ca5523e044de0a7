"""Objects below a prefix of one bucket."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

from backup.errors import KeptError, NotFoundError, StoreError
from backup.store.base import PIECE, ObjectInfo, PendingUpload, Refusal, Store, Upload
from backup.store.options import S3Options
from backup.store.s3.bucket import CONNECTIONS, Bucket, proof
from backup.store.s3.deletion import delete
from backup.store.s3.locks import Locks


class S3Store(Store):
    """Objects below a prefix of one bucket. The caller retries (:class:`backup.store.retry.RetryingStore`)."""

    parallel = CONNECTIONS

    def __init__(self, bucket: str, prefix: str, options: S3Options, name: str = "main") -> None:
        self.name = name
        self._bucket = Bucket(bucket, prefix, options)
        self._locks = Locks(self._bucket)
        self.url = self._bucket.url

    def check(self) -> None:
        bucket = self._bucket
        with bucket.explained("check", bucket.name):
            answer = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix=bucket.prefix, MaxKeys=1)
            bucket.check_listing(answer, "check")

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        bucket = self._bucket
        try:
            with bucket.explained("put", key):
                bucket.client.put_object(
                    Bucket=bucket.name,
                    Key=bucket.key(key),
                    Body=data,
                    **self._storing(retain_until),
                    **proof(data),  # a bucket with a default lock refuses a body without it
                )
        except StoreError as error:
            if error.transient or not self._there(key):
                raise
            # Servers name the reason in different ways. They agree that what can be created can be replaced, unless it is kept.
            raise KeptError(error.message, hint=error.hint, operation="put") from error
        if retain_until:
            self._locks.confirm(key, retain_until)

    def get(self, key: str) -> bytes:
        with self._bucket.explained("get", key):
            found = self._bucket.direct.get(self._bucket.key(key))
        return found if found is not None else b"".join(self.stream(key))

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        bucket = self._bucket
        rest: Any = {"Range": f"bytes={start}-"} if start else {}
        if start and self._ends_at(key, start):
            return  # no server answers a range that begins at the end
        with bucket.explained("get", key):
            answer = bucket.client.get_object(Bucket=bucket.name, Key=bucket.key(key), **rest)
            body, extra = answer["Body"], _before(answer, start)
            try:
                for piece in body.iter_chunks(PIECE):
                    if wanted := piece[extra:]:
                        yield wanted
                    extra = max(extra - len(piece), 0)
            finally:
                body.close()

    def head(self, key: str) -> ObjectInfo | None:
        bucket = self._bucket
        try:
            with bucket.explained("head", key):
                answer = bucket.client.head_object(Bucket=bucket.name, Key=bucket.key(key))
                return ObjectInfo(key, answer["ContentLength"], answer["LastModified"], answer["ETag"])
        except NotFoundError:
            return None

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        bucket = self._bucket
        with bucket.explained("list", prefix):
            infos = [
                ObjectInfo(bucket.own(item["Key"]), item["Size"], item["LastModified"], item["ETag"])
                for page in bucket.pages("list_objects_v2", "list", Prefix=bucket.key(prefix))
                for item in page.get("Contents", [])
            ]
        # SeaweedFS lists folder by folder.
        yield from sorted(infos, key=lambda info: info.key)

    def folders(self, prefix: str = "") -> list[str]:
        bucket = self._bucket
        with bucket.explained("list", prefix):
            pages = bucket.pages("list_objects_v2", "list", Prefix=bucket.key(prefix), Delimiter="/")
            names = [bucket.own(item["Prefix"]) for page in pages for item in page.get("CommonPrefixes", [])]
        return sorted(name.removeprefix(prefix).removesuffix("/") for name in names)

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        return delete(self._bucket, self._locks, list(keys))

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        bucket = self._bucket
        # Manifests and reports must be readable at once, so only multipart uploads get the storage class.
        storage_class = bucket.options.storage_class
        archived: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        with bucket.explained("begin", key):
            started = bucket.client.create_multipart_upload(
                Bucket=bucket.name,
                Key=bucket.key(key),
                **self._storing(retain_until),
                **archived,
                **_summed(bucket.options),
            )
            if "UploadId" not in started:
                raise bucket.not_s3("begin")
            locking = retain_until is not None or self._locks.may_be_enabled()
        return S3Upload(self, bucket, key, started["UploadId"], self._locks, retain_until, locking=locking)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        try:
            yield from self._pending(prefix)
        except NotFoundError:
            return  # some servers answer like this if there are none

    def abort(self, upload: PendingUpload) -> None:
        bucket = self._bucket
        try:
            with bucket.explained("abort", upload.key):
                bucket.client.abort_multipart_upload(
                    Bucket=bucket.name, Key=bucket.key(upload.key), UploadId=upload.upload_id
                )
        except NotFoundError:
            return

    def default_retention(self) -> str:
        return self._locks.default_retention()

    def _there(self, key: str) -> bool:
        with suppress(StoreError):
            return self.head(key) is not None
        return False

    def _ends_at(self, key: str, offset: int) -> bool:
        info = self.head(key)
        return info is not None and info.size == offset

    def _pending(self, prefix: str) -> Iterator[PendingUpload]:
        bucket = self._bucket
        with bucket.explained("pending", prefix):
            for page in bucket.pages("list_multipart_uploads", "pending", Prefix=bucket.key(prefix)):
                for item in page.get("Uploads", []):
                    # Some servers list the whole bucket regardless of the prefix.
                    if item["Key"].startswith(bucket.key(prefix)):
                        yield PendingUpload(bucket.own(item["Key"]), item["UploadId"])

    def _storing(self, retain_until: datetime | None) -> dict[str, Any]:
        options = self._bucket.options
        given = {
            "ServerSideEncryption": options.sse,
            "SSEKMSKeyId": options.sse_kms_key_id,
            "ObjectLockMode": options.object_lock_mode if retain_until else None,
            "ObjectLockRetainUntilDate": retain_until,
        }
        return {name: value for name, value in given.items() if value is not None}


class S3Upload(Upload):
    """A multipart upload. It remembers the ETag of each part, which the server requires at the end.

    Args:
        locks: confirms the lock of the object at the end.
        retain_until: the earliest end of its lock; None if it needs none.
        locking: whether each body needs its digest, because the bucket locks.
    """

    def __init__(
        self,
        store: S3Store,
        bucket: Bucket,
        key: str,
        upload_id: str,
        locks: Locks,
        retain_until: datetime | None,
        *,
        locking: bool,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._key = key
        self._id = upload_id
        self._locking = locking
        self._locks = locks
        self._retain_until = retain_until
        self._tags: dict[int, dict[str, Any]] = {}
        self._sizes: dict[int, int] = {}

    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:  # noqa: ARG002 - S3 has no offsets
        bucket = self._bucket
        body: Any = data  # a bytearray works too, although the stubs disagree
        with bucket.explained("part", self._key):
            answer = bucket.client.upload_part(
                Bucket=bucket.name,
                Key=bucket.key(self._key),
                UploadId=self._id,
                PartNumber=number,
                Body=body,
                **(proof(data) if self._locking else {}),
                **_summed(bucket.options),
            )
            answer["ETag"]  # a proxy may answer instead of the server
        tags = {
            name: value for name, value in answer.items() if name == "ETag" or name.startswith("Checksum")
        }
        tags.pop("ChecksumType", None)
        # Each thread assigns a different number.
        self._tags[number] = tags
        self._sizes[number] = len(data)

    def complete(self) -> None:
        bucket = self._bucket
        parts: Any = [{"PartNumber": number, **self._tags[number]} for number in sorted(self._tags)]
        try:
            with bucket.explained("complete", self._key):
                bucket.client.complete_multipart_upload(
                    Bucket=bucket.name,
                    Key=bucket.key(self._key),
                    UploadId=self._id,
                    MultipartUpload={"Parts": parts},
                )
        except NotFoundError:
            # The answer to an earlier attempt may have been lost.
            info = self._store.head(self._key)
            if info is None or info.size != sum(self._sizes.values()):
                raise
        if self._retain_until:
            self._locks.confirm(self._key, self._retain_until)

    def abort(self) -> None:
        self._store.abort(PendingUpload(self._key, self._id))


def _before(answer: Any, start: int) -> int:
    """How much of an answer comes before the byte that was asked for: some servers and proxies ignore ranges."""
    found = re.match(r"bytes (\d+)-", answer.get("ContentRange", ""))
    return max(start - (int(found[1]) if found else 0), 0)


def _summed(options: S3Options) -> dict[str, Any]:
    """The checksums of an upload: a server must know from the start which ones the parts will have."""
    return {"ChecksumAlgorithm": "CRC32"} if options.checksum == "when_supported" else {}
