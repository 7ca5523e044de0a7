"""Ports on 127.0.0.1: the usual one when it is free, otherwise any free one."""

import random
import socket

HOST = "127.0.0.1"
# Below those that the kernel gives to outgoing connections: none is lost between its choice and its use.
FREE = range(10_000, 32_000)
_CLAIMS: list[socket.socket] = []


def choose(preferred: int | None = None) -> int:
    """A port that nobody listens on at this moment.

    Args:
        preferred: taken if it is free and no other start of ours has it in mind.
    """
    if preferred is not None and _is_free(preferred) and _claim(preferred):
        return preferred
    port = random.choice(FREE)
    return port if _is_free(port) else choose()


def _claim(port: int) -> bool:
    """Keep a usual port from other starts of ours, until this process ends: between choice and use pass seconds."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        # An abstract name: known to the whole machine (or container), and gone with its owner.
        claim.bind(f"\0posthub-ops-port-{port}")
    except OSError:
        claim.close()
        return False
    _CLAIMS.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # 0.0.0.0 also meets a server that listens on another address of this port.
            probe.bind(("0.0.0.0", port))  # noqa: S104
        except OSError:
            return False
        return True
