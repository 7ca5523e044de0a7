"""Prometheus servers that seem to have scraped exporters for a while."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alerts import rules
from sidecar.prometheus import Prometheus as Api
from stack.programs import find
from stack.servers import Prometheus
from tests.alerts.fixtures import FOLDER, SERIES

STEP, STEPS = 15, 200
START = 1_795_000_000
END = START + STEP * STEPS
# The second exporter was restarted; it is scraped some seconds after the first one.
RESTARTED, LATER = 100, 7
GROWS = re.compile(r"_(total|bucket|count|sum)$")


def samples(name: str, labels: str, value: float, instance: str) -> Iterator[str]:
    """The metrics of an exporter over time: counters rise, queues grow."""
    given = f'{{{labels}{"," if labels else ""}job="celery",environment="production",instance="{instance}"}}'
    first, shift = (RESTARTED, LATER) if instance == "b" else (0, 0)
    for step in range(first, STEPS):
        grown = (
            (step - first) * (value or 3)
            if GROWS.search(name)
            else value + step * (name == "celery_queue_length")
        )
        yield f"{name}{given} {grown} {START + step * STEP + shift}"


def page(*instances: str) -> str:
    """The captured page of an exporter as these exporters would show it, with all thresholds."""
    text = (FOLDER / "celery_exporter.prom").read_text(encoding="utf-8")
    lines = [
        f"{name} {value} {START + step * STEP}"
        for name, value in rules.thresholds().items()
        if value is not None
        for step in range(STEPS)
    ]
    shown = [
        ("up", "", 1.0),
        *((name, labels, value_of(text, name, labels)) for name, labels in SERIES.findall(text)),
    ]
    for instance in instances:
        for name, labels, value in shown:
            # One worker and beat are down.
            is_down = name == "celery_beat_up" or (name == "celery_worker_up" and "ai" in labels)
            lines += samples(name, labels, 0.0 if is_down else value, instance)
    return "\n".join([*lines, "# EOF", ""])


def value_of(text: str, name: str, labels: str) -> float:
    head = f"{name}{{{labels}}} " if labels else f"{name} "
    return float(text.partition("\n" + head)[2].partition("\n")[0])


@contextmanager
def history(folder: Path, *instances: str) -> Iterator[Api]:
    """A Prometheus that has scraped these exporters."""
    folder.mkdir()
    (folder / "page.txt").write_text(page(*instances))
    (folder / "prometheus.yml").write_text("{}")
    subprocess.run(
        [str(find("promtool")), "tsdb", "create-blocks-from", "openmetrics", "page.txt", "data"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    with Prometheus(folder, config=folder / "prometheus.yml") as server:
        yield Api(server.url)
