"""Prometheus and Alertmanager in a cluster that has the kinds of the Prometheus operator, but not the operator.

Their configuration is made as the operator makes it: from the ServiceMonitors and the PrometheusRule that the overlay
applied, with durations divided by a factor.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stack.deploy.cluster import NAMESPACE
from stack.paths import ROOT
from stack.suite.monitoring import patient
from stack.timefactor import compress
from tests.cluster.kubectl import kubectl, objects, run
from tests.composefile import merged

MONITORING = "monitoring"
PROMETHEUS, ALERTMANAGER = "prometheus-operated", "alertmanager-operated"
# The namespace of Prometheus may read where the targets are.
ACCESS = f"""
apiVersion: v1
kind: Namespace
metadata: {{name: {MONITORING}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: prometheus, namespace: {MONITORING}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: posthub-lifecycle-prometheus}}
rules: [{{apiGroups: [""], resources: [services, endpoints, pods], verbs: [get, list, watch]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: posthub-lifecycle-prometheus}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: posthub-lifecycle-prometheus}}
subjects: [{{kind: ServiceAccount, name: prometheus, namespace: {MONITORING}}}]
"""


def images() -> dict[str, str]:
    """The images of Prometheus and Alertmanager that production uses."""
    services = merged(ROOT / "docker-compose.prod.yml")["services"]
    return {name: services[f"posthub_{name}"]["image"] for name in ("prometheus", "alertmanager")}


def install(factor: float, webhook: str, folder: Path, targets: dict[str, list[str]]) -> None:
    """Start both, and replace those of an earlier call.

    Args:
        factor: durations are divided by it.
        webhook: where notifications go.
        folder: for files that are made on the way.
        targets: job → addresses outside of the cluster.
    """
    run("apply", "--server-side", "-f", "-", given=ACCESS)
    prometheus = {"prometheus.yml": _prometheus(factor, targets), "rules.yml": {"groups": _rules(factor)}}
    alertmanager = {"alertmanager.yml": _alertmanager(factor, webhook, folder)}
    text = {path.name: path.read_text() for path in (ROOT / "alerts" / "templates").glob("*.tmpl")}
    documents = [
        *_server("prometheus", PROMETHEUS, 9090, prometheus, {}),
        *_server("alertmanager", ALERTMANAGER, 9093, alertmanager, text),
    ]
    run(
        "-n", MONITORING, "delete", "deployment", "prometheus", "alertmanager", "--ignore-not-found", "--wait"
    )
    done = run("apply", "--server-side", "--force-conflicts", "-f", "-", given=yaml.safe_dump_all(documents))
    assert done.returncode == 0, done.stderr
    for name in ("prometheus", "alertmanager"):
        done = run("-n", MONITORING, "rollout", "status", f"deployment/{name}", "--timeout=120s")
        assert done.returncode == 0, done.stderr


def _server(
    name: str, service: str, port: int, files: dict[str, Any], texts: dict[str, str]
) -> Iterator[dict[str, Any]]:
    data = {file: yaml.safe_dump(content, sort_keys=False) for file, content in files.items()} | texts
    meta = {"name": name, "namespace": MONITORING}
    yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
    options = {
        "prometheus": ["--config.file=/config/prometheus.yml", "--storage.tsdb.path=/data"],
        "alertmanager": [
            "--config.file=/config/alertmanager.yml",
            "--storage.path=/data",
            "--cluster.listen-address=",
        ],
    }
    container = {
        "name": name,
        "image": images()[name],
        "args": options[name],
        "ports": [{"containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/-/ready", "port": port}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "data", "mountPath": "/data"},
        ],
    }
    spec = {
        "serviceAccountName": "prometheus",
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534},
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}, {"name": "data", "emptyDir": {}}],
    }
    yield {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service, "namespace": MONITORING},
        "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": port}]},
    }


def _prometheus(factor: float, targets: dict[str, list[str]]) -> dict[str, Any]:
    chart = yaml.safe_load((ROOT / "k8s" / "kube-prometheus-stack.yml").read_text(encoding="utf-8"))
    spec = chart["prometheus"]["prometheusSpec"]
    labels = {"environment": spec["externalLabels"]["environment"]}
    itself = {"prometheus": ["localhost:9090"], "alertmanager": [f"{ALERTMANAGER}:9093"]}
    jobs: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": addresses, "labels": labels}]}
        for job, addresses in (itself | targets).items()
    ]
    for monitor in objects("servicemonitors"):
        jobs += _jobs(monitor)
    return dict(
        compress(
            {
                "global": {
                    "scrape_interval": spec["scrapeInterval"],
                    "evaluation_interval": spec["evaluationInterval"],
                    "external_labels": spec["externalLabels"],
                },
                "rule_files": ["/config/rules.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"{ALERTMANAGER}:9093"]}]}]},
                "scrape_configs": jobs,
            },
            factor,
        )
    )


def _rules(factor: float) -> list[dict[str, Any]]:
    return [
        group
        for rule in objects("prometheusrules")
        for group in patient(compress({"groups": rule["spec"]["groups"]}, factor))["groups"]
    ]


def _jobs(monitor: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the operator makes of a ServiceMonitor."""
    spec, name = monitor["spec"], monitor["metadata"]["name"]
    selector = spec["selector"]
    kept = [
        *_keep("service_label", {key: [value] for key, value in selector.get("matchLabels", {}).items()}),
        *_keep("service_label", {one["key"]: one["values"] for one in selector.get("matchExpressions", ())}),
    ]
    for number, endpoint in enumerate(spec["endpoints"]):
        job: dict[str, Any] = {
            "job_name": f"serviceMonitor/{NAMESPACE}/{name}/{number}",
            "scrape_interval": endpoint["interval"],
            "metrics_path": endpoint.get("path", "/metrics"),
            "kubernetes_sd_configs": [{"role": "endpoints", "namespaces": {"names": [NAMESPACE]}}],
            "relabel_configs": [
                *kept,
                *_keep("endpoint", {"port_name": [endpoint["port"]]}),
                {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
                {"source_labels": ["__meta_kubernetes_service_name"], "target_label": "service"},
                {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
                {"source_labels": [_meta("service_label", spec["jobLabel"])], "target_label": "job"},
                *map(_snake, endpoint.get("relabelings", ())),
            ],
            "metric_relabel_configs": [*map(_snake, endpoint.get("metricRelabelings", ()))],
        }
        if "basicAuth" in endpoint:
            login = endpoint["basicAuth"]
            job["basic_auth"] = {part: _secret(**login[part]) for part in ("username", "password")}
        yield job


def _keep(what: str, wanted: dict[str, list[str]]) -> Iterator[dict[str, Any]]:
    for key, values in wanted.items():
        yield {"source_labels": [_meta(what, key)], "regex": "|".join(values), "action": "keep"}


def _meta(what: str, key: str) -> str:
    return f"__meta_kubernetes_{what}_" + re.sub(r"\W", "_", key)


def _snake(relabeling: dict[str, Any]) -> dict[str, Any]:
    return {
        re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in relabeling.items()
    }


def _secret(name: str, key: str) -> str:
    return kubectl("get", "secret", name, "-o", f'go-template={{{{index .data "{key}" | base64decode}}}}')


def _alertmanager(factor: float, webhook: str, folder: Path) -> dict[str, Any]:
    target = folder / "alertmanager.yml"
    given = {"ALERTMANAGER_WEBHOOK_URL": webhook, "ALERTMANAGER_QUIET_HOURS": "off"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "alerts",
            "render",
            "--output",
            str(target),
            "--secrets",
            str(folder / "none"),
        ],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = dict(compress(yaml.safe_load(target.read_text(encoding="utf-8")), factor))
    document["templates"] = ["/config/*.tmpl"]
    return document
