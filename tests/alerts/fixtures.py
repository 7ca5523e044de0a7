"""What the real exporters exposed: the captured outputs in tests/fixtures/metrics."""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from alerts.rules import alerts

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "metrics"
# prometheus_client's parser would name counters differently from Prometheus.
SERIES = re.compile(r"(?m)^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$")
TYPE = re.compile(r"(?m)^# TYPE (\S+) (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Prometheus' own: at each scrape, and when rules are evaluated.
OF_PROMETHEUS = {
    "up": ({},),
    "scrape_duration_seconds": ({},),
    "ALERTS": tuple(
        {"alertname": one.name, "alertstate": state} for one in alerts() for state in ("pending", "firing")
    ),
    # What convert_classic_histograms_to_nhcb makes of the histograms.
    "celery_task_runtime_seconds": ({},),
    "django_http_requests_latency_seconds_by_view_method": ({},),
}
# Labels that the scrape adds, from prometheus.yml and targets/*.yml; `broker` where exporters watch different brokers.
FROM_SCRAPE = ("job", "instance", "environment", "host", "probe", "broker")


@cache
def exposed() -> dict[str, list[dict[str, str]]]:
    """Label sets by series name, over all captured outputs."""
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for path in sorted(FOLDER.glob("*.prom")):
        for name, labels in SERIES.findall(path.read_text(encoding="utf-8")):
            found[name].append(dict(LABEL.findall(labels)))
    for name, labels in OF_PROMETHEUS.items():
        found[name].extend(labels)
    return dict(found)


@cache
def types() -> dict[str, str]:
    """The type of each metric in the captured outputs; OpenMetrics names a counter without ``_total``."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.prom")):
        for name, kind in TYPE.findall(path.read_text(encoding="utf-8")):
            found[name] = kind
            if kind == "counter":
                found[name.removesuffix("_total") + "_total"] = kind
    return found
