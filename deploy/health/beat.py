"""Exit 0 when beat has run something lately.

DatabaseScheduler writes last runs back every three minutes, so a beat that has just started is given that time; after
it, only a recent run counts. A process that lives and does nothing is the failure that nobody sees.
Without the app, whose import costs as much memory as beat itself: both share one limit.
"""

import os
import signal
import sys
from pathlib import Path

import psycopg

# Docker lets a check that is too slow run on, and the next one starts beside it: it has to end by itself.
SECONDS = 12
# Two of DatabaseScheduler's write-backs, and a little.
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
    # The name in parentheses may hold spaces; the start time is field 22 of the whole line.
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
