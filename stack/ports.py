"""Ports on 127.0.0.1: the usual one if it is free, otherwise any free one."""

import random
import socket

HOST = "127.0.0.1"
# Below the range of outgoing connections, so that none is taken between choice and use.
FREE = range(10_000, 32_000)
_CLAIMS: list[socket.socket] = []


def choose(preferred: int | None = None) -> int:
    """A port that is free at this moment.

    Args:
        preferred: used if it is free and not reserved by another stack.
    """
    if preferred is not None and _is_free(preferred) and _claim(preferred):
        return preferred
    port = random.choice(FREE)
    return port if _is_free(port) else choose()


def _claim(port: int) -> bool:
    """Reserve a usual port against other stacks until this process ends, since seconds pass between choice and use."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        # An abstract socket: visible on the whole machine (or container), and gone with its owner.
        claim.bind(f"\0posthub-ops-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do, so that a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # 0.0.0.0 also detects a server that listens on another address of this port.
            probe.bind(("0.0.0.0", port))  # noqa: S104 - every address must be free
        except OSError:
            return False
        return True
