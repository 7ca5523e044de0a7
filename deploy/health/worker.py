"""Exits with 0 if the worker of this container answers a ping through the broker.

A worker that is alive but has lost its broker or its pool does not answer.
This check does not import Django: it must not cost as much as what it checks.
"""

import signal
import socket
import sys

from celery import Celery

from config import redis_url
from config.env import text

SECONDS = 5
# Docker does not stop a slow check, and starts the next one while it runs, so the check has to end by itself.
LONGEST = 14


def main() -> int:
    broker = text("CELERY_BROKER_URL", text("REDIS_URL"))
    app = Celery("health", broker=broker, set_as_current=False)
    app.conf.broker_transport_options = {
        "socket_connect_timeout": 3,
        "socket_timeout": SECONDS,
        **redis_url.transport_options(broker, text("REDIS_SENTINEL_MASTER", "posthub")),
    }
    app.conf.broker_connection_retry = False
    name = f"celery@{socket.gethostname()}"
    if app.control.ping(destination=[name], timeout=SECONDS, limit=1):
        return 0
    print(f"{name} does not answer", file=sys.stderr)
    return 1


if __name__ == "__main__":
    signal.alarm(LONGEST)
    sys.exit(main())
