"""The place of a snapshot in the write-ahead log: after the last commit that it sees, before the first that it does not.

A commit is written to the log first and becomes visible a moment later, and under load in another order. Then a snapshot
has no place: no position of the log has exactly its rows. Pure.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from backup.physical.records import Ending, Record, drops

_SNAPSHOT = re.compile(r"(\d+):(\d+):((?:\d+(?:,\d+)*)?)", re.ASCII)
# The log has the lower 32 bits of a transaction's number.
_CYCLE = 1 << 32
_HALF = 1 << 31


@dataclass(frozen=True)
class Snapshot:
    """What ``pg_current_snapshot()`` says: 64-bit numbers of transactions.

    Attributes:
        end: transactions from this one on had not begun.
        running: transactions before ``end`` that were in progress.
    """

    begin: int
    end: int
    running: frozenset[int]

    def sees(self, xid: int) -> bool:
        """Whether the rows of a committed transaction, by its 32-bit number, are visible."""
        # The transaction is within 2^31 of the snapshot, so that its upper bits follow.
        distance = (xid - self.end + _HALF) % _CYCLE - _HALF
        full = self.end + distance
        return full < self.end and full not in self.running


def parse_snapshot(text: str) -> Snapshot:
    """A snapshot as PostgreSQL prints it, ``begin:end:running,…``.

    Raises:
        ValueError: the text is not a snapshot.
    """
    found = _SNAPSHOT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:60]!r} is not a snapshot, such as 725:730:725,727")
    running = frozenset(int(each) for each in found[3].split(",") if each)
    return Snapshot(int(found[1]), int(found[2]), running)


def place(snapshot: Snapshot, ended: Iterable[Ending], until: int) -> int | None:
    """The start of the last commit that a snapshot sees; recovery up to and including it has the snapshot's rows.

    Args:
        ended: the endings from the recovery's beginning to ``until`` or further, in the order of the log.
        until: a position of the log that was read after the snapshot was taken: what starts later is not visible.

    Returns:
        None if there is no such position: commits became visible in another order, or no visible one is in the log.
    """
    last = None
    hidden = False
    for each in ended:
        if each.kind != "commit":
            continue
        if each.lsn < until and snapshot.sees(each.xid):
            if hidden:
                return None
            last = each.lsn
        else:
            hidden = True
    return last


def last_ending(ended: Iterable[Ending]) -> Ending | None:
    """The last record of the log with which a transaction ends; nothing after it is visible to anybody."""
    last = deque(ended, maxlen=1)
    return last[0] if last else None


def before_drop(records: Iterable[Record], ended: Iterable[Ending], database: int) -> int | None:
    """The start of the last commit before a database's files are removed: with it, the database is still whole.

    Recovery to a time stops before the commit of DROP DATABASE, when the files are already gone.

    Args:
        records, ended: of the log up to the place where recovery stopped.
        database: its object id.

    Returns:
        None if its files are not removed, or no commit precedes that.
    """
    removed = [record.lsn for record, ids in drops(records) if database in ids]
    if not removed:
        return None
    # Of several, an earlier one was of a database that existed again afterwards under the same id; ids are not reused.
    commits = [each.lsn for each in ended if each.kind == "commit" and each.lsn < removed[0]]
    return commits[-1] if commits else None
