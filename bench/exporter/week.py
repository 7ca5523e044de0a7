"""A week in compressed time: does anything grow? ``python -m bench.exporter.week`` prints RSS and series per day.

The event tables live through seven days of deployments: every hour all workers and clients come back under new
names, tasks run, some never end; each scrape interval everything is rendered. Time is simulated, nothing else is.
"""

import json
from pathlib import Path

from bench.exporter.frames import Shape, Traffic
from exporters.decode import decode_all
from exporters.exposition.page import render
from exporters.tables.collectors import TaskCollector, WorkerCollector
from exporters.tables.state import EventState

HOURS = 7 * 24
TASKS_AN_HOUR = 3_000
STEP = 60.0
DAY = 24
EPOCH = 1_795_000_000.0


class Hour(Traffic):
    """One deployment's traffic."""

    def __init__(self, number: int) -> None:
        super().__init__(Shape(orphans=1))
        self.client = f"gen8843@web-{number}"
        self.nodes = [f"worker-{n}@pod-{number}-{n}" for n in range(self.shape.workers)]


def payload(command: bytes) -> bytes:
    return command.split(b"\r\n", 6)[6].removesuffix(b"\r\n")


def live(state: EventState, number: int) -> None:
    """One hour of events, heartbeats and scrapes."""
    traffic, start = Hour(number), number * 3600.0
    for step in range(60):
        now = start + step * STEP
        for _ in range(TASKS_AN_HOUR // 60):
            for command, _ in traffic.task(EPOCH + now):
                state.take(decode_all([payload(command)])[0], now, EPOCH + now)
        for command in traffic.heartbeats(EPOCH + now).split(b"*3\r\n")[1:]:
            state.take(decode_all([payload(b"*3\r\n" + command)])[0], now, EPOCH + now)
        state.purge(now)
        render([*TaskCollector(state).collect(), *WorkerCollector(state).collect()])


def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    """Print one JSON line: RSS in MB, series and workers at the end of each day."""
    state, days = EventState(), []
    for hour in range(HOURS):
        live(state, hour)
        if (hour + 1) % DAY == 0:
            days.append(
                {"rss": round(rss(), 1), "series": state.series, "workers": len(state.roster.workers)}
            )
    print(json.dumps(days))


if __name__ == "__main__":
    main()
