"""Writes heartbeats into the WAL, and reads the status of our slot from the server.

A heartbeat is a commit like any other. It makes points in time reachable on an idle server, and once it is stored, the
whole chain is known to work.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from backup.cancellation import Stop, limited
from backup.errors import ReplicationError
from backup.physical import lsn, slot
from backup.physical.measures import Beat, Measures
from backup.physical.walsender import DATABASE
from backup.postgres.session import connect
from backup.targets import ServerTarget
from sidecar import OpsError

log = logging.getLogger(__name__)

PREFIX = "posthub-ops"
BEAT_SECONDS = 30.0
POLL_SECONDS = 5.0
# Longer than any statement here may take.
ANSWER_SECONDS = 20.0
# If we were a synchronous standby, the heartbeat would wait for us; and nothing here may wait long.
CHANGES = {"synchronous_commit": "local", "statement_timeout": "10s"}
# The answer is not known without pg_monitor, when a role sees its own row without a state, or before the stream starts.
_SYNCHRONOUS = f"""
SELECT CASE WHEN bool_or(sync_state IS NULL) THEN NULL ELSE bool_or(sync_state <> 'async')::text END
FROM pg_catalog.pg_stat_replication WHERE application_name = '{slot.APPLICATION}'
"""


class Pulse:
    """Writes the heartbeats of one server and checks its slot. :meth:`run` ends only on request."""

    def __init__(self, server: ServerTarget, stop: Stop, measures: Measures) -> None:
        self._server = server
        self._stop = stop
        self._measures = measures

    def run(self) -> None:
        """Write and check until a stop is requested. The streamer reports an unreachable server."""
        while not self._stop.requested:
            try:
                with self._answering():
                    connection = connect(self._server.address.named(DATABASE), changes=CHANGES)
                with closing(connection):
                    self._watch(connection)
            except (psycopg.Error, OpsError) as error:
                log.debug("%s: %s", self._server.name, error)
            self._forget()
            self._stop.pause(POLL_SECONDS)

    def _watch(self, connection: Connection[TupleRow]) -> None:
        due = 0.0
        while not self._stop.requested:
            with self._answering():
                if time.monotonic() >= due:
                    self._measures.beat(beat(connection))
                    due = time.monotonic() + BEAT_SECONDS
                self._look(connection)
            self._stop.pause(POLL_SECONDS)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Give up within the block at a stop request, or if the server stops responding."""
        with (
            self._stop.heeded(),
            limited(
                ANSWER_SECONDS,
                f"{self._server.name} does not answer",
                "check the server: it accepts connections but does not respond",
            ),
        ):
            yield

    def _look(self, connection: Connection[TupleRow]) -> None:
        def ask(sql: str) -> list[tuple[str | None, ...]]:
            return connection.execute(sql).fetchall()

        self._measures.slot = slot.status(ask)
        found = ask(_SYNCHRONOUS)[0][0]
        self._measures.synchronous = None if found is None else found == "true"
        cap = slot.cap(ask)
        self._measures.cap, self._measures.uncapped = cap, cap is None

    def _forget(self) -> None:
        """Forget the values that cannot be read."""
        self._measures.slot = self._measures.cap = self._measures.uncapped = self._measures.synchronous = None


def beat(connection: Connection[TupleRow]) -> Beat:
    """Write one heartbeat.

    Raises:
        psycopg.Error: the server refuses it, for example because it is a standby.
    """
    moment = datetime.now(UTC)
    connection.execute(
        "SELECT pg_catalog.pg_logical_emit_message(true, %s, %s)", [PREFIX, moment.isoformat()]
    )
    row = connection.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
    if row is None:
        raise ReplicationError(
            "the server did not report its position", hint="check the PostgreSQL server's log"
        )
    return Beat(moment, lsn.parse(row[0]))
