"""Where media files are kept: a bucket of an S3-compatible store, or a folder.

MEDIA_STORE_URL is s3://BUCKET/PREFIX or file:///FOLDER. Keys are made by this app only, and never contain user input.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

TIMEOUT = 10
MISSING = {"404", "NoSuchKey", "NotFound"}


class StoreError(Exception):
    """The store does not answer, or refuses the operation. Another attempt may succeed."""


class MissingObjectError(Exception):
    """The store has no object with this key."""


class MediaStore(Protocol):
    """The operations of a store. Each raises StoreError if the store fails."""

    def put(self, key: str, content: bytes, content_type: str) -> None:
        """Store an object, or replace it. It is visible only when it is complete."""

    def get(self, key: str) -> bytes:
        """The content of an object.

        Raises:
            MissingObjectError: there is none.
        """

    def delete(self, key: str) -> None:
        """Delete an object, if there is one."""


class FolderStore:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, content: bytes, content_type: str) -> None:
        del content_type
        target = self._folder / key
        with _folder_errors():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(target)

    def get(self, key: str) -> bytes:
        with _folder_errors():
            try:
                return (self._folder / key).read_bytes()
            except FileNotFoundError:
                raise MissingObjectError(key) from None

    def delete(self, key: str) -> None:
        with _folder_errors():
            (self._folder / key).unlink(missing_ok=True)


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

    def get(self, key: str) -> bytes:
        with _s3_errors():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] in MISSING:
                    raise MissingObjectError(key) from None
                raise
            content: bytes = answer["Body"].read()
            return content

    def delete(self, key: str) -> None:
        with _s3_errors():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)


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
