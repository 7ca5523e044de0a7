"""The exporter's page in a real Prometheus: the first failure counts, and only useful series are stored."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import rules
from alerts.paths import RULES
from dashboards.lint.rules import queries
from dashboards.live_check import committed
from exporters.tables.collectors import TaskCollector
from exporters.tables.state import EventState
from sidecar.prometheus import Prometheus as Api
from sidecar.promql import selectors
from stack.ports import choose
from stack.servers import Prometheus
from tests.exporters.exporterkit import HERE, Worker, send, until

CONFIG = RULES.parent / "prometheus.yml"


def impatient_rules(folder: Path) -> None:
    """The Celery rules unchanged, except that they fire at once, after a single finished task."""
    for name in ("thresholds", "celery"):
        document = yaml.safe_load((RULES / f"{name}.yml").read_text())
        for group in document["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule.pop("for", None)
                if rule.get("record") == "threshold:celery_finished_tasks:min":
                    rule["expr"] = "0"
        (folder / f"{name}.yml").write_text(yaml.safe_dump(document))


def celery_job() -> dict[str, Any]:
    jobs = yaml.safe_load(CONFIG.read_text())["scrape_configs"]
    return next(job for job in jobs if job["job_name"] == "celery")


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Any]:
    """A Prometheus with our configuration of the job that scrapes one exporter often; with the exporter's port."""
    impatient_rules(tmp_path)
    port = choose()
    job = {key: value for key, value in celery_job().items() if key != "file_sd_configs"}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["thresholds.yml", "celery.yml"],
        "scrape_configs": [{**job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with Prometheus(tmp_path, config=tmp_path / "prometheus.yml") as server:
        yield Api(server.url), port


@pytest.fixture
def serve() -> Iterator[Any]:
    """Starts exporters as separate processes: a restart ends every connection."""
    running = []

    def begin(url: str, port: int) -> Any:
        words = ["serve", "--broker-url", url, "--host", "127.0.0.1", "--port", str(port)]
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "exporters", *words],
                cwd=HERE.parents[1],
                env={"CELERY_EXPORTER_INSPECT_INTERVAL": "1"},
            )
        )
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait(10)


def test_the_first_failure_after_a_restart_raises_the_alert(
    broker: str, serve: Callable[..., Any], worker: Callable[..., Worker], prometheus: Any
) -> None:
    api, port = prometheus
    worker(broker)
    failed = 'celery_tasks_total{task="shop.fail", queue="default", state="failed"}'
    firing = 'ALERTS{alertname="CeleryTaskFailureRatioHigh", task="shop.fail", alertstate="firing"}'

    def value() -> Any:
        return [series.last for series in api.instant(failed)]

    first = serve(broker, port)
    until(lambda: value() == [0], seconds=120)
    first.terminate()
    assert first.wait(10) == 0
    until(lambda: value() == [], seconds=120)
    serve(broker, port)
    # Nothing has run: the counter exists because the worker has the task registered.
    until(lambda: value() == [0], seconds=120)
    assert api.instant(firing) == []
    send(broker, "shop.fail")
    until(lambda: api.instant(firing), seconds=120)
    assert value() == [1]
    # No series per host, and no creation times, is stored.
    assert api.instant('{__name__=~"celery_task_(sent|failed)_total|celery_.+_created"}') == []


def test_only_what_nothing_reads_is_dropped() -> None:
    (drop,) = celery_job()["metric_relabel_configs"]
    assert (drop["action"], drop["source_labels"]) == ("drop", ["__name__"])
    dropped = re.compile(drop["regex"])
    expressions = [*(rule.expr for rule in rules.alerts()), *(rule.expr for rule in rules.records())]
    expressions += [query for dashboard in committed() for _, _, query in queries(dashboard)]
    read = {selector.metric for text in expressions for selector in selectors(text)}
    assert not {metric for metric in read if dropped.fullmatch(metric)}
    per_host = {family.name for family in TaskCollector(EventState()).collect()} - {
        family.name for family in TaskCollector(EventState(), per_host=False).collect()
    }
    endings = {"runtime": "_bucket", "wait_time": "_count"}
    for name in per_host:
        ending = next((end for part, end in endings.items() if name.endswith(part)), "_total")
        assert dropped.fullmatch(name + ending), name
