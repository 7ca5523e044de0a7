"""The state of the service: the last catalogue and the jobs in progress."""

import logging
import os
import socket
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backup.cancellation import StoppedError
from backup.catalogue.history import Catalogue, History
from backup.catalogue.records import Attempt
from backup.errors import StoreError
from backup.physical.coverage import Period, coverage_of, periods
from backup.replication.merged import Catalogues
from backup.replication.offsite import Offsite, read_offsite
from backup.wiring import Wiring
from sidecar import OpsError, UsageError
from sidecar.humanize import duration

log = logging.getLogger(__name__)

UNREAD = "not read yet"

_BORN = datetime.now(UTC)
# A run that is silent for longer has a problem, although it may still succeed.
SILENT_SECONDS = 300.0
REFRESH_SECONDS = 900.0
STALE_SECONDS = 900.0


@dataclass
class Job:
    """A schedule, for the metrics and the status page."""

    name: str
    next_run: datetime | None = None
    last_run: datetime | None = None


@dataclass
class State:
    """Shared between the threads of the scheduler and the web server. Values are replaced as a whole, never changed.

    Attributes:
        problems: the last error of each store; None if it answered.
        recoverable: the periods that can be recovered, by server, once its base backups were read.
    """

    wiring: Wiring
    catalogue: Catalogue
    problems: dict[str, str | None] = field(default_factory=dict)
    offsite: Offsite = field(default_factory=Offsite)
    jobs: dict[str, Job] = field(default_factory=dict)
    recoverable: dict[str, tuple[Period, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._catalogues = Catalogues(self.wiring)
        self._offsite = self.wiring.reader(self.wiring.offsite) if self.wiring.offsite else None
        self._lock = threading.Lock()
        self.problems = {store.name: UNREAD for store in self.wiring.stores}
        self.looked = False
        # Whether the main store has ever been read.
        self.known = False

    @property
    def names(self) -> list[str]:
        return [target.name for target in self.wiring.everything]

    def history(self, database: str) -> History:
        return self.catalogue.history(database)

    def refresh(self, database: str | None = None) -> None:
        """Read the stores again, of one database or of all. If one does not answer, its last known catalogue remains.

        It never raises: an unreadable store must not end the service that reports it.
        """
        try:
            with self.wiring.stop.limit(REFRESH_SECONDS):
                self._refresh(database if self.looked else None)
        except StoppedError:
            return
        except Exception as error:
            log.exception("the catalogue cannot be read")
            self.problems = {
                **self.problems,
                "main": f"{type(error).__name__} while it was read; see the log",
            }

    def read_wal(self) -> None:
        """Read what can be recovered of each server. That lists all of its WAL, so it is done less often than the rest."""
        found: dict[str, tuple[Period, ...]] = {}
        for target in self.wiring.servers:
            try:
                with self.wiring.stop.limit(REFRESH_SECONDS):
                    found[target.name] = periods(coverage_of(self.wiring, target.name).candidates)
            except UsageError:
                continue  # it has no base backup, which the page says anyway
            except OpsError as error:
                log.warning("%s: what can be recovered is not known: %s", target.name, error.message)
                found |= {name: known for name, known in self.recoverable.items() if name == target.name}
        self.recoverable = found

    def _refresh(self, database: str | None) -> None:
        with self._lock:
            self.catalogue = self._catalogues.read(self.names, only=database)
            # Also if the store did not answer: the failures that it could not take are known.
            self.looked = True
            if self._catalogues.problem is None:
                self.known = True
                self._deliver()
            self.problems = {**self.problems, "main": self._catalogues.problem}
            if self.wiring.spool is not None:
                self.problems["spool"] = None
            if self.wiring.offsite is not None and (database is None or self.problems["offsite"] == UNREAD):
                self._read_offsite()
        for name, problem in self.problems.items():
            if problem:
                log.warning("the %s store cannot be read: %s", name, problem)

    @property
    def trouble(self) -> str | None:
        """Why the service cannot do its work at the moment, although it runs; None if it can."""
        if problem := self.problems["main"]:
            return problem
        for name in self.names:
            if (silence := self.silence(name)) > SILENT_SECONDS:
                return f"the run or verification of {name} has had no response for {duration(silence)}"
        age = (self.wiring.clock() - self.catalogue.read).total_seconds()
        if age > max(STALE_SECONDS, 10 * self.wiring.settings.catalogue_refresh):
            return f"the catalogue was last read {duration(age)} ago"
        return None

    def silence(self, database: str) -> float:
        """Seconds since the work in progress last got a response; 0 if there is none.

        A run waits for its database and its store, a verification for the server at BACKUP_VERIFY_URL.
        """
        pulse = self.wiring.stop.pulses.get(database)
        return pulse.silence if pulse else 0.0

    def died(self, history: History) -> Attempt | None:
        """The attempt of the newest run, if it was killed."""
        newest = history.newest("backup")
        return newest if newest and newest.outcome == "running" and not self.running(history) else None

    def running(self, history: History) -> Attempt | None:
        """The attempt of a run in progress."""
        newest = history.newest("backup")
        limit = self.wiring.settings.timeout
        now = self.wiring.clock()
        return newest if newest and newest.outcome == "running" and _may_live(newest, now, limit) else None

    def _deliver(self) -> None:
        """Failures that could not be recorded while the store was unavailable."""
        for name in self.names:
            self.wiring.journal(name).deliver()

    def _read_offsite(self) -> None:
        assert self._offsite is not None
        try:
            self.offsite = read_offsite(self._offsite, self.names, self.wiring.clock())
        except StoreError as error:
            self.problems["offsite"] = error.message
        else:
            self.problems["offsite"] = None


def _may_live(attempt: Attempt, now: datetime, limit: float) -> bool:
    """A process on this host can be looked up; for one on another host, only its time limit is known."""
    if attempt.host == socket.gethostname():
        if attempt.pid == os.getpid():
            # In a container, every process has the same PID.
            return attempt.started >= _BORN
        return Path(f"/proc/{attempt.pid}").exists()
    return (now - attempt.started).total_seconds() < limit


def new_state(wiring: Wiring) -> State:
    """A state before its first refresh."""
    return State(wiring, Catalogue(wiring.clock()))
