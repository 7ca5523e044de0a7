"""Checks of the running services: containers, images, targets, and the last verified backup."""

import json
import time
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote

import yaml

from stack.doctor.check import Case, Check

# Containers that run once, at the start.
ONCE = ("posthub_init", "posthub_migrate", "posthub_db_roles", "posthub_alertmanager_config")
# Jobs whose service belongs to a profile. Prometheus cannot scrape it without the profile.
OPTIONAL = {"backup_wal": "posthub_backup_wal", "logs": "posthub_log_gateway"}
LONGEST_SINCE_PROOF = 36 * 3600
API = "http://127.0.0.1:9090/api/v1"


def examine(case: Case) -> Iterator[Check]:
    containers = {container["Service"]: container for container in case.host.compose_json("ps", "--all")}
    config = case.host.compose("config")
    wanted = _images_of(config.output) if config.code == 0 else {}
    if not wanted:
        fix = "docker compose -f docker-compose.prod.yml config --quiet"
        yield Check("compose file", False, f"cannot be read: {config.last_line}", fix)
    # Without the file, check at least the containers that exist.
    yield from (_container(name, containers.get(name)) for name in wanted or containers)
    if wanted:
        yield _images(wanted, containers)
    yield _targets(case, wanted)
    yield from _backups(case)
    yield _backup_doctor(case)


def is_running(case: Case) -> bool:
    """Whether any container of the project exists."""
    return bool(case.host.compose_json("ps", "--all"))


def _images_of(config: str) -> dict[str, str]:
    """The image of each service in the compose file."""
    services = (yaml.safe_load(config) or {}).get("services", {})
    return {name: service["image"] for name, service in services.items()}


def _container(name: str, found: dict[str, Any] | None) -> Check:
    logs = f"docker compose -f docker-compose.prod.yml logs --tail 50 {name}"
    if found is None:
        return Check(name, False, "does not exist", "docker compose -f docker-compose.prod.yml up -d --wait")
    if name in ONCE:
        return Check(name, found["State"] == "exited" and found["ExitCode"] == 0, found["Status"], logs)
    well = found["State"] == "running" and found["Health"] in ("healthy", "")
    return Check(name, well, found["Status"], logs)


def _images(wanted: dict[str, str], containers: dict[str, dict[str, Any]]) -> Check:
    other = [
        f"{name} runs {containers[name]['Image']}"
        for name, image in wanted.items()
        if name in containers and containers[name]["Image"] != image
    ]
    if other:
        fix = "docker compose -f docker-compose.prod.yml up -d --wait"
        return Check("image versions", False, "; ".join(other), fix)
    return Check("image versions", True, f"{len(wanted)} services run the images of the compose file")


def _ask(case: Case, path: str) -> Any:
    done = case.host.compose("exec", "-T", "posthub_prometheus", "wget", "-qO-", f"{API}/{path}")
    try:
        return json.loads(done.output)["data"] if done.code == 0 else None
    except (ValueError, KeyError, TypeError):
        return None


def _targets(case: Case, wanted: Collection[str]) -> Check:
    data = _ask(case, "targets?state=active")
    if data is None:
        return Check("targets", False, "Prometheus does not answer", "read the log of posthub_prometheus")
    unused = {job for job, service in OPTIONAL.items() if wanted and service not in wanted}
    targets = [target for target in data["activeTargets"] if target["labels"]["job"] not in unused]
    down = [target["labels"]["job"] for target in targets if target["health"] != "up"]
    if down or not targets:
        return Check(
            "targets",
            False,
            f"down: {', '.join(down) or 'there are no targets'}",
            "runbooks/alerts/TargetDown.md",
        )
    return Check("targets", True, f"{len(targets)} up")


def _backups(case: Case) -> Iterator[Check]:
    data = _ask(case, f"query?query={quote('backup_last_verified_backup_timestamp_seconds')}")
    found = (data or {}).get("result", [])
    if not found:
        yield Check("last verified backup", False, "Prometheus has no data", "read the log of posthub_backup")
    for series in found:
        name = f"last verified backup of {series['metric'].get('database', '?')}"
        yield _proof(name, float(series["value"][1]))


def _proof(name: str, taken: float) -> Check:
    if taken <= 0:
        return Check(
            name,
            False,
            "none yet",
            "docker compose -f docker-compose.prod.yml exec posthub_backup python -m backup run --verify",
        )
    hours = (time.time() - taken) / 3600
    well = hours * 3600 < LONGEST_SINCE_PROOF
    return Check(name, well, f"taken {hours:.1f} hours ago", "runbooks/alerts/BackupUnverified.md")


def _backup_doctor(case: Case) -> Check:
    done = case.host.compose("exec", "-T", "posthub_backup", "python", "-m", "backup", "doctor", "--json")
    command = "docker compose -f docker-compose.prod.yml exec posthub_backup python -m backup doctor"
    try:
        checks = json.loads(done.output)
        wrong = [check["name"] for check in checks if check["ok"] is False]
    except (ValueError, KeyError, TypeError):
        return Check("backup sidecar", False, done.last_line, command)
    if not checks:
        return Check("backup sidecar", False, "it checked nothing", command)
    return Check(
        "backup sidecar",
        not wrong,
        ", ".join(wrong) or "store, keys, versions and permissions are correct",
        command,
    )
