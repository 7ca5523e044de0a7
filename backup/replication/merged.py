"""The merged catalogue of the main store and the spool."""

from collections.abc import Iterable
from datetime import datetime

from backup.catalogue.history import Catalogue, History
from backup.catalogue.reader import Choice, Reader
from backup.catalogue.records import continued
from backup.errors import StoreError
from backup.wiring import Wiring


class Catalogues:
    """Reads the merged catalogue repeatedly. If a store does not answer, its last known catalogue is used.

    Attributes:
        problem: the last error of the main store; None if it answered.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.problem: str | None = None
        self._wiring = wiring
        self._main = wiring.reader()
        self._spool = wiring.reader(wiring.spool) if wiring.spool else None
        self._last = self._spooled = Catalogue(wiring.clock())

    def read(self, databases: Iterable[str] | None = None, *, only: str | None = None) -> Catalogue:
        """The current catalogue.

        Args:
            only: reread this database; the others are as they were read last.
        """
        names = list(databases) if databases is not None else None
        now = self._wiring.clock()
        try:
            self._last = self._read(self._main, self._last, now, names, only)
            self.problem = None
        except StoreError as error:
            self.problem = error.message
        known = self._last
        if self._spool:
            self._spooled = self._read(self._spool, self._spooled, now, names, only)
            known = merged(known, self._spooled)
        return merged(known, self._waiting(now))

    def _read(
        self, reader: Reader, last: Catalogue, now: datetime, names: list[str] | None, only: str | None
    ) -> Catalogue:
        if only is None:
            return reader.read(now, names)
        others = {name: history for name, history in last.databases.items() if name != only}
        return Catalogue(now, {**others, **reader.read(now, [only]).databases})

    def _waiting(self, now: datetime) -> Catalogue:
        """Attempts that are not in the main store yet."""
        names = [target.name for target in self._wiring.everything]
        waiting = {name: self._wiring.backlog.of(name) for name in names}
        return Catalogue(
            now, {name: History(name, attempts=found) for name, found in waiting.items() if found}
        )


def read(wiring: Wiring, databases: Iterable[str] | None = None, chosen: Choice | None = None) -> Catalogue:
    """Read the merged catalogue once.

    Args:
        chosen: see :meth:`Reader.read`.

    Raises:
        StoreError: the main store does not answer.
    """
    names = list(databases) if databases is not None else None
    now = wiring.clock()
    main = wiring.reader().read(now, names, chosen)
    return merged(main, wiring.reader(wiring.spool).read(now, names, chosen)) if wiring.spool else main


def merged(main: Catalogue, spool: Catalogue) -> Catalogue:
    """Merge two catalogues. Duplicates count once."""
    names = sorted({*main.databases, *spool.databases})
    return Catalogue(main.read, {name: _merged(main.history(name), spool.history(name)) for name in names})


def _merged(main: History, spool: History) -> History:
    known = {entry.id for entry in main.backups}
    entries = (*main.backups, *(entry for entry in spool.backups if entry.id not in known))
    added = continued(main.attempts, spool.attempts)
    # An attempt that ended elsewhere is still running in the main store.
    attempts = {(attempt.kind, attempt.id): attempt for attempt in (*main.attempts, *added)}
    return History(
        main.database,
        tuple(sorted(entries, key=lambda entry: entry.order)),
        (*main.broken, *spool.broken),
        tuple(sorted(attempts.values(), key=lambda attempt: attempt.started)),
        (*main.others, *spool.others),
        main.read or spool.read,
    )
