"""The merged catalogue of the main store and the spool."""

from collections.abc import Iterable
from datetime import datetime

from backup.catalogue.reader import Catalogue, History
from backup.errors import StoreError
from backup.replication.spool import merged
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
        self._last = Catalogue(wiring.clock())

    def read(self, databases: Iterable[str] | None = None) -> Catalogue:
        """The current catalogue."""
        names = list(databases) if databases is not None else None
        now = self._wiring.clock()
        try:
            self._last = self._main.read(now, names)
            self.problem = None
        except StoreError as error:
            self.problem = error.message
        known = merged(self._last, self._spool.read(now, names)) if self._spool else self._last
        return merged(known, self._waiting(now))

    def _waiting(self, now: datetime) -> Catalogue:
        """Attempts that are not in the main store yet."""
        names = [target.name for target in self._wiring.everything]
        waiting = {name: self._wiring.backlog.of(name) for name in names}
        return Catalogue(
            now, {name: History(name, attempts=found) for name, found in waiting.items() if found}
        )


def read(wiring: Wiring, databases: Iterable[str] | None = None) -> Catalogue:
    """Read the merged catalogue once.

    Raises:
        StoreError: the main store does not answer.
    """
    names = list(databases) if databases is not None else None
    main = wiring.reader().read(wiring.clock(), names)
    return merged(main, wiring.reader(wiring.spool).read(wiring.clock(), names)) if wiring.spool else main
