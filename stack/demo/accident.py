"""The accident of the demo: a table is emptied under load, and comes back as it was a second earlier."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from sidecar import humanize
from stack.demo.backups import Recoveries
from stack.demo.results import Outcome
from stack.suite import Suite
from stack.suite.environments import DATABASE_NAME
from stack.wait import wait_for

DEADLOCK_TRIES = 10
# Generous, for busy machines: a wait ends as soon as its condition is met.
LONGEST_WAIT = 240.0
BEFORE = timedelta(seconds=1)
# A post of this age is committed.
COMMITTED = timedelta(seconds=5)
_COUNT = "SELECT count(*) FROM posts_post WHERE created_at <= %s"
_STORED = """
SELECT restart_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = 'posthub_wal'
"""


@dataclass(frozen=True)
class Accident:
    """What was lost.

    Attributes:
        moment: when the table was emptied.
        posts: the number of posts that were there until shortly before :attr:`wanted`.
    """

    moment: datetime
    posts: int

    @property
    def wanted(self) -> datetime:
        """The moment to go back to."""
        return self.moment - BEFORE

    @property
    def counted(self) -> datetime:
        """Posts that were made until then are counted."""
        return self.wanted - COMMITTED


@dataclass(frozen=True)
class Protection:
    """What a recovery starts from: a base backup, and the time since which the WAL is stored."""

    base: dict[str, Any]
    since: datetime


def protect(suite: Suite) -> Protection:
    """Stream the WAL into the store, and take a base backup."""
    suite.stream_wal()
    return Protection(Recoveries(suite).base(), _now(suite))


def show(suite: Suite, protection: Protection, busy: Callable[[str], None]) -> Outcome:
    """Empty the table of posts, and bring it back."""
    recoveries, base = Recoveries(suite), protection.base
    busy("letting customers write for some seconds, then emptying the table of posts")
    _await_posts(suite, protection.since + BEFORE + COMMITTED)
    accident = _empty(suite)
    busy("recovering the second before it, next to the live database")
    restored = recoveries.restore(accident.wanted)
    busy("putting the proven database into production")
    promoted = recoveries.promote(restored["into"])
    _await_posts(suite, _now(suite))
    rto = (_now(suite) - accident.moment).total_seconds()
    found, left = (
        _posts(suite, DATABASE_NAME, accident.counted),
        _posts(suite, promoted["kept"], accident.counted),
    )
    rpo = (accident.moment - datetime.fromisoformat(restored["last_commit"])).total_seconds()
    data = {
        "base": base["id"],
        "base_seconds": base["seconds"],
        "posts_before": accident.posts,
        "posts_left": left,
        "posts_after": found,
        "differences": restored["differences"],
        "recovery_seconds": restored["seconds"],
        "rpo_seconds": round(rpo, 3),
        "rto_seconds": round(rto, 1),
        "kept": promoted["kept"],
    }
    counts = (
        f"{restored['tables']} tables, {restored['rows']:,} rows, {len(restored['differences'])} differences"
    )
    lines = (
        f"base backup of the whole server in {humanize.duration(base['seconds'])}; its WAL streams into the store",
        f"{accident.posts:,} posts deleted under load; recovered to one second before, next to the live database",
        f"compared: {counts}; promoted by a rename: {found:,} posts are back",
        f"RPO {rpo:.2f} s, from the last recovered commit to the accident; RTO {rto:.1f} s, from the accident to new posts",
    )
    passed = restored["ok"] and found == accident.posts > left
    return Outcome(lines, data, passed=passed, disturbs=True)


def _truncate(connection: Connection[TupleRow]) -> tuple[datetime, int]:
    """Empty the table; returns the moment before and the number of posts that were counted then.

    The statement locks the tables that refer to posts, while the app's statements lock them in other orders. The server ends
    one of the two: if it is this one, it is tried again.
    """
    for attempt in range(1, DEADLOCK_TRIES + 1):
        try:
            with connection.transaction():
                connection.execute("LOCK TABLE posts_post")
                moment = _moment(connection)
                posts = _count(connection, Accident(moment, 0).counted)
                connection.execute("TRUNCATE posts_post CASCADE")
        except psycopg.errors.DeadlockDetected:
            if attempt == DEADLOCK_TRIES:
                raise
        else:
            return moment, posts
    raise AssertionError("unreachable")


def _empty(suite: Suite) -> Accident:
    """Empty the table of posts, and wait until the WAL of that change is stored."""
    with psycopg.connect(suite.postgres.url, autocommit=True) as connection:
        moment, posts = _truncate(connection)
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        wait_for(
            lambda: connection.execute(_STORED, [row[0]]).fetchone() == (True,),
            timeout=LONGEST_WAIT,
            what="the WAL of the accident is stored",
            hint=f"read the logs in {suite.logs}",
        )
    return Accident(moment, posts)


def _await_posts(suite: Suite, since: datetime) -> None:
    """Wait until customers have made a post after a moment."""
    with psycopg.connect(suite.postgres.url, autocommit=True) as connection:
        wait_for(
            lambda: (
                connection.execute("SELECT max(created_at) > %s FROM posts_post", [since]).fetchone()
                == (True,)
            ),
            timeout=LONGEST_WAIT,
            what="customers make posts",
            hint=f"read the logs in {suite.logs}",
        )


def _posts(suite: Suite, database: str, until: datetime) -> int:
    with psycopg.connect(suite.postgres.url_for(database)) as connection:
        return _count(connection, until)


def _count(connection: Connection[TupleRow], until: datetime) -> int:
    row = connection.execute(_COUNT, [until]).fetchone()
    assert row is not None
    return int(row[0])


def _now(suite: Suite) -> datetime:
    with psycopg.connect(suite.postgres.url) as connection:
        return _moment(connection)


def _moment(connection: Connection[TupleRow]) -> datetime:
    row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    moment: datetime = row[0]
    return moment
