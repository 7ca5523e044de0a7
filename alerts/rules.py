"""Parses the rule files into alerts, recording rules and thresholds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alerts.paths import RULES, THRESHOLDS
from sidecar import UsageError, rulefile

SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True)
class Alert:
    """One alerting rule.

    Args:
        file: stem of its rule file.
        duration: the rule's ``for``, empty if it fires at once.
        kept: the rule's ``keep_firing_for``, empty if it ends with its condition.
    """

    name: str
    expr: str
    duration: str
    kept: str
    labels: dict[str, str]
    annotations: dict[str, str]
    file: str

    @property
    def severity(self) -> str:
        return self.labels.get("severity", "")

    @property
    def component(self) -> str:
        return self.labels.get("component", "")


@dataclass(frozen=True)
class Record:
    """One recording rule."""

    name: str
    expr: str
    labels: dict[str, str]
    file: str


@cache
def alerts(folder: Path = RULES) -> tuple[Alert, ...]:
    """All alerting rules in file order."""
    return tuple(_alert(rule, path) for path, rule in _rules(folder) if "alert" in rule)


@cache
def records(folder: Path = RULES) -> tuple[Record, ...]:
    """All recording rules."""
    found = ((path, rule) for path, rule in _rules(folder) if "record" in rule)
    return tuple(
        Record(rule["record"], str(rule["expr"]), rule.get("labels", {}), path.stem) for path, rule in found
    )


def alert(name: str) -> Alert:
    """The alert with this name.

    Raises:
        UsageError: it does not exist; the hint lists similar names.
    """
    for candidate in alerts():
        if candidate.name == name:
            return candidate
    similar = [alert.name for alert in alerts() if name.lower() in alert.name.lower()]
    hint = ", ".join(similar[:8]) or "./ops alerts list"
    raise UsageError(f"there is no alert {name}", hint=hint)


def thresholds() -> dict[str, float]:
    """The general thresholds by name, without those of single queues."""
    return rulefile.thresholds(THRESHOLDS)


def queue_thresholds(folder: Path = RULES) -> tuple[Record, ...]:
    """The thresholds of single queues."""
    return tuple(record for record in records(folder) if record.file == THRESHOLDS.stem and record.labels)


def _rules(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(folder.glob("*.yml")):
        yield from ((path, rule) for rule in rulefile.rules(path))


def _alert(rule: dict[str, Any], path: Path) -> Alert:
    return Alert(
        name=rule["alert"],
        expr=str(rule["expr"]),
        duration=str(rule.get("for", "")),
        kept=str(rule.get("keep_firing_for", "")),
        labels=rule.get("labels", {}),
        annotations=rule.get("annotations", {}),
        file=path.stem,
    )
