"""Ends the processes of a supervisor that died without ending them itself.

Run as a program. It reads ``+PGID`` and ``-PGID`` lines from standard input. When the input ends, however the
supervisor died, the process groups still listed get SIGTERM, and after a while SIGKILL.
"""

import os
import signal
import sys
import time

# On a busy machine, a verification takes a while to end its server and to delete its files.
GRACE_SECONDS = 20.0


def main() -> None:
    # The supervisor handles Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    end(groups)


def end(groups: set[int]) -> None:
    """Stop process groups: SIGTERM first, SIGKILL after a while."""
    remaining = {group for group in groups if _signal(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_SECONDS
    while remaining and time.monotonic() < deadline:
        time.sleep(0.1)
        remaining = {group for group in remaining if _signal(group, 0)}
    for group in remaining:
        _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    main()
