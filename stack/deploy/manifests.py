"""The Kubernetes manifests that are generated from other files: alert rules and dashboards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stack.paths import ROOT

RULES = ROOT / "alerts" / "rules"
DASHBOARDS = ROOT / "dashboards" / "json"
HEAD = "# Made from {source} by `./ops deploy manifests`: change those.\n"


class _Dumper(yaml.SafeDumper):
    """Long expressions stay readable as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def manifests() -> Mapping[Path, str]:
    """The text of each generated file, by its path in the checkout."""
    return {
        ROOT / "k8s" / "base" / "monitoring" / "prometheus-rules.yaml": _dump(
            prometheus_rule(), "alerts/rules"
        ),
        ROOT / "dashboards" / "kustomization.yaml": _dump(dashboards(), "dashboards/json"),
    }


def prometheus_rule() -> dict[str, Any]:
    """All rule files as one object of the Prometheus operator."""
    groups: list[Any] = []
    for path in sorted(RULES.glob("*.yml")):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "posthub-alerts", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": groups},
    }


def dashboards() -> dict[str, Any]:
    """A ConfigMap for each dashboard, in the form that Grafana's sidecar expects."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "generatorOptions": {
            "disableNameSuffixHash": True,
            "labels": {"grafana_dashboard": "1"},
            "annotations": {"grafana_folder": "PostHub"},
        },
        "configMapGenerator": [
            {"name": f"dashboard-{path.stem}", "files": [f"json/{path.name}"]}
            for path in sorted(DASHBOARDS.glob("*.json"))
        ],
    }


def _dump(document: Mapping[str, Any], source: str) -> str:
    body = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return HEAD.format(source=source) + body
