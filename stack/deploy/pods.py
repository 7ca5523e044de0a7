"""Why pods do not start: reasons that waiting longer does not change."""

import json
from dataclasses import dataclass
from typing import Any

# The kubelet tries again, but what is wrong is the image's name, its registry, or a missing setting or secret.
FINAL = (
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)
CRASHING = "CrashLoopBackOff"
# A single crash may only mean that the database is still starting.
MAX_RESTARTS = 3


@dataclass(frozen=True)
class Trouble:
    """A container that cannot start.

    Args:
        pod: its pod.
        image: its image.
        reason: Kubernetes' reason. detail: Kubernetes' message.
    """

    pod: str
    image: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.pod} cannot start: {self.reason}: {self.image}: {self.detail}".rstrip(": ")


def trouble(pods: str, tag: str) -> Trouble | None:
    """The first container with an image of this tag that cannot start, from ``kubectl get pods -o json``.

    A pod that is being deleted is left out: after a rollback, those of the tag that failed are still there for a moment.
    """
    for pod in _items(pods):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        status = pod.get("status", {})
        for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            waiting = container.get("state", {}).get("waiting") or {}
            reason, image = waiting.get("reason", ""), container.get("image", "")
            crashes = reason == CRASHING and container.get("restartCount", 0) >= MAX_RESTARTS
            if (reason in FINAL or crashes) and f":{tag}" in image:
                return Trouble(pod["metadata"]["name"], image, reason, waiting.get("message", ""))
    return None


def exit_codes(pods: str) -> set[int]:
    """The exit codes of containers that have ended."""
    return {
        ended["exitCode"]
        for pod in _items(pods)
        for container in pod.get("status", {}).get("containerStatuses", ())
        if (ended := container.get("state", {}).get("terminated"))
    }


def _items(pods: str) -> list[dict[str, Any]]:
    return list(json.loads(pods).get("items", ())) if pods.strip() else []
