"""Where media files are kept: a bucket of an S3-compatible store, or a folder.

MEDIA_STORE_URL is s3://BUCKET/PREFIX or file:///FOLDER. Keys are created only by this app, and never contain user input.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

TIMEOUT = 10
# Bytes of a part of a long object, and of what is read at a time. S3 wants parts of at least 5 MiB.
PART = 8 * 1024 * 1024
CHUNK = 64 * 1024
MISSING = {"404", "NoSuchKey", "NotFound"}


class StoreError(Exception):
    """The store does not answer, or refuses the operation. Another attempt may succeed."""


class MissingObjectError(Exception):
    """The store has no object with this key."""


class MediaStore(Protocol):
    """The operations of a store. Each raises StoreError if the store fails."""

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """Store an object, or replace it. It is visible only when it is complete."""

    def put_stream(self, key: str, chunks: Iterable[bytes], content_type: str) -> None:
        """Store an object of unknown length, in bounded memory. If `chunks` raises, nothing is stored."""

    def get(self, key: str) -> bytes:
        """The content of an object.

        Raises:
            MissingObjectError: there is none.
        """

    def size(self, key: str) -> int | None:
        """The bytes of an object; None if there is none."""

    def stream(self, key: str, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, both included, in pieces. The object is opened before this returns.

        Raises:
            MissingObjectError: there is none.
        """

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""


class FolderStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: bytes, content_type: str) -> None:
        self.put_stream(key, (content,), content_type)

    def put_stream(self, key: str, chunks: Iterable[bytes], content_type: str) -> None:
        del content_type
        target = self._folder / key
        with _folder_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            file = tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False)  # noqa: SIM115
        try:
            with file:
                for chunk in chunks:
                    with _folder_errors():
                        file.write(chunk)
                with _folder_errors():
                    file.flush()
                    os.fsync(file.fileno())
            with _folder_errors():
                Path(file.name).replace(target)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise

    def get(self, key: str) -> bytes:
        with _folder_errors():
            try:
                return (self._folder / key).read_bytes()
            except FileNotFoundError:
                raise MissingObjectError(key) from None

    def size(self, key: str) -> int | None:
        with _folder_errors():
            try:
                return (self._folder / key).stat().st_size
            except FileNotFoundError:
                return None

    def stream(self, key: str, first: int, last: int) -> Iterator[bytes]:
        with _folder_errors():
            try:
                file = (self._folder / key).open("rb")
            except FileNotFoundError:
                raise MissingObjectError(key) from None
            file.seek(first)
        return _pieces(file, last - first + 1)

    def delete(self, key: str) -> None:
        with _folder_errors():
            (self._folder / key).unlink(missing_ok=True)


def _pieces(file: Any, left: int) -> Iterator[bytes]:
    """The next bytes of a file or a response body, which is closed afterwards."""
    with closing(file):
        while left and (piece := file.read(min(CHUNK, left))):
            left -= len(piece)
            yield piece


@contextmanager
def _folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"media folder: {error.strerror}") from error


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
        return _pieces(body, last - first + 1)

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


def is_configured() -> bool:
    return bool(settings.MEDIA_STORE_URL)


def current() -> MediaStore:
    """The configured store. Call it only if there is one."""
    return _make(
        settings.MEDIA_STORE_URL,
        settings.MEDIA_S3_ENDPOINT_URL,
        settings.MEDIA_S3_REGION,
        settings.MEDIA_S3_ACCESS_KEY_ID,
        settings.MEDIA_S3_SECRET_ACCESS_KEY,
    )


@cache
def _make(url: str, endpoint: str, region: str, key_id: str, secret: str) -> MediaStore:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return FolderStore(Path(unquote(parts.path)))
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
    prefix = parts.path.strip("/")
    return S3Store(client, parts.netloc, f"{prefix}/" if prefix else "")
