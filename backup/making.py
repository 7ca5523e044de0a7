"""What a run needs to know about a kind of database; PostgreSQL and Redis each provide it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from backup.manifest import Server, StoredObject
from backup.pipeline import Packing
from backup.progress import Progress
from backup.stages import Stages
from backup.store import Store


class Lock(Protocol):
    """One run at a time."""

    def confirm(self) -> None:
        """Fail if it was lost meanwhile."""


@dataclass(frozen=True)
class Ready:
    """What a preflight found: the version of the dumping program, and roughly how big the data is.

    Attributes:
        packed: stored bytes of the last backup, where that is known.
    """

    client: str
    size: int
    packed: int | None = None


@dataclass(frozen=True)
class Work:
    """Where a backup goes, and how."""

    store: Store
    folder: str
    packing: Packing
    stages: Stages
    progress: Progress
    check: Callable[[], None]


@dataclass(frozen=True)
class Made:
    """What was stored, and what the manifest says about it. ``facts`` are fields of the manifest."""

    taken: datetime
    server: Server
    objects: tuple[StoredObject, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class Maker(Protocol):
    """Makes backups of one database."""

    def preflight(self) -> Ready:
        """Check everything that can be checked before anything is touched.

        Raises:
            PreflightError: it cannot work.
        """

    def lock(self) -> AbstractContextManager[Lock]:
        """Hold the lock of this database.

        Raises:
            BusyError: another run holds it.
        """

    def make(self, work: Work) -> Made:
        """Dump everything into the store."""
