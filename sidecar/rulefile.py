"""Prometheus rule files as data: their rules, and the thresholds that one of them records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def rules(path: Path) -> Iterator[dict[str, Any]]:
    """Every rule of a file, in order."""
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def thresholds(path: Path) -> dict[str, float]:
    """The general thresholds of a file by name, for instance ``threshold:celery_queue_age:seconds``.

    A record with labels is an exception for one queue, so it is left out.
    """
    return {
        str(rule["record"]): float(rule["expr"])
        for rule in rules(path)
        if "record" in rule and not rule.get("labels")
    }
