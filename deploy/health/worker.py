"""Exits with 0 if the worker of this container answers a ping through the broker.

This check does not import Django: it must not cost as much as what it checks. It is for workers without a port for
metrics, which answers the same question at /healthz for a tenth of the cost.
"""

import signal
import socket
import sys

from config.worker_ping import answers

# Docker does not stop a slow check, and starts the next one while it runs, so the check needs its own time limit.
LONGEST = 14


def main() -> int:
    name = f"celery@{socket.gethostname()}"
    if answers(name):
        return 0
    print(f"{name} does not answer", file=sys.stderr)
    return 1


if __name__ == "__main__":
    signal.alarm(LONGEST)
    sys.exit(main())
