"""Exits with 0 if beat has run a task recently.

DatabaseScheduler writes the last runs to the database every three minutes, so a beat that has just started gets that
much time. After it, only a recent run counts: a process that is alive and does nothing would go unnoticed.
This check does not import the app, which would need as much memory as beat itself, under the same limit.
"""

import os
import signal
import sys
from pathlib import Path

import psycopg

# Docker does not stop a slow check, and starts the next one while it runs, so the check needs its own time limit.
SECONDS = 12
# Two intervals of DatabaseScheduler, plus a margin.
LATEST = 420
QUERY = """
SELECT extract(epoch FROM now() - max(last_run_at)) FROM django_celery_beat_periodictask WHERE enabled
"""


def main() -> int:
    age = _since_last_run()
    if age is not None and age < LATEST:
        return 0
    if _since_start() < LATEST:
        return 0
    print(f"the last periodic task ran {'never' if age is None else f'{age:.0f} s ago'}", file=sys.stderr)
    return 1


def _since_last_run() -> float | None:
    with psycopg.connect(_database(), connect_timeout=4) as connection:
        row = connection.execute(QUERY).fetchone()
    return None if row is None or row[0] is None else float(row[0])


def _database() -> str:
    path = os.environ.get("DATABASE_URL_FILE")
    return Path(path).read_text().strip() if path else os.environ["DATABASE_URL"]


def _since_start() -> float:
    """Seconds since process 1 of this container started."""
    # The name in parentheses may contain spaces; the start time is field 22 of the whole line.
    fields = Path("/proc/1/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


if __name__ == "__main__":
    signal.alarm(SECONDS)
    try:
        sys.exit(main())
    except psycopg.Error as error:
        print(f"database: {type(error).__name__}", file=sys.stderr)
        sys.exit(1)
