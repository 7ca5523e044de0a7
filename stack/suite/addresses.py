"""The port of each part: its usual one if that is free, otherwise another one."""

from stack import ports

USUAL = {
    "postgres": 5432,
    "redis": 6379,
    "s3": 9000,
    "api": 8000,
    "web": 8080,
    "exporter": 9808,
    "backup": 9809,
    "wal": 9811,
    "prometheus": 9090,
    "alertmanager": 9093,
    "inbox": 9099,
    "stripe": 8420,
    "start": 8090,
}


def choose_all(*, usual: bool) -> dict[str, int]:
    """One port per part, all different.

    Args:
        usual: prefer the usual ports; otherwise all are random, so that several suites run side by side.
    """
    chosen: dict[str, int] = {}
    for name, preferred in USUAL.items():
        port = ports.choose(preferred if usual else None)
        while port in chosen.values():
            port = ports.choose()
        chosen[name] = port
    return chosen
