"""What the checks on a real cluster do with kubectl."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

from stack.deploy.cluster import NAMESPACE

LONG_SECONDS = 900.0
PAUSE = 1.0


def run(*arguments: str, given: str = "", seconds: float = LONG_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, check=False, timeout=seconds
    )


def kubectl(*arguments: str, given: str = "") -> str:
    """What a kubectl that has to succeed prints. Objects without a namespace of their own are in PostHub's."""
    done = run("-n", NAMESPACE, *arguments, given=given)
    assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}"
    return done.stdout


def reachable() -> bool:
    if shutil.which("kubectl") is None:
        return False
    try:
        return run("version", "--request-timeout=5s", seconds=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def objects(kind: str, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(kubectl("get", kind, *options, "-o", "json"))["items"])


def names(kind: str, *options: str) -> set[str]:
    return {each["metadata"]["name"] for each in objects(kind, *options)}


def inside(target: str, *command: str) -> str:
    """What a command in a container prints, such as in ``deployment/posthub-api``."""
    return kubectl("exec", target, "--", *command)


def until(what: str, met: Callable[[], bool], seconds: float) -> float:
    """Wait for a condition; the seconds that it took."""
    began = time.monotonic()
    while not met():
        assert time.monotonic() < began + seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(PAUSE)
    return time.monotonic() - began


def job(name: str, cronjob: str) -> tuple[float, str]:
    """Run the job of a CronJob to its end: the seconds that it took, and what it printed. It has to succeed."""
    kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")
    kubectl("create", "job", name, f"--from=cronjob/{cronjob}")

    def ended() -> bool:
        return bool({"Complete", "Failed"} & _conditions(name))

    took = until(f"job {name} ends", ended, LONG_SECONDS)
    printed = kubectl("logs", f"job/{name}", "--tail=200")
    assert "Complete" in _conditions(name), printed
    return took, printed


def _conditions(name: str) -> set[str]:
    return set(kubectl("get", "job", name, "-o", "jsonpath={.status.conditions[*].type}").split())


def evict(pod: str) -> bool:
    """Ask for an eviction, as `kubectl drain` does. False: a disruption budget does not allow it now."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": NAMESPACE},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    done = run("create", "--raw", path, "-f", "-", given=json.dumps(eviction))
    assert done.returncode == 0 or "disruption budget" in done.stderr, done.stderr
    return done.returncode == 0


def ready(pod: dict[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", ())}
    return "deletionTimestamp" not in pod["metadata"] and conditions.get("Ready") == "True"


def all_available() -> bool:
    """Whether every Deployment has all its pods."""
    return all(
        each["status"].get("availableReplicas", 0) == each["spec"]["replicas"]
        and each["status"].get("updatedReplicas", 0) == each["spec"]["replicas"]
        for each in objects("deployments")
    )
