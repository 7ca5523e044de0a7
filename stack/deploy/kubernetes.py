"""Kubernetes: migrations, then everything else, and back if a roll-out does not become ready."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sidecar import OpsError
from stack.deploy.runner import Runner

NAMESPACE = "posthub"
IMAGES = ("posthub/api", "posthub/frontend", "posthub/celery-exporter", "posthub/backup")
ROLLED = (
    "posthub-api",
    "posthub-frontend",
    "posthub-celery-worker",
    "posthub-celery-worker-ai",
    "posthub-celery-beat",
    "posthub-flower",
    "posthub-celery-exporter",
    "posthub-backup",
)
MIGRATE = "posthub-migrate"
# A worker may finish its task first.
TIMEOUT = "600s"

Say = Callable[[str], None]


@dataclass(frozen=True)
class KubeRollout:
    """One deployment of a tag.

    Args:
        registry: where the images are, such as ``ghcr.io/posthub``.
        overlay: folder below k8s/overlays.
    """

    root: Path
    runner: Runner
    say: Say
    tag: str
    registry: str
    overlay: str

    def deploy(self) -> None:
        """Roll out; on failure every Deployment that was touched goes back to its last revision.

        Raises:
            OpsError: it failed.
        """
        manifests = self.render(f"k8s/overlays/{self.overlay}")
        migrate = self.render("k8s/migrate")
        self._kubectl("delete", "job", MIGRATE, "--ignore-not-found", "--wait=true")
        self._prepare(manifests)
        self._apply(migrate)
        self._kubectl("wait", "--for=condition=complete", f"job/{MIGRATE}", f"--timeout={TIMEOUT}")
        self.say("✔ migrations")
        self._apply(manifests)
        try:
            self._wait()
        except OpsError as error:
            self.undo()
            raise OpsError(
                f"{error}; the last revision runs again", hint=f"kubectl -n {NAMESPACE} get events"
            ) from None
        self.say(f"✔ {self.tag} is deployed")

    def undo(self) -> None:
        """Every Deployment back to its revision before."""
        for name in ROLLED:
            self.runner.run("kubectl", "-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self._wait()

    def render(self, folder: str) -> str:
        """The manifests with this tag's images."""
        documents = list(yaml.safe_load_all(self.runner.must("kubectl", "kustomize", folder)))
        for container in _containers(documents):
            container["image"] = self._image(container["image"])
        return yaml.safe_dump_all(documents, sort_keys=False)

    def _image(self, image: str) -> str:
        name = image.rpartition(":")[0] or image
        ours = next((own for own in IMAGES if name.endswith(own.removeprefix("posthub"))), None)
        return f"{self.registry}/{ours.partition('/')[2]}:{self.tag}" if ours else image

    def _prepare(self, manifests: str) -> None:
        """What the migrations need before anything else of this tag runs: the namespace and the settings."""
        kept = [
            doc
            for doc in yaml.safe_load_all(manifests)
            if doc["kind"] in ("Namespace", "ConfigMap", "NetworkPolicy")
        ]
        self._apply(yaml.safe_dump_all(kept, sort_keys=False))

    def _apply(self, manifests: str) -> None:
        self.runner.must("kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-", given=manifests)

    def _wait(self) -> None:
        for name in ROLLED:
            self._kubectl("rollout", "status", f"deployment/{name}", f"--timeout={TIMEOUT}")
            self.say(f"✔ {name}")

    def _kubectl(self, *arguments: str) -> None:
        self.runner.must("kubectl", "-n", NAMESPACE, *arguments)


def _containers(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """Every container of every pod template, wherever it stands."""
    for found in _walk(documents):
        for kind in ("containers", "initContainers"):
            yield from (one for one in found.get(kind) or [] if isinstance(one, dict) and "image" in one)


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(item)
