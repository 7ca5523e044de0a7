"""The contract of a store for backups.

S3, a local folder and memory implement it, and one shared test suite (``tests/backup/test_stores.py``) checks them all.
To add a store: subclass :class:`Store` and :class:`Upload`, raise :class:`~backup.errors.StoreError` with ``transient``
set where a retry may help, accept its URL scheme in :mod:`backup.store.urls`, and add it to the fixture of the shared
suite. Retries, counting of failures and resumed downloads are added around every store by
:class:`~backup.store.retry.RetryingStore`, so a store itself tries once.

Every operation may be called from several threads at once. Every operation is idempotent: after an error whose effect is
not known, the same call can be repeated."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

PIECE = 1 << 20


@dataclass(frozen=True)
class ObjectInfo:
    """One object in the store. ``version`` changes whenever its content does."""

    key: str
    size: int
    modified: datetime
    version: str


@dataclass(frozen=True)
class PendingUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str


@dataclass(frozen=True)
class Refusal:
    """An object that the store refused to delete, and the reason: a retention lock, a missing privilege."""

    key: str
    reason: str


class Upload(ABC):
    """A multipart upload of one object. Readers see it only after :meth:`complete` has returned."""

    @abstractmethod
    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:
        """Store one part. Callable from several threads. Sending a part number again replaces the part."""

    @abstractmethod
    def complete(self) -> None:
        """Make the complete object appear."""

    @abstractmethod
    def abort(self) -> None:
        """Drop all parts."""


class Store(ABC):
    """A flat space of keys below one prefix.

    Attributes:
        name: ``main``, ``spool`` or ``offsite``: the label in metrics.
        url: where it is, without secrets.
        parallel: number of small objects to request at the same time.
    """

    name: str = "main"
    url: str = ""
    parallel: int = 1

    @abstractmethod
    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """Store a small object atomically: a reader sees the old or the new one, never a part.

        Raises:
            KeptError: the object exists, and the store does not allow it to be replaced.
        """

    @abstractmethod
    def get(self, key: str) -> bytes:
        """The content of a small object.

        Raises:
            NotFoundError: the object does not exist.
        """

    @abstractmethod
    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """The content of an object from an offset, in pieces of at most :data:`PIECE` bytes.

        Raises:
            NotFoundError: the object does not exist.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Size, time and version of an object; None if it does not exist."""

    @abstractmethod
    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins with a prefix, ordered by key."""

    @abstractmethod
    def folders(self, prefix: str = "") -> list[str]:
        """The parts of the keys before the next slash, each once and in order. The keys below are not listed.

        Args:
            prefix: of the keys, not of the parts; it ends with a slash.
        """

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        """Delete objects; returns those that the store refuses to delete. A missing object is not an error."""

    @abstractmethod
    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        """Start a multipart upload."""

    @abstractmethod
    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Incomplete uploads below a prefix."""

    @abstractmethod
    def abort(self, upload: PendingUpload) -> None:
        """Drop the parts of an incomplete upload. A missing upload is not an error."""

    def default_retention(self) -> str:
        """A description of how long stored objects are locked; empty if they are not."""
        return ""

    def check(self) -> None:  # noqa: B027 - memory is always available
        """Fail early and clearly if the bucket or folder is missing or access is denied."""
