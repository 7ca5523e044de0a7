"""A stored object back into plain bytes, with its digest checked on the way."""

import errno
import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import zstandard

from backup.catalogue.manifest import StoredObject
from backup.errors import NoIdentityError, NotFoundError, SpaceError, VerificationError
from backup.pipeline.encrypt import Identity, Reader, decrypt
from backup.pipeline.readahead import BackgroundWriter, Seen, read_ahead
from backup.progress import Progress, silent
from backup.store import Store
from backup.store.base import PIECE
from sidecar import OpsError


@dataclass(frozen=True)
class Fetched:
    """What came out. ``sha256`` is of the bytes in the store, None if there are none."""

    sha256: str | None
    stored_bytes: int
    raw_bytes: int
    problem: str | None = None


def fetch(
    store: Store,
    key: str,
    stored: StoredObject,
    target: Path,
    identities: tuple[Identity, ...] = (),
    progress: Progress = silent,
    plain: Seen | None = None,
) -> Fetched:
    """Write the object's plain bytes to a file.

    The whole object is read and hashed even if decoding fails on the way: then the digest tells why.

    Args:
        plain: shown the plain bytes as they pass, in a thread.

    Raises:
        VerificationError: it is encrypted, and no identity is given or none fits what is whole.
        StoreError: the store does not answer.
        SpaceError: the disk is full.
    """
    if stored.encryption and not identities:
        raise VerificationError(
            f"{key} is encrypted and there is no identity to decrypt it with",
            hint="set BACKUP_AGE_IDENTITY to the secret key, or BACKUP_AGE_IDENTITY_FILE to the file that age-keygen made",
        )
    try:
        with target.open("wb") as file, closing(_Hashed(store.stream(key), progress)) as reader:
            problem = _decode(reader, _Plain(file, plain), stored.encryption, identities)
            reader.drain()
            if isinstance(problem, NoIdentityError) and reader.digest == stored.sha256:
                raise problem  # of keys, and not of the backup
            return Fetched(reader.digest, reader.size, file.tell(), problem.message if problem else None)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SpaceError(
            f"{target.parent.parent}: {error.strerror}", hint="set BACKUP_WORK_DIR to a folder with more room"
        ) from None
    except NotFoundError:
        return Fetched(None, 0, 0, "it is not in the store")


def _decode(
    reader: "_Hashed", file: "_Plain", encryption: str | None, identities: tuple[Identity, ...]
) -> OpsError | None:
    with BackgroundWriter(file.decompress) as writer:
        try:
            if encryption:
                decrypt(reader, writer, identities)
            else:
                while data := reader.read(1 << 16):
                    writer.write(data)
            writer.finish()
        except (OpsError, OSError, zstandard.ZstdError) as error:
            # Decryption reports in its own words what its reader or its writer ran into; these are the better ones.
            return _problem(writer.failure or reader.failure or error)
    return None


def _problem(failure: BaseException) -> OpsError:
    """What the backup has; what is no fault of its own is raised."""
    if isinstance(failure, zstandard.ZstdError):
        return VerificationError(
            f"decompression failed: {failure}", hint="restore from another backup: python -m backup list"
        )
    if isinstance(failure, VerificationError):
        return failure
    raise failure


class _Plain:
    """The file of plain bytes."""

    def __init__(self, file: IO[bytes], seen: Seen | None) -> None:
        self._file = file
        self._seen = seen

    def decompress(self, source: Reader) -> None:
        """Fill it; pieces stay small, however well they were compressed."""
        pulled: Any = source  # all it needs is read(), whatever the stubs say
        reader = zstandard.ZstdDecompressor().stream_reader(pulled)
        with BackgroundWriter(self._write) as writer:
            while plain := reader.read(PIECE):
                writer.write(plain)
            writer.finish()

    def _write(self, source: Reader) -> None:
        while plain := source.read():
            if self._seen is not None:
                self._seen(plain)
            self._file.write(plain)


class _Hashed:
    """A stream of pieces as a file-like reader that hashes what passes."""

    def __init__(self, pieces: Iterator[bytes], progress: Progress) -> None:
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
        """Read what decoding left."""
        while self._next():
            pass

    def _next(self) -> bool:
        try:
            piece = next(self._pieces, b"")
        except OpsError as error:
            self.failure = error
            raise
        self.size += len(piece)
        self._progress(len(piece))
        self._rest = memoryview(piece)
        return bool(piece)
