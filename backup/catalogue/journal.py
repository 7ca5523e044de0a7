"""Records each attempt in the store, before and after, so that a failed one-shot run is as visible as any other."""

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from backup.cancellation import OutOfTimeError, StoppedError
from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.ids import new_id
from backup.catalogue.reader import Reader
from backup.catalogue.records import Attempt, Kind, Outcome, added, continued, errors_so_far
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.errors import BusyError, KeptError
from backup.store import RetryingStore, Store
from sidecar import OpsError

log = logging.getLogger(__name__)

# Limit of the attempts that wait for the store, for all databases together.
MAX_ATTEMPTS = 500


class Backlog:
    """Attempts that could not be written to the main store, for all databases. They are written when it answers again.

    The backlog is in memory, and is lost with the process.
    """

    def __init__(self) -> None:
        self._attempts: deque[Attempt] = deque(maxlen=MAX_ATTEMPTS)
        self._lock = threading.Lock()

    def keep(self, attempt: Attempt) -> None:
        with self._lock:
            self._attempts.append(attempt)

    def of(self, database: str) -> tuple[Attempt, ...]:
        """The attempts of a database that wait."""
        with self._lock:
            return tuple(attempt for attempt in self._attempts if attempt.database == database)

    def take(self, database: str) -> tuple[Attempt, ...]:
        """The attempts of a database that wait, removed from the backlog."""
        with self._lock:
            taken = tuple(attempt for attempt in self._attempts if attempt.database == database)
            kept = [attempt for attempt in self._attempts if attempt.database != database]
            self._attempts = deque(kept, maxlen=MAX_ATTEMPTS)
        return taken


class OpenAttempt:
    """An attempt in progress. What is set on it is written when it ends.

    Attributes:
        record: the attempt as it will be written.
        failure: why the attempt failed although it ran to its end.
    """

    def __init__(self, record: Attempt) -> None:
        self.record = record
        self.failure: OpsError | None = None

    def fail(self, failure: OpsError) -> None:
        """Mark the attempt as failed although it ran to its end."""
        self.failure = failure

    def set(self, **values: object) -> None:
        """Set fields of the attempt."""
        self.record = self.record.model_copy(update=values)


class Journal:
    """Writes the attempts of one database.

    Args:
        keys: sign the attempts, and identify those that are ours.
        watched: stores whose failed operations are counted in the attempts.
        backlog: keeps the attempts that could not be written.
    """

    def __init__(
        self,
        store: Store,
        database: str,
        *,
        keys: Keyring = NO_KEYS,
        watched: Sequence[RetryingStore] = (),
        backlog: Backlog | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        reader: Reader | None = None,
    ) -> None:
        self._reader = reader or Reader(store, keys)
        self._store = store
        self._keys = keys
        self._watched = watched
        self._backlog = backlog
        self._database = database
        self._clock = clock

    @contextmanager
    def attempt(
        self, kind: Kind, *, attempt_id: str | None = None, backup: str | None = None
    ) -> Iterator[OpenAttempt]:
        """Record that an attempt begins, and how it ends. A store that cannot be written to does not stop the work."""
        attempt = self._open(kind, attempt_id, backup)
        try:
            before = self._before(kind)
        except (StoppedError, OutOfTimeError) as error:
            self._finish(attempt, "failure", error)
            self._keep(attempt.record)
            raise
        last = next((each for each in reversed(before) if each.kind == kind and each.totals), None)
        attempt.set(totals=last.totals if last else {}, store_errors=errors_so_far(before))
        self._write(attempt.record)
        try:
            yield attempt
        except BusyError as error:
            self._end(attempt, "skipped", error)
            raise
        except BaseException as error:
            self._end(attempt, "failure", error)
            raise
        self._end(attempt, "failure" if attempt.failure else "success", attempt.failure)

    def failed_without_store(self, kind: Kind, error: OpsError) -> None:
        """Record an attempt that could not begin because the store does not answer. The store is not tried again."""
        attempt = self._open(kind)
        self._finish(attempt, "failure", error)
        self._keep(attempt.record)

    def deliver(self) -> None:
        """Write the attempts that could not be written before."""
        waiting = self._backlog.take(self._database) if self._backlog else ()
        if not waiting:
            return
        try:
            known = self._reader.read(self._clock(), [self._database]).history(self._database)
            for attempt in continued(known.attempts, waiting):
                record(self._store, attempt, self._keys)
        except OpsError as error:
            log.warning("attempts are still waiting for the store: %s", error.message)
            for attempt in waiting:
                self._keep(attempt)

    def close_dead(self, kind: Kind, *, but: str = "") -> None:
        """End the attempts of runs that died. Only the holder of the lock knows that none of them is alive.

        Args:
            but: the holder's own attempt.
        """
        for attempt in self._before(kind):
            if attempt.kind == kind and attempt.outcome == "running" and attempt.id != but:
                error = OpsError("the process died in the middle", hint="see its log")
                self._end(OpenAttempt(attempt), "failure", error)

    def _open(self, kind: Kind, attempt_id: str | None = None, backup: str | None = None) -> OpenAttempt:
        now = self._clock()
        return OpenAttempt(
            Attempt(
                id=attempt_id or new_id(now),
                kind=kind,
                database=self._database,
                backup=backup,
                outcome="running",
                started=now,
                host=socket.gethostname(),
                pid=os.getpid(),
            )
        )

    def _before(self, kind: Kind) -> tuple[Attempt, ...]:
        self.deliver()
        try:
            return self._reader.recent_attempts(self._database, kind, self._clock())
        except (StoppedError, OutOfTimeError):
            raise
        except OpsError as error:
            log.warning("the attempts so far cannot be read: %s", error.message)
            return ()

    def _end(self, attempt: OpenAttempt, outcome: Outcome, error: BaseException | None) -> None:
        self._finish(attempt, outcome, error)
        self._write(attempt.record)

    def _finish(self, attempt: OpenAttempt, outcome: Outcome, error: BaseException | None) -> None:
        record = attempt.record
        totals = dict(record.totals)
        if outcome != "skipped":
            totals[outcome] = totals.get(outcome, 0) + 1
        attempt.set(outcome=outcome, finished=self._clock(), totals=totals)
        if error is not None:
            attempt.set(
                error=error.message if isinstance(error, OpsError) else f"{type(error).__name__}: {error}",
                hint=error.hint if isinstance(error, OpsError) else "read the log",
            )
        new = _take_errors(self._watched)
        attempt.set(store_errors=added(record.store_errors, new), new_errors=new)

    def _write(self, attempt: Attempt) -> None:
        try:
            record(self._store, attempt, self._keys)
        except OpsError as error:
            log.warning("an attempt was not written: %s", error.message)
            if attempt.finished:
                self._keep(attempt)

    def _keep(self, attempt: Attempt) -> None:
        if self._backlog is not None:
            self._backlog.keep(attempt)


def record(store: Store, attempt: Attempt, keys: Keyring) -> None:
    """Store an attempt.

    If the store does not allow the record of its start to be replaced, its end is stored as another object, with another ID.

    Raises:
        StoreError: the store did not accept it.
    """
    try:
        store.put(_key(attempt), encode(attempt, keys))
    except KeptError:
        if attempt.finished is None:
            raise
        # A second later, so that it comes after the record of the start in every listing.
        own = new_id(attempt.finished + timedelta(seconds=1))
        ended = attempt.model_copy(update={"id": own, "continues": attempt.id})
        store.put(_key(ended), encode(ended, keys))


def _key(attempt: Attempt) -> str:
    return layout.attempt(attempt.database, attempt.id, attempt.kind)


def _take_errors(stores: Sequence[RetryingStore]) -> dict[str, int]:
    return {f"{store.name}:{name}": count for store in stores for name, count in store.take_errors().items()}
