"""The cluster that is deployed to: what kubectl applies and reports, and what is waited for."""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sidecar import OpsError
from stack.deploy.pods import exit_codes, trouble
from stack.deploy.runner import Runner, Say

NAMESPACE = "posthub"
# Longer than the longest job may take by its own activeDeadlineSeconds: a backup's six hours.
JOB_SECONDS = 22_000.0
# Time for an object to become ready: a worker may finish its task first. It is waited for in steps, because a pod that can
# never start ends the wait at once, and so that each step is reported.
READY_SECONDS = 600.0
PIECE = "20s"
# Seconds between two progress lines while a job runs.
SAY_SECONDS = 30.0


@dataclass(frozen=True)
class Cluster:
    """The namespace in the cluster of the current context.

    Args:
        tag: the tag that is deployed. A pod with it that can never start ends the wait at once.
        pause: seconds between two looks.
    """

    runner: Runner
    say: Say
    tag: str
    pause: float

    def apply(self, manifests: str) -> None:
        self.runner.require(
            "kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifests
        )

    def exists(self, kind: str, name: str) -> bool:
        found = self.runner.require(
            "kubectl", "-n", NAMESPACE, "get", kind, name, "--ignore-not-found", "-o", "name"
        )
        return bool(found.strip())

    def of_namespace(self, kind: str, name: str) -> str:
        """A label or an annotation of the namespace; empty without it."""
        escaped = name.replace(".", r"\.")
        path = f"jsonpath={{.metadata.{kind}.{escaped}}}"
        return self.runner.require(
            "kubectl", "get", "namespace", NAMESPACE, "--ignore-not-found", "-o", path
        ).strip()

    def annotate(self, name: str, value: str) -> None:
        """Set an annotation of the namespace."""
        self.runner.require("kubectl", "annotate", "namespace", NAMESPACE, "--overwrite", f"{name}={value}")

    def secret_versions(self) -> dict[str, str]:
        """The version of each secret. Empty for a user who may not list them."""
        form = "jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {end}"
        done = self.runner.query("kubectl", "-n", NAMESPACE, "get", "secrets", "-o", form)
        pairs = (entry.partition("=") for entry in done.output.split()) if done.code == 0 else ()
        return {name: version for name, found, version in pairs if found}

    def revisions(self, names: Collection[str]) -> dict[str, str]:
        """The revision that each of these Deployments is at. Empty in a new cluster."""
        revision = r"{.metadata.annotations.deployment\.kubernetes\.io/revision}"
        form = f"jsonpath={{range .items[*]}}{{.metadata.name}}={revision} {{end}}"
        found = self.runner.require("kubectl", "-n", NAMESPACE, "get", "deployments", "-o", form)
        pairs = (entry.partition("=") for entry in found.split())
        return {name: number for name, _, number in pairs if number and name in names}

    def return_to(self, revisions: Mapping[str, str]) -> None:
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
        self.wait_for_deployments(revisions)

    def run_job(self, name: str, manifests: str) -> bool:
        """Delete a job, run it again, and wait for it; returns whether it succeeded."""
        self._delete_job(name)
        self.apply(manifests)
        return self.succeeds(name)

    def start_job(self, name: str, cronjob: str) -> None:
        """Start a job as the cron job would."""
        self._delete_job(name)
        self._kubectl("create", "job", name, f"--from=cronjob/{cronjob}")

    def _delete_job(self, name: str) -> None:
        self._kubectl("delete", "job", name, "--ignore-not-found", "--wait=true")

    def succeeds(self, name: str) -> bool:
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

    def require_success(self, name: str, succeeded: bool) -> None:
        if not succeeded:
            raise OpsError(
                f"{name} failed; nothing was restarted", hint=f"kubectl -n {NAMESPACE} logs job/{name}"
            )

    def require_verdict(self, job: str) -> None:
        """Only exit code 1 of a check means that there are migrations; anything else is another fault.

        Raises:
            OpsError: the check failed for another reason.
        """
        codes = exit_codes(self._pods_of(job))
        if codes and codes != {1}:
            log = self.runner.query(
                "kubectl", "-n", NAMESPACE, "logs", f"job/{job}", "--tail=5"
            ).output.strip()
            last = " / ".join(log.splitlines()) or "no output"
            raise OpsError(
                f"{job} failed; nothing was changed: {last}",
                hint=f"kubectl -n {NAMESPACE} logs job/{job}",
            )

    def _pods_of(self, job: str) -> str:
        return self.runner.query(
            "kubectl", "-n", NAMESPACE, "get", "pods", "-l", f"job-name={job}", "-o", "json"
        ).output

    def _require_startable(self, pods: str) -> None:
        found = trouble(pods, self.tag)
        if found is not None:
            raise OpsError(str(found), hint=f"kubectl -n {NAMESPACE} describe pod {found.pod}")

    def wait_for_deployments(self, rolled: Collection[str]) -> None:
        """Wait until all of these Deployments are available.

        Raises:
            OpsError: one is not, or its pods cannot start.
        """
        for name in rolled:
            self._wait_for(name)
            self.say(f"✔ {name}")
        # Those that became available first may have failed since.
        for name in rolled:
            self._wait_for(name)

    def _wait_for(self, name: str) -> None:
        self.wait_until(name, "rollout", "status", f"deployment/{name}")

    def wait_until(self, name: str, *command: str) -> None:
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

    def _kubectl(self, *arguments: str) -> None:
        self.runner.require("kubectl", "-n", NAMESPACE, *arguments)
