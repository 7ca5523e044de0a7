"""Kubernetes: deploy the data tier, run migrations, deploy everything else; roll back what does not become ready."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sidecar import OpsError
from stack.deploy.cluster import NAMESPACE, Cluster
from stack.deploy.release import Release, check_job, without
from stack.deploy.runner import Runner, Say

ROLLED = (
    "posthub-api",
    "posthub-frontend",
    "posthub-celery-worker",
    "posthub-celery-worker-ai",
    "posthub-celery-beat",
    "posthub-flower",
    "posthub-celery-exporter",
    "posthub-backup",
    "posthub-alert-watch",
)
# Deployments of components that an overlay may include.
OPTIONAL = ("posthub-backup-wal",)
# Applied first, because the rest needs it: namespace, settings, permissions and the servers with data.
FIRST = (
    "Namespace",
    "PriorityClass",
    "ServiceAccount",
    "ExternalSecret",
    "ConfigMap",
    "NetworkPolicy",
    "Service",
    "ObjectStore",
    "Cluster",
    "StatefulSet",
)
# Applied when everything else is ready: a failed rollout must not leave its image in the nightly backup job.
LAST = ("CronJob",)
MIGRATE = "posthub-migrate"
CHECK = "posthub-migrate-check"
BACKUP = "posthub-backup-before-migrations"
OVERLAY = "posthub.work/overlay"
# The tags that were deployed successfully, the newest last, and how many of them the namespace remembers.
DEPLOYED = "posthub.work/deployed"
MAX_TAGS = 10


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

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self.runner, self.say, self.tag, self.pause)

    def deploy(self) -> None:
        """Deploy; on failure, every changed Deployment goes back to its previous revision.

        Raises:
            OpsError: it failed.
        """
        self._require_own_cluster()
        manifests = self.render(f"k8s/overlays/{self.overlay}")
        migrate = self.render("k8s/migrate")
        before = self._deployed()
        self._data(manifests)
        self._migrate(migrate)
        revisions = self._cluster.revisions((*ROLLED, *OPTIONAL))
        documents = list(yaml.safe_load_all(manifests))
        try:
            self._cluster.apply(yaml.safe_dump_all(without(LAST, documents), sort_keys=False))
            self._cluster.wait_for_deployments(self._rolled())
        except OpsError as error:
            self._back(error, revisions)
        self._apply_last(documents)
        self._remember([tag for tag in before if tag != self.tag] + [self.tag])
        self.say(f"✔ {self.tag} is deployed")

    def _require_own_cluster(self) -> None:
        """Staging applied over production would publish production's posts."""
        found = self._cluster.of_namespace("labels", OVERLAY)
        if found not in ("", self.overlay):
            raise OpsError(
                f"this cluster runs the overlay {found}, not {self.overlay}",
                hint="kubectl config use-context …; each overlay has its own cluster",
            )

    def _back(self, error: OpsError, revisions: Mapping[str, str]) -> None:
        hint = f"kubectl -n {NAMESPACE} get events"
        if not revisions:
            raise OpsError(f"{error}; nothing ran here before", hint=hint) from None
        try:
            self._cluster.return_to(revisions)
        except OpsError as second:
            raise OpsError(f"{error}; the rollback failed too: {second}", hint=hint) from None
        raise OpsError(f"{error}; the previous revision is running again", hint=hint) from None

    def undo(self) -> None:
        """Run the tag that was deployed before the current one. A failed deployment is never recorded.

        Raises:
            OpsError: no earlier tag is known, or it is not ready either.
        """
        self._require_own_cluster()
        known = ["EARLIER", "CURRENT"] if self.runner.dry else self._deployed()
        if len(known) < 2:
            raise OpsError(
                "no earlier deployment is known in this cluster",
                hint="./ops deploy kubernetes --tag TAG deploys any tag",
            )
        earlier = replace(self, tag=known[-2], digests={})
        self.say(f"returning from {known[-1]} to {earlier.tag}")
        manifests = list(yaml.safe_load_all(earlier.render(f"k8s/overlays/{self.overlay}")))
        wanted = [doc for doc in manifests if doc["kind"] in ("Deployment", "ConfigMap")]
        earlier._cluster.apply(yaml.safe_dump_all(wanted, sort_keys=False))
        earlier._cluster.wait_for_deployments(self._rolled())
        earlier._apply_last(manifests)
        self._remember(known[:-1])
        self.say(f"✔ {earlier.tag} is running again")

    def _deployed(self) -> list[str]:
        """The tags that were deployed here, the current one last; for an older cluster, the one that the API runs."""
        found = self._cluster.of_namespace("annotations", DEPLOYED).split()
        if found:
            return found
        image = self.runner.require(
            "kubectl",
            "-n",
            NAMESPACE,
            "get",
            "deployment",
            "posthub-api",
            "--ignore-not-found",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].image}",
        ).strip()
        tag = image.partition("@")[0].rpartition(":")[2]
        return [tag] if tag and "/" not in tag else []

    def _remember(self, tags: list[str]) -> None:
        self._cluster.annotate(DEPLOYED, " ".join(tags[-MAX_TAGS:]))

    def render(self, folder: str) -> str:
        """The manifests with this tag's images."""
        text = self.runner.require_query("kubectl", "kustomize", folder)
        release = Release(self.tag, self.registry, self.digests)
        return release.manifests(text, self._cluster.secret_versions())

    def _data(self, manifests: str) -> None:
        """Apply what the migrations need; a new cluster has nothing yet."""
        first = [doc for doc in yaml.safe_load_all(manifests) if doc["kind"] in FIRST]
        self._cluster.apply(yaml.safe_dump_all(first, sort_keys=False))
        for doc in first:
            name = doc["metadata"]["name"]
            if doc["kind"] == "Cluster":
                self._cluster.wait_until(
                    name, "wait", "--for=condition=Ready", f"clusters.postgresql.cnpg.io/{name}"
                )
            elif doc["kind"] == "StatefulSet":
                self._cluster.wait_until(name, "rollout", "status", f"statefulset/{name}")
        self.say("✔ database and Redis")

    def _migrate(self, migrate: str) -> None:
        """A migration can destroy data, so the database is backed up first.

        Raises:
            OpsError: a job failed; nothing was restarted.
        """
        if self._cluster.run_job(CHECK, check_job(migrate, CHECK)) and not self.runner.dry:
            return
        if not self.runner.dry:
            self._cluster.require_verdict(CHECK)
        if self._cluster.exists("cronjob", "posthub-backup") or self.runner.dry:
            self._cluster.start_job(BACKUP, "posthub-backup")
            self._cluster.require_success(BACKUP, self._cluster.succeeds(BACKUP))
            self.say("✔ backup before the migrations")
        else:
            self.say("! no backup before the migrations: this is the first deployment here")
        self._cluster.require_success(MIGRATE, self._cluster.run_job(MIGRATE, migrate))
        self.say("✔ migrations")

    def _apply_last(self, documents: Iterable[Any]) -> None:
        last = [doc for doc in documents if doc["kind"] in LAST]
        if last:
            self._cluster.apply(yaml.safe_dump_all(last, sort_keys=False))

    def _rolled(self) -> list[str]:
        """Our Deployments in this cluster."""
        return [*ROLLED, *(name for name in OPTIONAL if self._cluster.exists("deployment", name))]
