"""Prometheus rule files as data: their rules, and the thresholds that one of them records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

# libyaml, where it is built in, is ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def document(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - both loaders are safe


def node(path: Path) -> Any:
    """The content of a YAML file as a tree, in which scalars are still text."""
    return yaml.compose(path.read_text(encoding="utf-8"), Loader=_LOADER)


def rules(path: Path) -> Iterator[dict[str, Any]]:
    """Every rule of a file, in order."""
    for group in document(path)["groups"]:
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
