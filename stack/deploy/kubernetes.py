"""Kubernetes: deploy the data tier, run migrations, deploy everything else; roll back what does not become ready."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from sidecar import OpsError
from stack.deploy.pods import exit_codes, trouble
from stack.deploy.runner import Runner
from stack.deploy.settings_copies import note_secrets, with_copies

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
# Longer than the longest job may take by its own activeDeadlineSeconds: a backup's six hours.
JOB_SECONDS = 22_000.0
# Time for an object to become ready: a worker may finish its task first. It is waited for in steps, because a pod that can
# never start ends the wait at once, and so that each step is reported.
READY_SECONDS = 600.0
PIECE = "20s"
# Seconds between two progress lines while a job runs.
SAY_SECONDS = 30.0

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
        before = self._deployed()
        self._data(manifests)
        self._migrate(migrate)
        revisions = self._revisions()
        documents = list(yaml.safe_load_all(manifests))
        try:
            self._apply(yaml.safe_dump_all(_without(LAST, documents), sort_keys=False))
            self._wait(self._rolled())
        except OpsError as error:
            self._back(error, revisions)
        self._apply_last(documents)
        self._remember([tag for tag in before if tag != self.tag] + [self.tag])
        self.say(f"✔ {self.tag} is deployed")

    def _require_own_cluster(self) -> None:
        """Staging applied over production would publish production's posts."""
        found = self._of_namespace("labels", OVERLAY)
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
            self._return_to(revisions)
        except OpsError as second:
            raise OpsError(f"{error}; the rollback failed too: {second}", hint=hint) from None
        raise OpsError(f"{error}; the previous revision runs again", hint=hint) from None

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
        earlier._apply(yaml.safe_dump_all(wanted, sort_keys=False))
        earlier._wait(self._rolled())
        earlier._apply_last(manifests)
        self._remember(known[:-1])
        self.say(f"✔ {earlier.tag} runs again")

    def _of_namespace(self, kind: str, name: str) -> str:
        """A label or an annotation of the namespace; empty without it."""
        escaped = name.replace(".", r"\.")
        path = f"jsonpath={{.metadata.{kind}.{escaped}}}"
        return self.runner.require(
            "kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", path
        ).strip()

    def _deployed(self) -> list[str]:
        """The tags that were deployed here, the current one last; for an older cluster, the one that the API runs."""
        found = self._of_namespace("annotations", DEPLOYED).split()
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
        value = f"{DEPLOYED}={' '.join(tags[-MAX_TAGS:])}"
        self.runner.require("kubectl", "annotate", "namespace", NAMESPACE, "--overwrite", value)

    def _revisions(self) -> dict[str, str]:
        """The revision that each of our Deployments is at. Empty in a new cluster."""
        revision = r"{.metadata.annotations.deployment\.kubernetes\.io/revision}"
        form = f"jsonpath={{range .items[*]}}{{.metadata.name}}={revision} {{end}}"
        found = self.runner.require("kubectl", "-n", NAMESPACE, "get", "deployments", "-o", form)
        pairs = (entry.partition("=") for entry in found.split())
        return {name: number for name, _, number in pairs if number and name in (*ROLLED, *OPTIONAL)}

    def _return_to(self, revisions: Mapping[str, str]) -> None:
        """Bring every Deployment back to its revision, with the settings that it had; unchanged ones stay as they are.

        Raises:
            OpsError: one could not be brought back, or is not ready. The others were brought back.
        """
        refused = []
        for name, number in revisions.items():
            undo = ("rollout", "undo", f"deployment/{name}", f"--to-revision={number}")
            if self.runner.run("kubectl", "-n", NAMESPACE, *undo).code != 0:
                refused.append(name)
        if refused:
            raise OpsError(
                f"still at the new revision: {', '.join(refused)}",
                hint=f"kubectl -n {NAMESPACE} rollout history deployment/{refused[0]}",
            )
        self._wait(revisions)

    def render(self, folder: str) -> str:
        """The manifests with this tag's images."""
        documents = list(yaml.safe_load_all(self.runner.require_query("kubectl", "kustomize", folder)))
        for container in _containers(documents):
            container["image"] = self._image(container["image"])
        documents = with_copies(documents)
        note_secrets(documents, self._secret_versions())
        return yaml.safe_dump_all(documents, sort_keys=False)

    def _secret_versions(self) -> dict[str, str]:
        """The version of each secret. Empty for a user who may not list them."""
        form = "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}"
        done = self.runner.query("kubectl", "-n", NAMESPACE, "get", "secrets", "-o", form)
        pairs = (entry.partition("=") for entry in done.output.split()) if done.code == 0 else ()
        return {name: version for name, found, version in pairs if found}

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
                self._await(name, "wait", "--for=condition=Ready", f"clusters.postgresql.cnpg.io/{name}")
            elif doc["kind"] == "StatefulSet":
                self._await(name, "rollout", "status", f"statefulset/{name}")
        self.say("✔ database and Redis")

    def _migrate(self, migrate: str) -> None:
        """A migration can destroy data, so the database is backed up first.

        Raises:
            OpsError: a job failed; nothing was restarted.
        """
        if self._job(CHECK, _check_job(migrate)) and not self.runner.dry:
            return
        if not self.runner.dry:
            self._require_verdict()
        if self._exists("cronjob", "posthub-backup") or self.runner.dry:
            self._delete_job(BACKUP)
            self._kubectl("create", "job", BACKUP, "--from=cronjob/posthub-backup")
            self._must_succeed(BACKUP, self._succeeds(BACKUP))
            self.say("✔ backup before the migrations")
        else:
            self.say("! no backup before the migrations: this is the first deployment here")
        self._must_succeed(MIGRATE, self._job(MIGRATE, migrate))
        self.say("✔ migrations")

    def _require_verdict(self) -> None:
        """Only exit code 1 of the check means that there are migrations; anything else is another fault.

        Raises:
            OpsError: the check failed for another reason.
        """
        codes = exit_codes(self._pods_of(CHECK))
        if codes and codes != {1}:
            log = self.runner.query(
                "kubectl", "-n", NAMESPACE, "logs", f"job/{CHECK}", "--tail=5"
            ).output.strip()
            last = " / ".join(log.splitlines()) or "no output"
            raise OpsError(
                f"{CHECK} failed; nothing was changed: {last}",
                hint=f"kubectl -n {NAMESPACE} logs job/{CHECK}",
            )

    def _pods_of(self, job: str) -> str:
        return self.runner.query(
            "kubectl", "-n", NAMESPACE, "get", "pods", "-l", f"job-name={job}", "-o", "json"
        ).output

    def _require_startable(self, pods: str) -> None:
        found = trouble(pods, self.tag)
        if found is not None:
            raise OpsError(str(found), hint=f"kubectl -n {NAMESPACE} describe pod {found.pod}")

    def _job(self, name: str, manifests: str) -> bool:
        self._delete_job(name)
        self._apply(manifests)
        return self._succeeds(name)

    def _delete_job(self, name: str) -> None:
        self._kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")

    def _succeeds(self, name: str) -> bool:
        """Wait until a job has succeeded or failed; `kubectl wait` can wait for only one of the two."""
        began = reported = time.monotonic()
        while time.monotonic() < began + JOB_SECONDS:
            ends = self.runner.require(
                "kubectl", "-n", NAMESPACE, "get", "job", name, "-o", "jsonpath={.status.conditions[*].type}"
            ).split()
            if "Failed" in ends:
                return False
            if "Complete" in ends or self.runner.dry:
                return True
            self._require_startable(self._pods_of(name))
            if time.monotonic() - reported >= SAY_SECONDS:
                reported = time.monotonic()
                self.say(f"… {name} has been running for {reported - began:.0f} s")
            time.sleep(self.pause)
        raise OpsError(f"{name} did not finish", hint=f"kubectl -n {NAMESPACE} describe job {name}")

    def _must_succeed(self, name: str, succeeded: bool) -> None:
        if not succeeded:
            raise OpsError(
                f"{name} failed; nothing was restarted", hint=f"kubectl -n {NAMESPACE} logs job/{name}"
            )

    def _apply(self, manifests: str) -> None:
        self.runner.require(
            "kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests
        )

    def _apply_last(self, documents: Iterable[Any]) -> None:
        last = [doc for doc in documents if doc["kind"] in LAST]
        if last:
            self._apply(yaml.safe_dump_all(last, sort_keys=False))

    def _wait(self, rolled: Collection[str]) -> None:
        for name in rolled:
            self._wait_for(name)
            self.say(f"✔ {name}")
        # Those that became available first may have failed since.
        for name in rolled:
            self._wait_for(name)

    def _wait_for(self, name: str) -> None:
        """Wait until a Deployment is available.

        Raises:
            OpsError: it is not, or its pods cannot start.
        """
        self._await(name, "rollout", "status", f"deployment/{name}")

    def _await(self, name: str, *command: str) -> None:
        """Wait until a command of kubectl reports that an object is ready, but not for a pod of ours that can never start.

        Raises:
            OpsError: it is not, or such a pod is there.
        """
        until = time.monotonic() + READY_SECONDS
        while self.runner.run("kubectl", "-n", NAMESPACE, *command, f"--timeout={PIECE}").code != 0:
            self._require_startable(
                self.runner.query("kubectl", "-n", NAMESPACE, "get", "pods", "-o", "json").output
            )
            if time.monotonic() >= until:
                raise OpsError(
                    f"{name} was not ready within {READY_SECONDS:.0f} s",
                    hint=f"kubectl -n {NAMESPACE} get pods",
                )
            self.say(f"… waiting for {name}")
            time.sleep(self.pause)

    def _rolled(self) -> list[str]:
        """Our Deployments in this cluster."""
        return [*ROLLED, *(name for name in OPTIONAL if self._exists("deployment", name))]

    def _exists(self, kind: str, name: str) -> bool:
        found = self.runner.require(
            "kubectl", "-n", NAMESPACE, "get", kind, name, "--ignore-not-found", "-o", "name"
        )
        return bool(found.strip())

    def _kubectl(self, *arguments: str) -> None:
        self.runner.require("kubectl", "-n", NAMESPACE, *arguments)


def _check_job(migrate: str) -> str:
    """The migration job, changed to only check for unapplied migrations."""
    documents = list(yaml.safe_load_all(migrate))
    for job in (doc for doc in documents if doc["kind"] == "Job"):
        job["metadata"]["name"] = CHECK
        job["spec"]["backoffLimit"] = 0
        for container in _containers([job]):
            container["args"] = ["python manage.py migrate --check"]
    return yaml.safe_dump_all(documents, sort_keys=False)


def _without(kinds: Collection[str], documents: Iterable[Any]) -> list[Any]:
    return [doc for doc in documents if doc["kind"] not in kinds]


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
