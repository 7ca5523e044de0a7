"""A store in an S3 bucket of Amazon or any compatible server."""

from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from hashlib import md5
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError

from backup.errors import NotFoundError, StoreAccessError, StoreError
from backup.store.base import PIECE, ObjectInfo, PendingUpload, Refusal, Store, Upload
from backup.store.options import S3Options
from sidecar.address import is_near

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DELETE_BATCH = 1000
CONNECTIONS = 16
NO_LOCKS = "set BACKUP_S3_OBJECT_LOCK_DAYS=0, or use a bucket that was created with Object Lock on a store that has it"
_MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchUpload"}
_REFUSED = {
    "AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket",
    "InvalidBucketName", "AuthorizationHeaderMalformed", "PermanentRedirect", "InvalidStorageClass",
}  # fmt: skip
_TRY_AGAIN = {
    "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling", "TooManyRequests",
    "RequestTimeTooSkewed", "OperationAborted",
}  # fmt: skip
# Answers of a server without retention locks or upload listings.
_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "405", "501"}
# Answers to a bulk delete that may be refused where single deletes are not.
_NO_BULK = {*_UNSUPPORTED, "AccessDenied", "403", "MalformedXML", "InvalidArgument"}


class S3Store(Store):
    """Objects below a prefix of one bucket. The caller retries (:class:`backup.store.retry.RetryingStore`)."""

    parallel = CONNECTIONS

    def __init__(self, bucket: str, prefix: str, options: S3Options, name: str = "main") -> None:
        self.name = name
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._options = options
        self._client = _client(options)
        # Not known before the bucket is queried.
        self._locking: bool | None = None
        self._versioning: bool | None = None

    def check(self) -> None:
        with self._explained("check", self._bucket):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        with self._explained("put", key):
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._key(key),
                Body=data,
                **self._storing(retain_until),
                **_proof(data),  # a bucket with a default lock refuses a body without it
            )
        if retain_until:
            self._confirm_lock(key)

    def get(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        rest: Any = {"Range": f"bytes={start}-"} if start else {}
        if start and self._ends_at(key, start):
            return  # no server answers a range that begins at the end
        with self._explained("get", key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **rest)["Body"]
            try:
                yield from body.iter_chunks(PIECE)
            finally:
                body.close()

    def head(self, key: str) -> ObjectInfo | None:
        try:
            with self._explained("head", key):
                found = self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except NotFoundError:
            return None
        return ObjectInfo(key, found["ContentLength"], found["LastModified"], found["ETag"])

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._explained("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            found = [
                ObjectInfo(self._own(item["Key"]), item["Size"], item["LastModified"], item["ETag"])
                for page in pages
                for item in page.get("Contents", [])
            ]
        # SeaweedFS lists folder by folder.
        yield from sorted(found, key=lambda info: info.key)

    def folders(self) -> list[str]:
        with self._explained("list", ""):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
            )
            found = [self._own(item["Prefix"]) for page in pages for item in page.get("CommonPrefixes", [])]
        return sorted(name.removesuffix("/") for name in found)

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        waiting = list(keys)
        refused: list[Refusal] = []
        for start in range(0, len(waiting), DELETE_BATCH):
            refused += self._delete_batch(waiting[start : start + DELETE_BATCH])
        return refused

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        # Manifests and reports must be readable at once, so only multipart uploads get the storage class.
        storage_class = self._options.storage_class
        archived: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        with self._explained("begin", key):
            started = self._client.create_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(key),
                **self._storing(retain_until),
                **archived,
                **self._summed(),
            )
            locking = retain_until is not None or self._locks()
        return S3Upload(self, key, started["UploadId"], locking=locking, locked=retain_until is not None)

    def _summed(self) -> dict[str, Any]:
        """A server must know from the start which checksums the parts will have."""
        return {"ChecksumAlgorithm": "CRC32"} if self._options.checksum == "when_supported" else {}

    def _ends_at(self, key: str, offset: int) -> bool:
        info = self.head(key)
        return info is not None and info.size == offset

    def _confirm_lock(self, key: str) -> None:
        """Check that an object is locked: some servers accept a lock and do not set it."""
        with self._explained("retention", key):
            try:
                answer = self._client.get_object_retention(Bucket=self._bucket, Key=self._key(key))
            except ClientError as error:
                if _code(error) in _TRY_AGAIN - {"InternalError"}:
                    raise
                if _code(error) in _REFUSED:
                    return  # a key with write access only
                locked = self._lock_in_head(key)  # servers without this call answer in different ways
            else:
                locked = answer.get("Retention", {}).get("RetainUntilDate") is not None
        if not locked:
            raise StoreError(
                f"{key} in {self.url}: the store accepted a retention lock and did not set it",
                hint=NO_LOCKS,
                operation="lock",
            )

    def _lock_in_head(self, key: str) -> bool:
        """Whether the bucket has locks and an object reports one; without the former, the object's answer means nothing."""
        try:
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
            head = self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except ClientError:
            return False
        enabled = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        return enabled and head.get("ObjectLockRetainUntilDate") is not None

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        try:
            yield from self._pending(prefix)
        except NotFoundError:
            return  # some servers answer like this if there are none

    def _pending(self, prefix: str) -> Iterator[PendingUpload]:
        with self._explained("pending", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            for page in pages:
                for item in page.get("Uploads", []):
                    # Some servers list the whole bucket regardless of the prefix.
                    if item["Key"].startswith(self._key(prefix)):
                        yield PendingUpload(self._own(item["Key"]), item["UploadId"])

    def abort(self, upload: PendingUpload) -> None:
        try:
            with self._explained("abort", upload.key):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key(upload.key), UploadId=upload.upload_id
                )
        except NotFoundError:
            return

    def _delete_batch(self, keys: list[str]) -> list[Refusal]:
        with self._explained("delete", keys[0]):
            if not self._locks():
                return self._delete_objects([{"Key": self._key(key)} for key in keys])
            # In such a bucket, a delete without a version only hides the object: nothing would be refused,
            # and nothing ever freed.
            if not self._versioned():
                return self._delete_objects([{"Key": self._key(key)} for key in keys])
            versions = [version for key in keys for version in self._versions(self._key(key))]
            batches = [versions[at : at + DELETE_BATCH] for at in range(0, len(versions), DELETE_BATCH)]
            return [refusal for batch in batches for refusal in self._delete_objects(batch)]

    def _locks(self) -> bool:
        """Whether the bucket has Object Lock."""
        if self._locking is None:
            try:
                answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
            except ClientError as error:
                if _from_answer(error, "delete", self._bucket).transient:
                    raise
                # No lock, a server without locks, or no privilege to ask: then our own request shows it.
                self._locking = self._options.object_lock
            else:
                found = answer.get("ObjectLockConfiguration", {})
                self._locking = found.get("ObjectLockEnabled") == "Enabled" or self._options.object_lock
        return self._locking

    def _versioned(self) -> bool:
        """Whether the bucket keeps versions. A lock does not mean that everywhere."""
        if self._versioning is None:
            try:
                answer = self._client.get_bucket_versioning(Bucket=self._bucket)
            except ClientError as error:
                if _from_answer(error, "delete", self._bucket).transient:
                    raise
                # The key may not ask. Assume Amazon's rule, where a lock requires versions.
                self._versioning = not _code(error).startswith(("Versioning", "NotImplemented"))
            else:
                self._versioning = answer.get("Status") in ("Enabled", "Suspended")
        return self._versioning

    def _versions(self, key: str) -> Iterator[dict[str, str]]:
        """All versions of an object, and the delete markers that hide it."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=key)
        for page in pages:
            for item in (*page.get("Versions", []), *page.get("DeleteMarkers", [])):
                if item["Key"] == key:
                    yield {"Key": key, "VersionId": item["VersionId"]}

    def _delete_objects(self, objects: list[dict[str, str]]) -> list[Refusal]:
        wanted: Any = {"Objects": objects, "Quiet": True}
        try:
            answer = self._client.delete_objects(Bucket=self._bucket, Delete=wanted)
        except ClientError as error:
            if _code(error) not in _NO_BULK:
                raise
            return [refusal for each in objects for refusal in self._delete_one(each)]
        return [
            Refusal(self._own(error["Key"]), error.get("Message") or error.get("Code", "refused"))
            for error in answer.get("Errors", [])
            if error.get("Code") not in _MISSING
        ]

    def _delete_one(self, wanted: dict[str, str]) -> list[Refusal]:
        """Delete one at a time, for servers and privileges without the bulk call."""
        try:
            self._client.delete_object(Bucket=self._bucket, **wanted)  # type: ignore[arg-type]
        except ClientError as error:
            if _code(error) in _MISSING:
                return []
            if _from_answer(error, "delete", self._bucket).transient:
                raise
            message = error.response.get("Error", {}).get("Message") or _code(error)
            return [Refusal(self._own(wanted["Key"]), message)]
        return []

    def default_retention(self) -> str:
        """A description of the bucket's default lock; empty if there is none, or it is not known."""
        with suppress(ClientError):
            answer = self._client.get_object_lock_configuration(Bucket=self._bucket)
            rule = answer.get("ObjectLockConfiguration", {}).get("Rule", {}).get("DefaultRetention", {})
            if days := rule.get("Days"):
                return f"{days} days"
            if years := rule.get("Years"):
                return f"{years} years"
        return ""

    def _storing(self, retain_until: datetime | None) -> dict[str, Any]:
        options = self._options
        given = {
            "ServerSideEncryption": options.sse,
            "SSEKMSKeyId": options.sse_kms_key_id,
            "ObjectLockMode": options.object_lock_mode if retain_until else None,
            "ObjectLockRetainUntilDate": retain_until,
        }
        return {name: value for name, value in given.items() if value is not None}

    def _key(self, key: str) -> str:
        return f"{self._prefix}{key}"

    def _own(self, key: str) -> str:
        return key.removeprefix(self._prefix)

    @contextmanager
    def _explained(self, operation: str, key: str) -> Iterator[None]:
        where = f"{operation} of {key or '/'} in {self.url}"
        try:
            yield
        except ClientError as error:
            raise _from_answer(error, operation, where) from error
        except NoCredentialsError as error:
            raise StoreAccessError(
                f"{where}: no credentials",
                hint="set BACKUP_S3_ACCESS_KEY_ID and BACKUP_S3_SECRET_ACCESS_KEY_FILE",
                operation=operation,
            ) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise StoreError(
                f"{where}: {type(error).__name__}: {_short(error)}",
                hint=f"check that {self._options.endpoint_url or 'the S3 service'} is reachable from here",
                operation=operation,
                transient=True,
            ) from error


class S3Upload(Upload):
    """A multipart upload. It remembers the ETag of each part, which the server requires at the end."""

    def __init__(self, store: S3Store, key: str, upload_id: str, *, locking: bool, locked: bool) -> None:
        self._store = store
        self._key = key
        self._id = upload_id
        # Whether each body needs its digest because the bucket locks, and whether this object is to be locked.
        self._locking = locking
        self._locked = locked
        self._tags: dict[int, dict[str, Any]] = {}
        self._sizes: dict[int, int] = {}

    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:  # noqa: ARG002 - S3 has no offsets
        store = self._store
        body: Any = data  # a bytearray works too, although the stubs disagree
        with store._explained("part", self._key):
            answer = store._client.upload_part(
                Bucket=store._bucket,
                Key=store._key(self._key),
                UploadId=self._id,
                PartNumber=number,
                Body=body,
                **(_proof(data) if self._locking else {}),
                **store._summed(),
            )
        tags = {
            name: value for name, value in answer.items() if name == "ETag" or name.startswith("Checksum")
        }
        tags.pop("ChecksumType", None)
        # Each thread assigns a different number.
        self._tags[number] = tags
        self._sizes[number] = len(data)

    def complete(self) -> None:
        store = self._store
        parts: Any = [{"PartNumber": number, **self._tags[number]} for number in sorted(self._tags)]
        try:
            with store._explained("complete", self._key):
                store._client.complete_multipart_upload(
                    Bucket=store._bucket, Key=store._key(self._key), UploadId=self._id,
                    MultipartUpload={"Parts": parts},
                )  # fmt: skip
        except NotFoundError:
            # The answer to an earlier attempt may have been lost.
            found = store.head(self._key)
            if found is None or found.size != sum(self._sizes.values()):
                raise
        if self._locked:
            store._confirm_lock(self._key)

    def abort(self) -> None:
        self._store.abort(PendingUpload(self._key, self._id))


def _proof(data: bytes | bytearray) -> dict[str, Any]:
    """The digest that a bucket with Object Lock requires with each body."""
    return {"ContentMD5": b64encode(md5(data, usedforsecurity=False).digest()).decode()}


def _client(options: S3Options) -> "S3Client":
    config = Config(
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        # One attempt: RetryingStore retries and counts failures for all stores.
        retries={"mode": "standard", "total_max_attempts": 1},
        request_checksum_calculation=options.checksum,
        # Every byte is compared with the manifest's SHA-256. Some servers answer a range with the sum of the whole.
        response_checksum_validation="when_required",
        s3={
            "addressing_style": "path" if options.path_style else "virtual",
            # Every byte is already hashed for the manifest, and TLS protects the transfer.
            "payload_signing_enabled": False,
        },
        max_pool_connections=CONNECTIONS,
        # A store on this machine or in its network is never reached through a proxy.
        proxies={} if options.endpoint_url and is_near(options.endpoint_url) else None,
    )
    # botocore is the core of boto3; it starts in half the time, and boto3's upload helpers are not needed here.
    client: Any = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=options.endpoint_url,
        # Most compatible servers ignore the region, but a signature must name one.
        region_name=options.region or ("us-east-1" if options.endpoint_url else None),
        aws_access_key_id=options.access_key_id,
        aws_secret_access_key=options.secret_access_key,
        aws_session_token=options.session_token,
        config=config,
    )
    client.meta.events.register("before-call.s3.DeleteObjects", _add_digest)
    return client  # type: ignore[no-any-return]


def _add_digest(params: dict[str, Any], **_: object) -> None:
    """The digest that older servers require with a bulk delete, and that newer SDKs no longer send."""
    body = params["body"]
    data = body if isinstance(body, bytes) else body.encode()
    params["headers"].update({"Content-MD5": _proof(data)["ContentMD5"]})


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _from_answer(error: ClientError, operation: str, where: str) -> StoreError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{where}: {code}: {error.response.get('Error', {}).get('Message', '')}".rstrip(": ")
    if code in _REFUSED:
        hint = "check the bucket name, the region, the access key and its privileges"
        return StoreAccessError(message, hint=hint, operation=operation)
    if code in _MISSING:
        return NotFoundError(message, hint="list the backups: python -m backup list", operation=operation)
    hint = "check the log of the S3 server" if status >= 500 else "run: python -m backup doctor"
    if (
        "ObjectLock" in message
        or "Object Lock" in message
        or (code == "InvalidRequest" and operation in ("begin", "put"))
    ):
        hint = NO_LOCKS
    transient = status >= 500 or status == 429 or code in _TRY_AGAIN
    return StoreError(
        message, hint=hint, operation=operation, transient=transient and code not in _UNSUPPORTED
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) < 300 else f"{text[:300]}…"
