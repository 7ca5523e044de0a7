"""The limits at which alerts fire, read from the one place where they stand: `alerts/rules/thresholds.yml`.

A dashboard that changes colour at another number than the alert would teach people to distrust one of the two.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).parents[1] / "alerts" / "rules" / "thresholds.yml"
PREFIX = "threshold:"


def limit(name: str) -> float:
    """Return the value of `threshold:<name>`, for instance `celery_queue_age:seconds`."""
    return _all()[name]


@cache
def _all() -> dict[str, float]:
    rules = [
        one for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"] for one in group["rules"]
    ]
    # A record with labels is the exception for one queue; dashboards colour at the general limit.
    return {_name(one): float(one["expr"]) for one in rules if "record" in one and not one.get("labels")}


def _name(rule: dict[str, Any]) -> str:
    return str(rule["record"]).removeprefix(PREFIX)
