"""The thresholds at which alerts fire, read from `alerts/rules/thresholds.yml`, so that colours and alerts agree."""

from functools import cache
from pathlib import Path

from sidecar import rulefile

FILE = Path(__file__).parents[1] / "alerts" / "rules" / "thresholds.yml"
PREFIX = "threshold:"


def limit(name: str) -> float:
    """Return the value of `threshold:<name>`, for instance `celery_queue_age:seconds`."""
    return _all()[f"{PREFIX}{name}"]


@cache
def _all() -> dict[str, float]:
    return rulefile.thresholds(FILE)
