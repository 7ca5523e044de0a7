"""The position of a snapshot in the write-ahead log: after the last commit that it sees, before the first that it does not.

A commit is written to the WAL first and becomes visible a moment later, under load in a different order. Then a snapshot
has no position: no position in the WAL has exactly its rows. Pure.
"""

import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from backup.physical.records import Ending, Record, drops

_SNAPSHOT = re.compile(r"(\d+):(\d+):((?:\d+(?:,\d+)*)?)", re.ASCII)
# The WAL contains the lower 32 bits of a transaction's number.
_CYCLE = 1 << 32
_HALF = 1 << 31


@dataclass(frozen=True)
class Snapshot:
    """The result of ``pg_current_snapshot()``: 64-bit numbers of transactions.

    Attributes:
        end: transactions from this one on had not begun.
        running: transactions before ``end`` that were in progress.
    """

    begin: int
    end: int
    running: frozenset[int]

    def sees(self, xid: int) -> bool:
        """Whether the rows of a committed transaction, by its 32-bit number, are visible."""
        # The transaction is within 2^31 of the snapshot, which determines its upper bits.
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


@dataclass(frozen=True)
class Cut:
    """Where the WAL has exactly the rows of a snapshot: after one commit, and until the next.

    Attributes:
        last: the start of the last commit that the snapshot sees; None if the WAL that was read has none.
        limit: everything that starts before it may be replayed: the first commit that the snapshot does not see, or the
            position that was read with it.
        followed: whether the WAL is known to continue there, so that a recovery can stop before ``limit``.
    """

    last: int | None
    limit: int
    followed: bool


def place(snapshot: Snapshot, ended: Iterable[Ending], until: int) -> Cut | None:
    """The place of a snapshot in the WAL.

    Args:
        ended: the ends of transactions from the start of recovery up to ``until`` or beyond, in the order of the WAL.
        until: a position that was read after the snapshot was taken: records that start later are not visible.

    Returns:
        None if there is no such place: commits became visible in a different order.
    """
    log = list(ended)
    if is_torn(snapshot, log, until):
        return None
    commits = [each for each in log if each.kind == "commit"]
    visible = [each.lsn for each in commits if each.lsn < until and snapshot.sees(each.xid)]
    hidden = [each.lsn for each in commits[len(visible) :]]
    limit = min([until, *hidden[:1]])
    return Cut(visible[-1] if visible else None, limit, followed=any(each.lsn >= limit for each in log))


def is_torn(snapshot: Snapshot, ended: Iterable[Ending], until: int) -> bool:
    """Whether a snapshot sees a commit but not an earlier one in the WAL. Then it has no place.

    Args:
        until: see :func:`place`.
    """
    hidden = False
    for each in ended:
        if each.kind != "commit":
            continue
        if each.lsn < until and snapshot.sees(each.xid):
            if hidden:
                return True
        else:
            hidden = True
    return False


def last_ending(ended: Iterable[Ending]) -> Ending | None:
    """The last record with which a transaction ends; nothing after it is ever visible."""
    last = deque(ended, maxlen=1)
    return last[0] if last else None


def before_drop(records: Iterable[Record], ended: Iterable[Ending], database: int) -> int | None:
    """The start of the last commit before a database's files are removed: with it, the database is still whole.

    Recovery to a time stops before the commit of DROP DATABASE, when the files are already gone.

    Args:
        records, ended: of the WAL up to the place where recovery stopped.
        database: its object id.

    Returns:
        None if its files are not removed, or no commit precedes that.
    """
    removed = [record.lsn for record, ids in drops(records) if database in ids]
    if not removed:
        return None
    # If there are several, take the last: after the earlier ones, the database existed again under the same ID.
    commits = [each.lsn for each in ended if each.kind == "commit" and each.lsn < removed[0]]
    return commits[-1] if commits else None
