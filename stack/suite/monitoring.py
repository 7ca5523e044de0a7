"""Prometheus' and Alertmanager's configuration for this suite: the repository's, with other addresses and durations.

It replaces the addresses of the targets, of Alertmanager and of the webhook, divides durations by the factor, and
disables quiet hours.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sidecar import OpsError
from stack.paths import ROOT
from stack.ports import HOST
from stack.timefactor import compress

ALERTS = ROOT / "alerts"
ENVIRONMENT = "demo"
STARTING_SECONDS = 30
# Alerts on delays of Prometheus itself. A machine that is busy for a second delays an evaluation by a whole interval here,
# or exceeds the time-out of a scrape, so these alerts would fire without a fault.
SENSITIVE_TO_LOAD = frozenset({"PrometheusRulesSlow", "TargetFlapping"})
# The part of the suite that each job in prometheus.yml scrapes.
JOBS = {
    "django": "api",
    "celery": "exporter",
    "backup": "backup",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
}


def write(
    folder: Path,
    ports: Mapping[str, int],
    webhook: str,
    factor: float,
    *,
    env: Mapping[str, str],
    rules_left_out: Sequence[str] = (),
) -> None:
    """Write ``prometheus.yml``, ``rules/``, ``targets/`` and ``alertmanager.yml`` into a folder.

    Args:
        env: for our own programs; without secrets of real receivers.
        rules_left_out: files of rules, by name without the suffix.
    """
    for name in ("rules", "targets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for rules in sorted((ALERTS / "rules").glob("*.yml")):
        if rules.stem in rules_left_out:
            continue
        _dump(folder / "rules" / rules.name, patient(compress(_load(rules), factor)))
    _dump(folder / "prometheus.yml", prometheus(_load(ALERTS / "prometheus.yml"), ports, factor))
    for job, part in JOBS.items():
        _dump(folder / "targets" / f"{job}.yml", [target(ports[part])])
    _alertmanager(folder, webhook, factor, env)


def patient(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out the alerts that are sensitive to load; let others wait for the first scrapes, whatever the factor is."""
    for group in document.get("groups", ()):
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in SENSITIVE_TO_LOAD]
        for rule in group["rules"]:
            if "absent(up" in str(rule["expr"]) and "for" in rule:
                rule["for"] = f"{STARTING_SECONDS}s"
    return document


def prometheus(document: dict[str, Any], ports: Mapping[str, int], factor: float) -> dict[str, Any]:
    """The Prometheus configuration with this suite's Alertmanager, pace and jobs."""
    adapted: dict[str, Any] = compress(document, factor)
    adapted["global"].setdefault("external_labels", {})["environment"] = ENVIRONMENT
    adapted["alerting"]["alertmanagers"] = [
        {"static_configs": [{"targets": [f"{HOST}:{ports['alertmanager']}"]}]}
    ]
    adapted["scrape_configs"] = [
        without_login(job) for job in adapted["scrape_configs"] if job["job_name"] in JOBS
    ]
    return adapted


def without_login(job: dict[str, Any]) -> dict[str, Any]:
    """A scrape job for a server that asks for no password, as all do here."""
    return {key: value for key, value in job.items() if key != "basic_auth"}


def target(port: int) -> dict[str, Any]:
    """A scrape target on this machine."""
    return {"targets": [f"{HOST}:{port}"], "labels": {"environment": ENVIRONMENT}}


def _alertmanager(folder: Path, webhook: str, factor: float, env: Mapping[str, str]) -> None:
    """Render the configuration with the repository's own renderer and the inbox as the only receiver."""
    shutil.copytree(ALERTS / "templates", folder / "templates")
    target = folder / "alertmanager.yml"
    # A folder that does not exist, so that no secrets of this machine are read.
    render = ["alerts", "render", "--output", str(target), "--secrets", str(folder / "no-secrets")]
    done = subprocess.run(
        [sys.executable, "-m", *render],
        cwd=ROOT,
        # A night of 9 h passes in minutes here, so the time of day must not matter.
        env={**env, "ALERTMANAGER_WEBHOOK_URL": webhook, "ALERTMANAGER_QUIET_HOURS": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise OpsError(f"alertmanager.yml: {done.stderr.strip()}", hint="./ops alerts check")
    _dump(target, compress(_load(target), factor))


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _dump(path: Path, document: Any) -> None:
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
