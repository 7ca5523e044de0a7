"""Paths of the alerting files in a checkout."""

from pathlib import Path

ALERTS = Path(__file__).resolve().parent
ROOT = ALERTS.parent
RULES = ALERTS / "rules"
TESTS = ALERTS / "tests"
TEMPLATES = ALERTS / "templates"
THRESHOLDS = RULES / "thresholds.yml"
PROMETHEUS = ALERTS / "prometheus.yml"
ALERTMANAGER = ALERTS / "alertmanager.yml"
RUNBOOKS = ROOT / "runbooks" / "alerts"
TABLE = ROOT / "docs" / "alerts.md"
