"""The limit: the minimum that a Python process has to do with every event to count correctly.

Socket, hiredis, base64 slice, orjson, join by ID, one counter and two histograms per task and queue; no caps, no
checks, no loss accounting, no metrics page. ``python -m bench.exporter.rawloop PORT`` keeps its count in Redis.
"""

import contextlib
import socket
import sys
import time
from binascii import a2b_base64
from bisect import bisect_left
from typing import Any

import hiredis
import orjson

BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
KEY = "bench:raw"
REPORT_SECONDS = 0.2


class Raw:
    """Tables without bounds."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str, str], int] = {}
        self.tasks: dict[str, tuple[str, str, float]] = {}
        self.runtime: dict[tuple[str, str], list[int]] = {}
        self.wait: dict[tuple[str, str], list[int]] = {}
        self.events = 0

    def take(self, frame: bytes) -> None:
        end = frame.find(b'"', 10)
        body = orjson.loads(a2b_base64(frame[10:end]))
        for event in body if body.__class__ is list else (body,):
            kind = event["type"]
            if kind == "worker-heartbeat":
                continue
            self.events += 1
            uid = event["uuid"]
            if kind == "task-sent":
                known = self.tasks[uid] = (event["name"], event["queue"], event["timestamp"])
            else:
                known = self.tasks.get(uid) or (event.get("name", "unknown"), "unknown", event["timestamp"])
            if kind == "task-started":
                self._observe(self.wait, known, event["timestamp"] - known[2])
            elif kind == "task-succeeded":
                self._observe(self.runtime, known, event["runtime"])
                self.tasks.pop(uid, None)
            key = (known[0], known[1], event["hostname"], kind)
            self.counts[key] = self.counts.get(key, 0) + 1

    def _observe(
        self, table: dict[tuple[str, str], list[int]], known: tuple[str, str, float], value: float
    ) -> None:
        buckets = table.get(known[:2]) or table.setdefault(known[:2], [0] * (len(BOUNDS) + 1))
        buckets[bisect_left(BOUNDS, value)] += 1


def packed(*words: str) -> bytes:
    """A command for Redis."""
    command: Any = words
    return bytes(hiredis.pack_command(command))


def main() -> None:
    """Count until killed."""
    port = int(sys.argv[1])
    subscriber, reporter = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
    subscriber.sendall(packed("PSUBSCRIBE", "/0.celeryev/*"))
    subscriber.settimeout(REPORT_SECONDS)
    reader, raw, reported = hiredis.Reader(), Raw(), 0.0
    while True:
        with contextlib.suppress(TimeoutError):
            reader.feed(subscriber.recv(1 << 18))
        while (reply := reader.gets()) is not False:
            if reply[0] == b"pmessage":
                raw.take(reply[3])
        if time.monotonic() - reported > REPORT_SECONDS:
            reporter.sendall(packed("SET", KEY, str(raw.events)))
            reporter.recv(64)
            reported = time.monotonic()


if __name__ == "__main__":
    main()
