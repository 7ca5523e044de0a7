"""django-celery-beat's schedules, read from PostgreSQL. Loaded only if there is a database, because psycopg costs memory."""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Timer
from typing import Any

import psycopg

from exporters.beat.schedules import Schedule

CONNECT_SECONDS = 5
STATEMENT_MILLISECONDS = 5_000
# A further limit, for a server that accepts the query and then sends nothing, not even its own time-out.
SILENT_SECONDS = 10.0
PLAIN = (
    "name",
    "task",
    "enabled",
    "last_run_at",
    "date_changed",
    "start_time",
    "expires",
    "one_off",
    "every",
    "period",
)
QUERY = """
select t.name, t.task, t.enabled, t.last_run_at, t.date_changed, t.start_time, t.expires, t.one_off,
       i.every, i.period,
       c.minute, c.hour, c.day_of_week, c.day_of_month, c.month_of_year, c.timezone,
       k.clocked_time
  from django_celery_beat_periodictask t
  left join django_celery_beat_intervalschedule i on i.id = t.interval_id
  left join django_celery_beat_crontabschedule c on c.id = t.crontab_id
  left join django_celery_beat_clockedschedule k on k.id = t.clocked_id
 order by t.name
"""


def read_schedules(url: str) -> list[Schedule]:
    """All schedules in the database.

    Raises:
        psycopg.Error: the database or its tables cannot be read.
    """
    options = f"-c statement_timeout={STATEMENT_MILLISECONDS} -c default_transaction_read_only=on"
    with (
        psycopg.connect(
            url,
            connect_timeout=CONNECT_SECONDS,
            autocommit=True,
            options=options,
            application_name="celery-exporter",
            # Behind a pooler, a prepared statement may be executed on another connection.
            prepare_threshold=None,
        ) as connection,
        _cut_off_after(SILENT_SECONDS, connection),
    ):
        return [_schedule(row) for row in connection.execute(QUERY).fetchall()]


@contextmanager
def _cut_off_after(seconds: float, connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """Close the connection after this time, so that its wait fails."""
    timer = Timer(seconds, _cut_off, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut_off(connection: "psycopg.Connection[Any]") -> None:
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _schedule(row: Sequence[Any]) -> Schedule:
    crontab = tuple(map(str, row[10:16])) if row[10] is not None else None
    plain = dict(zip(PLAIN, row[:10], strict=True))
    return Schedule(**plain, crontab=crontab, clocked_time=row[16])
