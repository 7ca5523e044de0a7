"""A media store in a bucket of an S3-compatible store."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from media.store import MissingObjectError, StoreError, pieces

TIMEOUT = 10
# Bytes of a part of a long object. S3 requires parts of at least 5 MiB.
PART = 8 * 1024 * 1024
MISSING = {"404", "NoSuchKey", "NotFound"}


class S3Store:
    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def put(self, key: str, content: bytes, content_type: str) -> None:
        with _s3_errors():
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=content, ContentType=content_type
            )

    def put_stream(self, key: str, chunks: Iterable[bytes], content_type: str) -> None:
        """As a multipart upload, which is completed only after the last chunk. A short object is put in one request."""
        parts = _parts(chunks)
        first = next(parts, b"")
        if len(first) < PART:
            # A part that is not full is the only one, and the chunks have ended.
            return self.put(key, first, content_type)
        place = {"Bucket": self._bucket, "Key": self._prefix + key}
        with _s3_errors():
            upload = self._client.create_multipart_upload(**place, ContentType=content_type)["UploadId"]
        try:
            done = [self._upload(place, upload, 1, first)]
            done += [self._upload(place, upload, number, part) for number, part in enumerate(parts, 2)]
            with _s3_errors():
                self._client.complete_multipart_upload(
                    **place, UploadId=upload, MultipartUpload={"Parts": done}
                )
        except BaseException:
            with suppress(StoreError), _s3_errors():
                self._client.abort_multipart_upload(**place, UploadId=upload)
            raise

    def _upload(self, place: dict[str, str], upload: str, number: int, part: bytes) -> dict[str, Any]:
        with _s3_errors():
            answer = self._client.upload_part(**place, UploadId=upload, PartNumber=number, Body=part)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def get(self, key: str) -> bytes:
        with _s3_errors():
            content: bytes = self._open(key)["Body"].read()
            return content

    def size(self, key: str) -> int | None:
        with _s3_errors():
            try:
                return int(
                    self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)["ContentLength"]
                )
            except ClientError as error:
                if error.response["Error"]["Code"] in MISSING:
                    return None
                raise

    def stream(self, key: str, first: int, last: int) -> Iterator[bytes]:
        with _s3_errors():
            body = self._open(key, Range=f"bytes={first}-{last}")["Body"]
        return pieces(body, last - first + 1)

    def _open(self, key: str, **options: str) -> Any:
        try:
            return self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **options)
        except ClientError as error:
            if error.response["Error"]["Code"] in MISSING:
                raise MissingObjectError(key) from None
            raise

    def delete(self, key: str) -> None:
        with _s3_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Parts of PART bytes; the last one may be shorter."""
    part = bytearray()
    for chunk in chunks:
        part += chunk
        while len(part) >= PART:
            yield bytes(part[:PART])
            del part[:PART]
    if part:
        yield bytes(part)


@contextmanager
def _s3_errors() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise StoreError(f"media store: {error.response['Error']['Code']}") from error
    except (BotoCoreError, OSError) as error:
        raise StoreError(f"media store: {type(error).__name__}") from error


def connect(bucket: str, path: str, endpoint: str, region: str, key_id: str, secret: str) -> S3Store:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint or None,
        region_name=region or None,
        aws_access_key_id=key_id or None,
        aws_secret_access_key=secret or None,
        config=Config(
            connect_timeout=TIMEOUT,
            read_timeout=TIMEOUT,
            retries={"mode": "standard", "max_attempts": 3},
            # Compatible stores do not all know the newer checksums and host names.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint else "auto"},
        ),
    )
    prefix = path.strip("/")
    return S3Store(client, bucket, f"{prefix}/" if prefix else "")
