"""What a promotion would lose: rows by table in the live and the restored database, shown before the confirmation."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.cancellation import carry, limited
from backup.postgres import inventory
from backup.postgres.dsn import Address
from backup.postgres.session import OWN_PATH, session
from sidecar import OpsError

SECONDS = 20.0
# In addition, for everything that has no limit on the server.
ANSWER_SECONDS = 10.0
MAX_SHOWN = 10
_ESTIMATES = """
SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::bigint, pg_relation_size(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY(%s) ORDER BY 4, 1, 2
"""


@dataclass(frozen=True)
class Rows:
    """Rows of one table. A number that is not exact is the server's estimate, because there was no time to count."""

    count: int
    exact: bool = True

    def __str__(self) -> str:
        return f"{self.count:,}" if self.exact else f"about {self.count:,}"


@dataclass(frozen=True)
class Change:
    """One table whose numbers of rows differ; None means that the table does not exist."""

    table: str
    live: Rows | None
    restored: Rows | None

    @property
    def size(self) -> int:
        """The difference in rows."""
        return abs((self.live.count if self.live else 0) - (self.restored.count if self.restored else 0))


@dataclass(frozen=True)
class Loss:
    """The tables that differ most, the largest difference first.

    Attributes:
        others: number of tables that differ too and are not listed.
        problem: why the two could not be compared; empty if they were.
    """

    changes: tuple[Change, ...] = ()
    others: int = 0
    problem: str = ""


def compare(live: Address, restored: Address, seconds: float = SECONDS) -> Loss:
    """Count both databases, within a time limit; what is left over is estimated."""
    with ThreadPoolExecutor(2, thread_name_prefix="loss") as pool:
        counting = carry(_rows)
        found = [pool.submit(counting, address, seconds) for address in (live, restored)]
        try:
            before, after = (each.result() for each in found)
        except OpsError as error:
            return Loss(problem=error.message)
    return judge(before, after)


def judge(live: dict[str, Rows], restored: dict[str, Rows]) -> Loss:
    """The tables whose numbers of rows differ."""
    changes = [Change(name, live.get(name), restored.get(name)) for name in {*live, *restored}]
    differing = [each for each in changes if each.live != each.restored]
    differing.sort(key=lambda each: (-each.size, each.table))
    return Loss(tuple(differing[:MAX_SHOWN]), max(0, len(differing) - MAX_SHOWN))


def _rows(address: Address, seconds: float) -> dict[str, Rows]:
    """Small tables first, so that most of them are exact."""
    deadline = time.monotonic() + seconds
    found: dict[str, Rows] = {}
    with (
        limited(
            seconds + ANSWER_SECONDS,
            f"{address} did not answer",
            "check the server: it accepts connections but does not respond",
        ),
        session(address, changes=OWN_PATH) as connection,
        connection.transaction(),
    ):
        connection.execute("SET LOCAL search_path TO pg_catalog; SET LOCAL lock_timeout = '2s'")
        tables = inventory.tables(connection)
        for schema, name, estimate, _ in connection.execute(_ESTIMATES, [list(tables.values())]).fetchall():
            exact = _counted(connection, (schema, name), deadline)
            found[f"{schema}.{name}"] = Rows(estimate, exact=False) if exact is None else Rows(exact)
    return found


def _counted(connection: Connection[TupleRow], name: inventory.Name, deadline: float) -> int | None:
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL statement_timeout = {max(1, int(left * 1000))}")
            return inventory.count(connection, [name])[0].rows
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return None


def table(loss: Loss) -> Sequence[str]:
    """Lines for the person who is about to confirm."""
    if loss.problem:
        return [f"the two could not be compared: {loss.problem}"]
    if not loss.changes:
        return ["every table has the same number of rows in both"]
    cells = [("rows by table", "live", "restored")]
    cells += [(each.table, _shown(each.live), _shown(each.restored)) for each in loss.changes]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}" for row in cells]
    return [*lines, f"  and {loss.others} more tables differ"] if loss.others else lines


def _shown(rows: Rows | None) -> str:
    return "no such table" if rows is None else str(rows)
