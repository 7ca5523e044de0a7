"""Compatibility: the metric names and labels of celery-exporter, valid formats, the benchmark's wire format."""

import json
import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from bench.exporter.frames import Shape, Traffic, frame
from exporters.exposition.families import Family, clean, label_text, number
from exporters.exposition.page import merged, render, with_label
from exporters.queues.collector import QueueCollector
from exporters.queues.model import Queue, Snapshot
from exporters.tables import workers
from exporters.tables.budget import Budget
from exporters.tables.collectors import TaskCollector, WorkerCollector
from exporters.tables.state import EventState
from sidecar.promql import selectors
from tests.exporters.exporterkit import DATA, Running, Scraped, Worker, decoded
from tests.exporters.historykit import END, STEP, history

NOW = 1_795_000_000.0
HOST = {"name", "hostname", "queue_name"}
# Series and labels of celery-exporter.
PUBLIC = {
    **{
        f"celery_task_{state}_total": HOST
        for state in ("sent", "received", "started", "succeeded", "rejected", "revoked", "retried")
    },
    "celery_task_failed_total": HOST | {"exception"},
    "celery_task_runtime_bucket": HOST | {"le"},
    "celery_task_runtime_sum": HOST,
    "celery_task_runtime_count": HOST,
    "celery_task_queue_wait_time_bucket": HOST | {"le"},
    "celery_task_queue_wait_time_sum": HOST,
    "celery_worker_up": {"hostname"},
    "celery_worker_tasks_active": {"hostname"},
}


def exposed(frames: list[bytes]) -> Any:
    state = EventState()
    for one in frames:
        # Without the shutdown events: a worker that has shut down has no series.
        state.take([event for event in decoded(one) if event.type != "worker-offline"], 1.0, NOW)
    return [*TaskCollector(state).collect(), *WorkerCollector(state).collect()]


def test_public_names_have_exactly_the_public_labels(frames: list[bytes]) -> None:
    scraped = Scraped(render(exposed(frames)).decode())
    for name, labels in PUBLIC.items():
        found = {frozenset(sample.labels) for sample in scraped.samples if sample.name == name}
        assert found == {frozenset(labels)}, name


# The series that the public celery-mixin queries, each with the labels that it selects or groups by: its dashboards and
# alerts of August 2026. Labels of the scrape, and those that it only excludes, are left out.
TASK = {"name", "queue_name"}
MIXIN = {
    **{
        f"celery_task_{state}_total": TASK
        for state in ("sent", "received", "succeeded", "rejected", "revoked", "retried")
    },
    "celery_task_failed_total": TASK | {"exception"},
    "celery_task_runtime_bucket": TASK | {"le"},
    "celery_task_runtime_sum": TASK,
    "celery_task_runtime_count": TASK,
    "celery_queue_length": {"queue_name"},
    "celery_worker_up": set(),
    "celery_worker_tasks_active": set(),
}
# Labels that the scrape adds.
OUTSIDE = {"job", "namespace", "cluster", "instance"}
GROUPED = re.compile(r"by\s*\(([^)]*)\)")
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
CHOSEN = re.compile(r'=~?\s*"\$\{?\w+\}?"')
needs_mixin = pytest.mark.skipif(
    "CELERY_MIXIN" not in os.environ,
    reason="no celery-mixin to compare with; git clone https://github.com/danihodovic/celery-exporter, "
    "and CELERY_MIXIN=its celery-mixin folder",
)


def expressions(folder: Path) -> Iterator[Any]:
    """Every expression of a mixin's dashboards and rules."""
    for path in folder.glob("dashboards_out/*.json"):
        found = re.findall(r'"expr": ("(?:[^"\\]|\\.)*")', path.read_text())
        yield from map(json.loads, found)
    rules = yaml.safe_load((folder / "prometheus_alerts.yaml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])


def test_every_series_of_the_public_mixin_is_exposed(frames: list[bytes]) -> None:
    state = EventState()
    queues = QueueCollector(state)
    queues.update(Snapshot({"default": Queue()}))
    scraped = Scraped(render([*exposed(frames), *queues.collect()]).decode())
    for name, labels in MIXIN.items():
        found = [set(sample.labels) for sample in scraped.samples if sample.name == name]
        assert found, name
        assert all(labels <= given for given in found), name


@needs_mixin
def test_the_list_of_the_mixins_series_is_complete() -> None:
    queries = list(expressions(Path(os.environ["CELERY_MIXIN"])))
    assert len(queries) > 30
    for query in queries:
        grouped = (
            {label.strip() for part in GROUPED.findall(query) for label in part.split(",")} - OUTSIDE - {""}
        )
        for selector in selectors(query):
            assert selector.metric in MIXIN, query
            chosen = {one.label for one in selector.matchers if one.operator in ("=", "=~")} - OUTSIDE
            # Queue names of workers are matched by "any", which a series without the label matches too.
            wanted = (chosen | grouped) if MIXIN[selector.metric] else set()
            assert wanted <= MIXIN[selector.metric] | {"le"}, query


@needs_mixin
def test_the_public_mixin_runs_unchanged(tmp_path: Path) -> None:
    values = {"__rate_interval": "5m", "__range": "30m", "__interval": "1m"}
    answered = 0
    with history(tmp_path / "one", "a") as prometheus:
        for query in expressions(Path(os.environ["CELERY_MIXIN"])):
            everything = CHOSEN.sub('=~".*"', query)
            text = VARIABLE.sub(lambda match: values[match[1]], everything)
            # Prometheus refuses a query that it does not understand.
            answered += bool(prometheus.instant(text, END - STEP))
    assert answered > 60


def test_queue_metrics_have_the_public_labels(
    broker: str, start: Callable[..., Running], worker: Callable[..., Worker]
) -> None:
    running = start(broker, inspect_interval=1)
    worker(broker)
    running.until(lambda s: s.get("celery_active_consumer_count"))
    for name in ("queue_length", "active_consumer_count", "active_worker_count", "active_process_count"):
        assert {frozenset(s.labels) for s in running.scrape().samples if s.name == f"celery_{name}"} == {
            frozenset({"queue_name"})
        }


def test_both_formats_parse_and_say_the_same(frames: list[bytes]) -> None:
    families = exposed(frames)
    text = Scraped(render(families).decode())
    strict = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in openmetrics(render(families, openmetrics=True).decode())
        for s in family.samples
        if not s.name.endswith("_created")
    }
    assert strict == {(s.name, tuple(sorted(s.labels.items()))): s.value for s in text.samples}


def test_labels_are_escaped_and_encodable() -> None:
    text = label_text(name=clean('a"b\\c\nd\ud800'))
    family = Family("x", "gauge", "help")
    family.add(1, text)
    (sample,) = Scraped(render([family]).decode()).samples
    assert sample.labels["name"] == 'a"b\\c\nd�'


def test_numbers() -> None:
    assert [number(v) for v in (1, True, 0.5, float("inf"), float("-inf"), float("nan"))] == [
        "1",
        "1",
        "0.5",
        "+Inf",
        "-Inf",
        "NaN",
    ]


def test_families_of_two_brokers_are_merged() -> None:
    def family() -> Any:
        one = Family("x", "counter", "help")
        one.add(1)
        one.add(2, 'a="b c"')
        return one

    parts = [part for name in ("m", "n") for part in with_label([family()], f'broker="{name}"')]
    assert merged(parts)[0].lines == [
        'x_total{broker="m"} 1',
        'x_total{broker="m",a="b c"} 2',
        'x_total{broker="n"} 1',
        'x_total{broker="n",a="b c"} 2',
    ]


def captured_envelopes() -> Iterator[Any]:
    for line in (DATA / "frames.jsonl").read_text().splitlines():
        one = json.loads(line)
        yield one["channel"].partition("/0.celeryev/")[2], one["payload"], json.loads(one["payload"])


def test_bench_envelope_equals_the_captured_one() -> None:
    for key, payload, envelope in captured_envelopes():
        body = b64decode(envelope["body"]).decode()
        made = frame(body, envelope["headers"]["hostname"], key, envelope["properties"]["delivery_tag"])
        assert made.decode() == payload


def test_bench_events_have_the_captured_shape() -> None:
    real: dict[str, Any] = {}
    for key, _, envelope in captured_envelopes():
        body = json.loads(b64decode(envelope["body"]))
        for event in body if isinstance(body, list) else [body]:
            real.setdefault(event["type"], (key, isinstance(body, list), shape(event)))
    traffic = Traffic(Shape())
    commands = [command for _ in range(4) for command, _ in traffic.task(NOW)] + [traffic.heartbeats(NOW)]
    seen = set()
    for command in commands:
        parts = command.split(b"\r\n")
        body = json.loads(b64decode(json.loads(parts[6])["body"]))
        for event in body if isinstance(body, list) else [body]:
            key = parts[4].decode().partition("/0.celeryev/")[2]
            assert (key, isinstance(body, list), shape(event)) == real[event["type"]]
            seen.add(event["type"])
    assert seen == {"task-sent", "task-received", "task-started", "task-succeeded", "worker-heartbeat"}


def shape(event: dict[str, Any]) -> list[tuple[str, str]]:
    """Names in order with the type of each value; a parent id may be missing."""
    return [(key, type(value).__name__ if key != "parent_id" else "any") for key, value in event.items()]


def test_a_worker_that_never_sent_a_heartbeat_has_no_series() -> None:
    state = EventState()
    state.roster.workers["w@h"] = workers.Worker("w@h", workers.Host("h", Budget(1_000)), "")
    assert all(not family.lines for family in WorkerCollector(state).collect())
