"""Example alerts with made-up label values, for `fire` and for routing tests."""

import re
from collections.abc import Mapping

import yaml

from alerts.paths import PROMETHEUS
from alerts.rules import Alert

LABEL = re.compile(r"\{\{\s*\$labels\.(\w+)\s*\}\}")
EXTERNAL = re.compile(r"\{\{\s*\$externalLabels\.(\w+)\s*\}\}")
VALUE = re.compile(r"\{\{\s*(?:printf \"[^\"]*\" )?\$value[^}]*\}\}")


def external_labels() -> dict[str, str]:
    """The external labels in prometheus.yml."""
    labels: dict[str, str] = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["global"][
        "external_labels"
    ]
    return labels


def labels_of(alert: Alert, given: Mapping[str, str]) -> dict[str, str]:
    """All labels that Alertmanager would see. Labels that the annotations use and ``given`` lacks are made up."""
    made_up = {name: f"example-{name}" for text in alert.annotations.values() for name in LABEL.findall(text)}
    environment = {"environment": external_labels()["environment"]}
    return {**environment, **made_up, **alert.labels, "alertname": alert.name, **given}


def annotations_of(alert: Alert, labels: Mapping[str, str], value: str = "42") -> dict[str, str]:
    """The annotations with their templates filled in."""
    external = external_labels()

    def filled(text: str) -> str:
        text = LABEL.sub(lambda match: labels.get(match.group(1), ""), text)
        text = EXTERNAL.sub(lambda match: external.get(match.group(1), ""), text)
        return VALUE.sub(value, text)

    return {name: filled(text) for name, text in alert.annotations.items()}
