"""Where media files are kept: a bucket of an S3-compatible store, or a folder.

MEDIA_STORE_URL is s3://BUCKET/PREFIX or file:///FOLDER. Keys are created only by this app, and never contain user input.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings

# Bytes that are read at a time.
CHUNK = 64 * 1024


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
            file = tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False)  # noqa: SIM115 - closed by the next statement
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
        return pieces(file, last - first + 1)

    def delete(self, key: str) -> None:
        with _folder_errors():
            (self._folder / key).unlink(missing_ok=True)


def pieces(file: Any, left: int) -> Iterator[bytes]:
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
    # Loading the client takes a quarter of the start of every process.
    from media.bucket import connect

    return connect(parts.netloc, parts.path, endpoint, region, key_id, secret)
