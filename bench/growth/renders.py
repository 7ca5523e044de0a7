"""Measures the cost of a rendering, and prints one JSON object. The exporter is that of the first checkout on PYTHONPATH.

It is run as a program, by ``bench.growth.rendering``, so that an older checkout can be measured with its own code.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import signature
from typing import Any

NAMES = 100
QUEUES = 500
CONSUMED = 50
RENDERS = 3
# A rendering that takes longer is measured once.
SLOW_SECONDS = 2.0
NOW = time.time()
Costs = dict[str, float]


def _first(*places: str) -> Any:
    """A class, which may be in another module in an older checkout."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except ImportError:
            continue
    raise ImportError(places[0])


def _state() -> Any:
    """An empty state, as with CELERY_EXPORTER_PER_HOST_METRICS=false and a limit that is never reached."""
    limits = _first("exporters.tables.budget:Limits", "exporters.tasks:Limits")
    state = _first("exporters.tables.state:EventState", "exporters.tasks:Tables")
    has_switch = "per_host" in signature(state).parameters
    return state(limits=limits(series=10_000_000), **({"per_host": False} if has_switch else {}))


def _take(state: Any, *events: dict[str, Any]) -> None:
    # An older checkout takes events as dictionaries.
    typed = _first("exporters.decode:typed", "builtins:dict")
    state.take([typed({"timestamp": NOW, **event}) for event in events], time.monotonic(), NOW)


def _rendered(collector: Any) -> float:
    """CPU milliseconds of one rendering. The first one is not measured: it computes what the later ones reuse."""
    _lines(collector)
    used: list[float] = []
    while len(used) < RENDERS and sum(used) < SLOW_SECONDS:
        before = time.process_time()
        _lines(collector)
        used.append(time.process_time() - before)
    return min(used) * 1e3


def _lines(collector: Any) -> int:
    return sum(len(family.lines) for family in collector.collect())


def names(workers: int) -> Costs:
    """Each worker has run each of the task names once."""
    state = _state()
    for worker in range(workers):
        for name in range(NAMES):
            about = {"hostname": f"w@host-{worker}", "uuid": f"{worker}-{name}"}
            received = {"type": "task-received", "name": f"task-{name}", **about}
            _take(state, received, {"type": "task-started", **about})
            _take(state, {"type": "task-succeeded", "runtime": 0.1, **about})
    collector = _first("exporters.tables.collectors:TaskCollector", "exporters.collectors:TaskCollector")
    return {"rendering of task metrics, CPU ms": _rendered(collector(state, per_host=False))}


def consumers(workers: int) -> Costs:
    """Each worker consumes 50 of 500 queues."""
    state = _state()
    for number in range(workers):
        node = f"w@host-{number}"
        _take(state, {"type": "worker-heartbeat", "hostname": node, "processed": 0, "active": 0, "freq": 2.0})
        worker = getattr(state, "roster", state).worker(node)
        worker.queues = tuple(f"queue-{(number * 7 + each) % QUEUES}" for each in range(CONSUMED))
        worker.queues_known, worker.pool_size = True, 4
    collector = _first("exporters.queues.collector:QueueCollector", "exporters.queues:QueueCollector")
    return {"rendering of consumers, CPU ms": _rendered(collector(state))}


def schedules(count: int) -> Costs:
    """Schedules over a hundred tasks, with and without beat's events."""
    schedule = _first("exporters.beat.schedules:Schedule", "exporters.schedules:Schedule")
    collector = _first("exporters.beat.collector:BeatCollector", "exporters.beat:BeatCollector")
    ran = datetime.fromtimestamp(NOW, UTC) - timedelta(minutes=1)
    known = [
        schedule(
            name=f"schedule {number}",
            task=f"task-{number % NAMES}",
            enabled=True,
            last_run_at=ran,
            date_changed=ran,
            crontab=(str(number % 60), str(number % 24), "*", "*", "*", "UTC"),
        )
        for number in range(count)
    ]
    costs: Costs = {}
    for what in ("unseen", "seen"):
        state = _state()
        beat = collector([state], read=lambda: known)
        beat.update()
        if what == "seen":
            for name in range(NAMES):
                about = {"uuid": str(name), "name": f"task-{name}", "hostname": "gen1@beat-1"}
                _take(state, {"type": "task-sent", "queue": "q", **about})
        costs[f"rendering of schedules, beat's events {what}, CPU ms"] = _rendered(beat)
    return costs


PROBES: dict[str, Callable[[int], Costs]] = {"names": names, "consumers": consumers, "schedules": schedules}

if __name__ == "__main__":
    print(json.dumps(PROBES[sys.argv[1]](int(sys.argv[2]))))
