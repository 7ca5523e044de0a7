"""Decrypts and decompresses a stored object, and computes its digest on the way."""

import errno
import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import zstandard

from backup.cancellation import never
from backup.catalogue.manifest import StoredObject
from backup.errors import NoIdentityError, NotFoundError, SpaceError, VerificationError
from backup.pipeline import apart
from backup.pipeline.encrypt import Identity, Reader, decrypt
from backup.pipeline.readahead import BackgroundWriter, Seen, read_ahead
from backup.progress import Progress, silent
from backup.store import Store
from backup.store.base import PIECE
from sidecar import OpsError


@dataclass(frozen=True)
class Fetched:
    """The result. ``sha256`` is the digest of the stored bytes, None if the object is missing."""

    sha256: str | None
    stored_bytes: int
    raw_bytes: int
    problem: str | None = None
    too_large: bool = False


def fetch(
    store: Store,
    key: str,
    stored: StoredObject,
    target: Path | None,
    identities: tuple[Identity, ...] = (),
    progress: Progress = silent,
    plain: Seen | None = None,
    check: Callable[[], None] = never,
) -> Fetched:
    """Write the object's plain bytes to a file, if one is given.

    The whole object is read and hashed even if decoding fails, because the digest then shows the cause.

    Args:
        plain: called with the plain bytes as they are decoded, in a thread.
        check: called with each piece that arrives or is written, in several threads; raises to stop.

    Raises:
        VerificationError: the object is encrypted, and no identity is set, or none decrypts an intact object.
        StoreError: the store does not answer.
        SpaceError: the disk is full.
    """
    if stored.encryption and not identities:
        raise VerificationError(
            f"{key} is encrypted, and no identity is set",
            hint="set BACKUP_AGE_IDENTITY to the secret key, or BACKUP_AGE_IDENTITY_FILE to the output file of age-keygen",
        )
    try:
        with (
            target.open("wb") if target else nullcontext() as file,
            closing(_Hashed(store.stream(key), progress, check)) as reader,
        ):
            target_file = _Plain(file, plain, stored.raw_bytes, check)
            problem = _decode(reader, target_file, stored, identities)
            reader.drain()
            if isinstance(problem, NoIdentityError) and reader.digest == stored.sha256:
                raise problem  # the keys are at fault, not the backup
            too_large = isinstance(problem, _TooLargeError)
            return Fetched(
                reader.digest, reader.size, target_file.size, problem.message if problem else None, too_large
            )
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SpaceError(
            f"{target.parent.parent if target else 'the disk'}: {error.strerror}",
            hint="set BACKUP_WORK_DIR to a folder with more room",
        ) from None
    except NotFoundError:
        return Fetched(None, 0, 0, "it is missing from the store")


def _decode(
    reader: "_Hashed", file: "_Plain", stored: StoredObject, identities: tuple[Identity, ...]
) -> OpsError | None:
    with BackgroundWriter(file.decompress) as writer:
        try:
            if stored.encryption:
                by = decrypt if stored.stored_bytes < apart.LEAST else apart.decrypt_apart
                by(reader, writer, identities)
            else:
                while data := reader.read(1 << 16):
                    writer.write(data)
            writer.finish()
        except (OpsError, OSError, zstandard.ZstdError) as error:
            # pyrage wraps our exception; re-raise the original.
            return _problem(writer.failure or reader.failure or error)
    return None


def _problem(failure: BaseException) -> OpsError:
    """The differences of the backup; failures with other causes are raised."""
    if isinstance(failure, zstandard.ZstdError):
        return VerificationError(
            f"decompression failed: {failure}", hint="restore from another backup: python -m backup list"
        )
    if isinstance(failure, VerificationError):
        return failure
    raise failure


class _TooLargeError(VerificationError):
    """The object has more plain bytes than the manifest promises."""


class _Plain:
    """The target file for the plain bytes, limited to the size in the manifest: a small object could fill a disk."""

    def __init__(
        self, file: IO[bytes] | None, seen: Seen | None, most: int, check: Callable[[], None]
    ) -> None:
        self._file = file
        self._check = check
        self._seen = seen
        self._most = most
        self.size = 0

    def decompress(self, source: Reader) -> None:
        """Write the file. Pieces remain small, however well they were compressed."""
        pulled: Any = source  # it only needs read(), although the stubs require more
        reader = zstandard.ZstdDecompressor().stream_reader(pulled)
        if self._file is None:
            # Nothing waits for a disk here.
            while plain := reader.read(PIECE):
                self._take(plain)
            return
        with BackgroundWriter(self._write) as writer:
            while plain := reader.read(PIECE):
                writer.write(plain)
            writer.finish()

    def _write(self, source: Reader) -> None:
        while plain := source.read():
            self._take(plain)

    def _take(self, plain: bytes) -> None:
        # A small object can grow into a large file between two of its pieces.
        self._check()
        self.size += len(plain)
        if self.size > self._most:
            raise _TooLargeError("it unpacks to more than its manifest says", hint="do not use this backup")
        if self._seen is not None:
            self._seen(plain)
        if self._file is not None:
            self._file.write(plain)


class _Hashed:
    """A file-like reader over pieces that hashes them."""

    def __init__(self, pieces: Iterator[bytes], progress: Progress, check: Callable[[], None]) -> None:
        self._check = check
        self.size = 0
        self.failure: OpsError | None = None
        self._hash = hashlib.sha256()
        self._pieces = read_ahead(pieces, seen=self._hash.update)
        self._progress = progress
        self._rest = memoryview(b"")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._next()
        data = self._rest if size < 0 else self._rest[:size]
        self._rest = self._rest[len(data) :]
        return bytes(data)

    def close(self) -> None:
        self._pieces.close()

    def drain(self) -> None:
        """Read what decoding left over."""
        while self._next():
            pass

    def _next(self) -> bool:
        try:
            piece = next(self._pieces, b"")
        except OpsError as error:
            self.failure = error
            raise
        self._check()
        self.size += len(piece)
        self._progress(len(piece))
        self._rest = memoryview(piece)
        return bool(piece)
