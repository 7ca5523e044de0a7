"""Records that the main store could not take; they are written when it answers again."""

import threading
from collections import deque

from backup.records import Record

MOST = 500


class Backlog:
    """The records of this process, for all databases; a process that ends takes them along."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=MOST)
        self._lock = threading.Lock()

    def keep(self, record: Record) -> None:
        with self._lock:
            self._records.append(record)

    def of(self, database: str) -> tuple[Record, ...]:
        """What waits for a database."""
        with self._lock:
            return tuple(record for record in self._records if record.database == database)

    def take(self, database: str) -> tuple[Record, ...]:
        """The same, and it waits no longer."""
        with self._lock:
            taken = tuple(record for record in self._records if record.database == database)
            kept = [record for record in self._records if record.database != database]
            self._records = deque(kept, maxlen=MOST)
        return taken
