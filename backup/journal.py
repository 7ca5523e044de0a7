"""Writes down what is tried, before and after, so that a failure of a one-shot run is as visible as any other."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from backup import layout
from backup.backlog import Backlog
from backup.catalogue import Reader
from backup.ids import new_id
from backup.records import Kind, Outcome, Record, encode
from backup.store import RetryingStore, Store
from backup.totals import added, continued, errors_so_far
from sidecar import OpsError

log = logging.getLogger(__name__)


class Attempt:
    """One record while it is open; what is set on it is written at its end."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.failure: OpsError | None = None

    def fail(self, failure: OpsError) -> None:
        """It went to its end, and the result is bad."""
        self.failure = failure

    def set(self, **values: object) -> None:
        self.record = self.record.model_copy(update=values)


class Journal:
    """The records of one database.

    Args:
        watched: stores whose failed operations are counted into the records.
        backlog: takes the records that the store does not take.
    """

    def __init__(
        self,
        store: Store,
        database: str,
        *,
        watched: Sequence[RetryingStore] = (),
        backlog: Backlog | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._watched = watched
        self._backlog = backlog
        self._database = database
        self._clock = clock

    @contextmanager
    def attempt(
        self, kind: Kind, *, record_id: str | None = None, backup: str | None = None
    ) -> Iterator[Attempt]:
        """Record that something begins, and how it ends. A store that does not take records stops nothing."""
        before = self._before(kind)
        last = next((record for record in reversed(before) if record.kind == kind and record.totals), None)
        attempt = self._attempt(kind, record_id, backup)
        attempt.set(totals=last.totals if last else {}, store_errors=errors_so_far(before))
        self._write(attempt.record)
        try:
            yield attempt
        except BaseException as error:
            self._end(attempt, "failure", error)
            raise
        self._end(attempt, "failure" if attempt.failure else "success", attempt.failure)

    def failed(self, kind: Kind, error: OpsError) -> None:
        """Record something that failed before it could begin."""
        with suppress(OpsError), self.attempt(kind):
            raise error

    def failed_without_store(self, kind: Kind, error: OpsError) -> None:
        """Record that nothing could begin because the store does not answer; so it is not asked to take this."""
        attempt = self._attempt(kind)
        self._finish(attempt, "failure", error)
        self._keep(attempt.record)

    def deliver(self) -> None:
        """Write what the store did not take before."""
        waiting = self._backlog.take(self._database) if self._backlog else ()
        if not waiting:
            return
        try:
            known = Reader(self._store).read(self._clock(), [self._database]).history(self._database)
            for record in continued(known.records, waiting):
                self._store.put(_key(record), encode(record))
        except OpsError as error:
            log.warning("records still wait for the store: %s", error.message)
            for record in waiting:
                self._keep(record)

    def close_dead(self, kind: Kind) -> None:
        """End the records of runs that died; only for who holds the lock, and so knows that none is alive."""
        for record in self._before(kind):
            if record.kind == kind and record.outcome == "running":
                attempt = Attempt(record)
                self._end(attempt, "failure", OpsError("the process died in the middle", hint="see its log"))

    def _attempt(self, kind: Kind, record_id: str | None = None, backup: str | None = None) -> Attempt:
        now = self._clock()
        return Attempt(
            Record(
                id=record_id or new_id(now), kind=kind, database=self._database, backup=backup, outcome="running",
                started=now, host=socket.gethostname(), pid=os.getpid(),
            )
        )  # fmt: skip

    def _before(self, kind: Kind) -> tuple[Record, ...]:
        self.deliver()
        try:
            return Reader(self._store).recent_records(self._database, kind)
        except OpsError as error:
            log.warning("the records so far cannot be read: %s", error.message)
            return ()

    def _end(self, attempt: Attempt, outcome: Outcome, error: BaseException | None) -> None:
        self._finish(attempt, outcome, error)
        self._write(attempt.record)

    def _finish(self, attempt: Attempt, outcome: Outcome, error: BaseException | None) -> None:
        record = attempt.record
        totals = {**record.totals, outcome: record.totals.get(outcome, 0) + 1}
        attempt.set(outcome=outcome, finished=self._clock(), totals=totals)
        if error is not None:
            attempt.set(
                error=error.message if isinstance(error, OpsError) else f"{type(error).__name__}: {error}",
                hint=error.hint if isinstance(error, OpsError) else "read the log",
            )
        new = _take_errors(self._watched)
        attempt.set(store_errors=added(record.store_errors, new), new_errors=new)

    def _write(self, record: Record) -> None:
        try:
            self._store.put(_key(record), encode(record))
        except OpsError as error:
            log.warning("a record was not written: %s", error.message)
            if record.finished:
                self._keep(record)

    def _keep(self, record: Record) -> None:
        if self._backlog is not None:
            self._backlog.keep(record)


def _key(record: Record) -> str:
    return layout.attempt(record.database, record.id, record.kind)


def _take_errors(stores: Sequence[RetryingStore]) -> dict[str, int]:
    return {f"{store.name}:{name}": count for store in stores for name, count in store.take_errors().items()}
