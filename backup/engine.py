"""The interface that each kind of database implements: PostgreSQL and Redis each provide an engine."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from backup.catalogue.manifest import Server, StoredObject
from backup.pipeline import PackingOptions
from backup.progress import Progress, Timings
from backup.store import Store


class Lock(Protocol):
    """The lock that lets one run at a time work on a database."""

    def confirm(self) -> None:
        """Fail if the lock was lost in the meantime."""


@dataclass(frozen=True)
class PreflightResult:
    """The result of a preflight.

    Attributes:
        client: product and version of the program that dumps.
        size: approximate size of the data, in bytes.
        packed: stored bytes of the last backup; None if not known.
        system_identifier: identifier of the database's cluster; empty if not known.
        clock: how far the database's clock is ahead of ours; None if not known.
    """

    client: str
    size: int
    packed: int | None = None
    system_identifier: str = ""
    clock: timedelta | None = None


@dataclass(frozen=True)
class DumpContext:
    """Where a dump goes, and how it is packed, timed, reported and stopped."""

    store: Store
    folder: str
    packing: PackingOptions
    timings: Timings
    progress: Progress
    check: Callable[[], None]


@dataclass(frozen=True)
class DumpResult:
    """The stored objects. ``facts`` are additional fields of the manifest."""

    taken: datetime
    server: Server
    objects: tuple[StoredObject, ...]
    facts: dict[str, Any] = field(default_factory=dict)


class Engine(Protocol):
    """Dumps one database, or one server."""

    def preflight(self) -> PreflightResult:
        """Check everything that can be checked before anything is changed.

        Raises:
            PreflightError: the backup cannot work.
        """

    def lock(self) -> AbstractContextManager[Lock]:
        """Hold the lock of this database while the context is open.

        Raises:
            BusyError: another run holds the lock.
        """

    def dump(self, context: DumpContext) -> DumpResult:
        """Dump everything into the store."""
