"""Kubernetes: deploy the data tier, run migrations, deploy everything else; roll back what does not become ready."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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
# Applied first, because the rest needs it: namespace, settings, permissions and the servers with data.
FIRST = ("Namespace", "ConfigMap", "NetworkPolicy", "Service", "ObjectStore", "Cluster", "StatefulSet")
MIGRATE = "posthub-migrate"
CHECK = "posthub-migrate-check"
BACKUP = "posthub-backup-before-migrations"
OVERLAY = "posthub.work/overlay"
# A worker may finish its task first.
TIMEOUT = "600s"
# Longer than the longest job may take by its own activeDeadlineSeconds: a backup's six hours.
JOB_SECONDS = 22_000.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class KubeRollout:
    """One deployment of a tag.

    Args:
        registry: of the images, such as ``ghcr.io/posthub``.
        overlay: folder below k8s/overlays.
        digests: name of an image → the digest that it must have.
    """

    root: Path
    runner: Runner
    say: Say
    tag: str
    registry: str
    overlay: str
    pause: float = 5.0
    digests: Mapping[str, str] = field(default_factory=dict)

    def deploy(self) -> None:
        """Deploy; on failure, every changed Deployment goes back to its previous revision.

        Raises:
            OpsError: it failed.
        """
        self._require_own_cluster()
        manifests = self.render(f"k8s/overlays/{self.overlay}")
        migrate = self.render("k8s/migrate")
        self._data(manifests)
        self._migrate(migrate)
        self._apply(manifests)
        try:
            self._wait()
        except OpsError as error:
            self._back(error)
        self.say(f"✔ {self.tag} is deployed")

    def _require_own_cluster(self) -> None:
        """Staging applied over production would publish production's posts."""
        label = OVERLAY.replace(".", "\\.")
        found = self.runner.must(
            "kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", f"jsonpath={{.metadata.labels.{label}}}",
        ).strip()  # fmt: skip
        if found not in ("", self.overlay):
            raise OpsError(
                f"this cluster runs the overlay {found}, not {self.overlay}",
                hint="kubectl config use-context …; each overlay has a cluster of its own",
            )

    def _back(self, error: OpsError) -> None:
        hint = f"kubectl -n {NAMESPACE} get events"
        try:
            self.undo()
        except OpsError as second:
            raise OpsError(f"{error}; the rollback failed too: {second}", hint=hint) from None
        raise OpsError(f"{error}; the previous revision runs again", hint=hint) from None

    def undo(self) -> None:
        """Roll every Deployment back to its previous revision."""
        for name in ROLLED:
            self.runner.run("kubectl", "-n", NAMESPACE, "rollout", "undo", f"deployment/{name}")
        self._wait()

    def render(self, folder: str) -> str:
        """The manifests with this tag's images."""
        documents = list(yaml.safe_load_all(self.runner.must_tell("kubectl", "kustomize", folder)))
        for container in _containers(documents):
            container["image"] = self._image(container["image"])
        return yaml.safe_dump_all(documents, sort_keys=False)

    def _image(self, image: str) -> str:
        name = image.rpartition(":")[0] or image
        ours = next((own for own in IMAGES if name.endswith(own.removeprefix("posthub"))), None)
        if ours is None:
            return image
        short = ours.partition("/")[2]
        # The digest decides; the tag is for people.
        digest = f"@{self.digests[short]}" if short in self.digests else ""
        return f"{self.registry}/{short}:{self.tag}{digest}"

    def _data(self, manifests: str) -> None:
        """Apply what the migrations need; a new cluster has nothing yet."""
        first = [doc for doc in yaml.safe_load_all(manifests) if doc["kind"] in FIRST]
        self._apply(yaml.safe_dump_all(first, sort_keys=False))
        for doc in first:
            name = doc["metadata"]["name"]
            if doc["kind"] == "Cluster":
                cluster = f"clusters.postgresql.cnpg.io/{name}"
                self._kubectl("wait", "--for=condition=Ready", cluster, f"--timeout={TIMEOUT}")
            elif doc["kind"] == "StatefulSet":
                self._kubectl("rollout", "status", f"statefulset/{name}", f"--timeout={TIMEOUT}")
        self.say("✔ database and Redis")

    def _migrate(self, migrate: str) -> None:
        """A migration can destroy data, so the database is backed up first.

        Raises:
            OpsError: a job failed; nothing was restarted.
        """
        if self._job(CHECK, _checking(migrate)) and not self.runner.dry:
            return
        cronjob = self.runner.must(
            "kubectl", "-n", NAMESPACE, "get", "cronjob", "posthub-backup", "--ignore-not-found", "-o", "name"
        )
        if cronjob.strip() or self.runner.dry:
            self._delete_job(BACKUP)
            self._kubectl("create", "job", BACKUP, "--from=cronjob/posthub-backup")
            self._must_succeed(BACKUP, self._succeeds(BACKUP))
            self.say("✔ backup before the migrations")
        else:
            self.say("! no backup before the migrations: this is the first deployment here")
        self._must_succeed(MIGRATE, self._job(MIGRATE, migrate))
        self.say("✔ migrations")

    def _job(self, name: str, manifests: str) -> bool:
        self._delete_job(name)
        self._apply(manifests)
        return self._succeeds(name)

    def _delete_job(self, name: str) -> None:
        self._kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")

    def _succeeds(self, name: str) -> bool:
        """Wait until a job has succeeded or failed; `kubectl wait` can wait for only one of the two."""
        until = time.monotonic() + JOB_SECONDS
        while time.monotonic() < until:
            ends = self.runner.must(
                "kubectl", "-n", NAMESPACE, "get", "job", name, "-o", "jsonpath={.status.conditions[*].type}"
            ).split()
            if "Failed" in ends:
                return False
            if "Complete" in ends or self.runner.dry:
                return True
            time.sleep(self.pause)
        raise OpsError(f"{name} did not finish", hint=f"kubectl -n {NAMESPACE} describe job {name}")

    def _must_succeed(self, name: str, succeeded: bool) -> None:
        if not succeeded:
            raise OpsError(
                f"{name} failed; nothing was restarted", hint=f"kubectl -n {NAMESPACE} logs job/{name}"
            )

    def _apply(self, manifests: str) -> None:
        self.runner.must("kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-", given=manifests)

    def _wait(self) -> None:
        for name in ROLLED:
            self._kubectl("rollout", "status", f"deployment/{name}", f"--timeout={TIMEOUT}")
            self.say(f"✔ {name}")

    def _kubectl(self, *arguments: str) -> None:
        self.runner.must("kubectl", "-n", NAMESPACE, *arguments)


def _checking(migrate: str) -> str:
    """The migration job, changed to only check for unapplied migrations."""
    documents = list(yaml.safe_load_all(migrate))
    for job in (doc for doc in documents if doc["kind"] == "Job"):
        job["metadata"]["name"] = CHECK
        job["spec"]["backoffLimit"] = 0
        for container in _containers([job]):
            container["args"] = ["python manage.py migrate --check"]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _containers(documents: list[Any]) -> Iterator[dict[str, Any]]:
    """Every container of every pod template in a manifest."""
    for found in _walk(documents):
        for kind in ("containers", "initContainers"):
            yield from (one for one in found.get(kind) or [] if isinstance(one, dict) and "image" in one)


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(item)
