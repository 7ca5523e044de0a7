"""What a place for backups can do. S3, a folder and memory do it alike; one shared test suite holds them to it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

PIECE = 1 << 20


@dataclass(frozen=True)
class ObjectInfo:
    """One object that is there. ``version`` changes whenever its content does."""

    key: str
    size: int
    modified: datetime
    version: str


@dataclass(frozen=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str


@dataclass(frozen=True)
class Refusal:
    """An object that the store would not delete, and why: a retention lock, a missing right."""

    key: str
    reason: str


class Upload(ABC):
    """An object on its way in parts. It exists for readers only once :meth:`complete` has returned."""

    @abstractmethod
    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:
        """Store one part; callable from several threads. Sending a number again replaces it."""

    @abstractmethod
    def complete(self) -> None:
        """Make the object appear, whole."""

    @abstractmethod
    def abort(self) -> None:
        """Forget all parts."""


class Store(ABC):
    """A flat space of keys below one prefix.

    Attributes:
        name: ``main``, ``spool`` or ``offsite``: the label in metrics.
        url: where it is, without secrets.
    """

    name: str = "main"
    url: str = ""

    @abstractmethod
    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        """Store a small object in one step; a reader sees the old or the new one, never a part."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """A small object's content.

        Raises:
            NotFoundError: there is none.
        """

    @abstractmethod
    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """An object's content from an offset on, in pieces of at most :data:`PIECE` bytes.

        Raises:
            NotFoundError: there is none.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """What is known about an object; None when it is not there."""

    @abstractmethod
    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """All objects whose key begins so, ordered by key."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        """Delete objects. One that is not there is no error; those that the store refuses are returned."""

    @abstractmethod
    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        """Begin an upload in parts."""

    @abstractmethod
    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Uploads below a prefix that nobody completed."""

    @abstractmethod
    def abort(self, upload: PendingUpload) -> None:
        """Drop the parts of such an upload. One that is gone is no error."""

    def check(self) -> None:  # noqa: B027 - a place in memory is always there
        """Fail early and clearly when the place itself is missing or closed to us."""
