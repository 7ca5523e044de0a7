"""Prometheus' own parser accepts every query, with Grafana's variables filled in."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from dashboards.lint.rules import queries
from dashboards.resolve import Scope, resolve
from stack.programs import find


def test_prometheus_parses_every_query(all_dashboards: list[dict[str, Any]], tmp_path: Path) -> None:
    scope = Scope(start=0, end=3600, step=15)
    expressions = [
        resolve(expr, dashboard, scope) for dashboard in all_dashboards for _, _, expr in queries(dashboard)
    ]
    rules = [{"record": f"dashboard:query:{index}", "expr": expr} for index, expr in enumerate(expressions)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = subprocess.run([find("promtool"), "check", "rules", file], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert len(expressions) > 150
