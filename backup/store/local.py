"""A store in a local folder: the spool, a mounted disk, a NAS."""

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from backup.errors import StoreAccessError, StoreError
from backup.store.base import PIECE, ObjectInfo, PendingUpload, Refusal, Store, Upload
from backup.store.memory import not_found, upload_gone

UPLOADS = ".uploads"
LONGEST_KEY = 4096
# Errors for a name without a file: nothing exists, or a link points to nothing or to itself.
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
# A file's year may be outside the range of datetime.
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
# Errors that a retry cannot resolve.
_PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}


class LocalStore(Store):
    """Objects as files below one folder. A file appears complete, by a rename, after it was written to disk.

    Args:
        made: create the folder if it is missing. Otherwise it must exist: an unmounted disk must not look like an empty store.
    """

    def __init__(self, folder: Path, name: str = "main", *, made: bool = False) -> None:
        self.name = name
        self.url = f"file://{folder}"
        self.folder = folder
        self._uploads = folder / UPLOADS
        self._made = made

    def check(self) -> None:
        self._provide("check")
        with _explained("check", self.folder):
            self._uploads.mkdir(exist_ok=True)
        if not os.access(self._uploads, os.W_OK):
            raise StoreAccessError(
                f"the store's folder {self.folder} is not writable",
                hint=f"make the user with ID {os.geteuid()} its owner",
                operation="check",
            )

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        upload = self.begin(key, retain_until=retain_until)
        try:
            upload.part(1, 0, data)
            upload.complete()
        except BaseException:
            upload.abort()
            raise

    def get(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        path = self._path(key)
        if not path.is_file():
            raise not_found(key, self.url, "get")
        with _explained("get", path), path.open("rb", buffering=0) as file:
            file.seek(start)
            while data := file.read(PIECE):
                yield data

    def head(self, key: str) -> ObjectInfo | None:
        with _explained("head", self._path(key)):
            return _info(key, self._path(key))

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if not self._made:
            self._expect("list")
        # Walk only the deepest folder in the prefix.
        start = self._path(prefix.rpartition("/")[0])
        found = []
        with _explained("list", start):
            for parent, folders, files in os.walk(start, onerror=_unless_gone):
                folders[:] = [name for name in folders if name != UPLOADS]
                found += [Path(parent) / name for name in files]
        for key in sorted(path.relative_to(self.folder).as_posix() for path in found):
            # Skip a file that was deleted in the meantime.
            if key.startswith(prefix) and (info := self.head(key)):
                yield info

    def folders(self, prefix: str = "") -> list[str]:
        if not self._made:
            self._expect("list")
        start = self._path(prefix)
        if not start.is_dir():
            return []
        with _explained("list", start):
            return sorted(path.name for path in start.iterdir() if path.name != UPLOADS and path.is_dir())

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        refused = []
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                refused.append(Refusal(key, error.strerror or str(error)))
            else:
                self._tidy(self._path(key).parent)
        return refused

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:  # noqa: ARG002 - files have no locks
        upload_id = secrets.token_hex(8)
        path = self._uploads / upload_id
        self._provide("begin")
        with _explained("begin", path):
            self._uploads.mkdir(exist_ok=True)
            # Write the key first, so that an interrupted start leaves nothing without a name.
            path.with_suffix(".key").write_text(key, encoding="utf-8")
            path.touch(mode=0o600)
            return LocalUpload(path, self._path(key), key)

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        for named in sorted(self._uploads.glob("*.key")):
            with _explained("pending", named):
                info = _info("", named)
                # It has ended in the meantime, or is not ours.
                if info is None or info.size > LONGEST_KEY:
                    continue
                with suppress(FileNotFoundError):
                    key = named.read_text(encoding="utf-8", errors="replace")
                    if key.startswith(prefix):
                        yield PendingUpload(key, named.stem)

    def abort(self, upload: PendingUpload) -> None:
        path = self._uploads / upload.upload_id
        with _explained("abort", path):
            path.unlink(missing_ok=True)
            path.with_suffix(".key").unlink(missing_ok=True)

    def _provide(self, operation: str) -> None:
        if self._made:
            with _explained(operation, self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        else:
            self._expect(operation)

    def _expect(self, operation: str) -> None:
        if not self.folder.is_dir():
            raise StoreAccessError(
                f"the store's folder {self.folder} does not exist",
                hint=f"mount its disk; for a new store, create it once: mkdir -p {self.folder}",
                operation=operation,
            )

    def _path(self, key: str) -> Path:
        return self.folder / key

    def _tidy(self, folder: Path) -> None:
        """Remove folders that became empty: keys have no folders."""
        while folder != self.folder and folder.is_relative_to(self.folder):
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


class LocalUpload(Upload):
    """A file that is written at offsets and renamed at the end."""

    def __init__(self, path: Path, target: Path, key: str) -> None:
        self._path = path
        self._target = target
        self._key = key
        self._file = os.open(path, os.O_WRONLY)

    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:  # noqa: ARG002 - offsets suffice
        with _explained("part", self._target):
            view = memoryview(data)
            while view:
                written = os.pwrite(self._file, view, offset)
                view, offset = view[written:], offset + written

    def complete(self) -> None:
        if not self._path.exists():
            raise upload_gone(self._key, "complete")
        with _explained("complete", self._target):
            os.fsync(self._file)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._path.rename(self._target)
            _sync_folder(self._target.parent)
            self._forget()

    def abort(self) -> None:
        self._path.unlink(missing_ok=True)
        self._forget()

    def _forget(self) -> None:
        self._path.with_suffix(".key").unlink(missing_ok=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _unless_gone(error: OSError) -> None:
    """Treat only a missing file as missing; a file that cannot be read is an error."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _info(key: str, path: Path) -> ObjectInfo | None:
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in _NO_FILE:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    modified = datetime.fromtimestamp(min(max(status.st_mtime, 0), _LATEST), UTC)
    return ObjectInfo(key, status.st_size, modified, f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable across a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(operation: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = StoreAccessError if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS} else StoreError
        raise kind(
            f"{operation} of {path} failed: {error.strerror or error}",
            hint="check free space and permissions there",
            operation=operation,
            transient=error.errno not in _PERMANENT,
        ) from error
