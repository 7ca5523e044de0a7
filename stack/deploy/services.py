"""The services of the compose project: each is started, or replaced without a moment in which nothing answers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sidecar import OpsError
from stack.deploy.changes import Container, Fingerprints, has_old_files
from stack.deploy.changes import definitions as parse_definitions
from stack.deploy.container_state import ContainerState
from stack.deploy.edge import CADDYFILE, EDGE, NEXT, Edge
from stack.deploy.runner import Runner, Say
from stack.doctor.host import COMPOSE

DATA = ("posthub_postgres_prod", "posthub_redis_prod")
# A changed file among their mounts does not replace them: the database reads its file only at its first start, and Caddy gets
# the new Caddyfile through a reload.
KEPT = (*DATA, EDGE)
RUN_NEXT = ("run", "--detach", "--no-deps")
# Under the service's own name on its networks, next to its container.
SAME_NAME = ("--use-aliases",)
UP = ("up", "--detach", "--no-build", "--no-deps", "--wait", "--wait-timeout")
WAIT_SECONDS = 240
# More time for a container that runs but is unhealthy when compose gives up: on a busy machine, it becomes healthy.
RECOVERY_SECONDS = 120


@dataclass(frozen=True)
class Services:
    """The services with the images of one tag.

    Args:
        images: where the images are, such as ``ghcr.io/posthub``; when empty, ``.env`` decides.
        pause: seconds between two looks at a container.
    """

    root: Path
    runner: Runner
    say: Say
    tag: str
    images: str
    pause: float
    fingerprints: Fingerprints = field(init=False)

    def __post_init__(self) -> None:
        kept = Fingerprints(self.root / ".ops" / "containers.json", dry=self.runner.dry)
        object.__setattr__(self, "fingerprints", kept)

    def up(self, service: str) -> bool:
        """Start a service. Its container is replaced only if the definition differs from the one that it was started with.

        Returns:
            Whether it was replaced.
        """
        definition, container = self.definitions.get(service, {}), self._container(service)
        changed = self.fingerprints.changed(definition, container) or (
            service not in KEPT and has_old_files(definition, container)
        )
        how = "--force-recreate" if changed else "--no-recreate"
        what = service if changed else f"{service}, unchanged"
        try:
            self.step(what, *UP, str(WAIT_SECONDS), how, service)
        except OpsError:
            if self._state(service).has_ended:
                raise
            self._await_health(service, RECOVERY_SECONDS)
            self.say(f"✔ {what}, after a longer wait")
        return changed

    def replace(self, service: str) -> None:
        """Replace a service without a moment in which nothing answers: a second container starts first and stops last."""
        container, second = self._container(service), f"{service}{NEXT}"
        if container is None or not self.fingerprints.changed(self.definitions.get(service, {}), container):
            self.up(service)
            if self._container(second) is not None:
                # An interrupted rollout has left it.
                self._retire(service, second, moved=self.edge.can_move(service))
            return
        edge = self.edge
        # Without Caddy's help, both containers answer to the name of the service.
        movable = edge.can_move(service)
        if movable:
            edge.send_back(service)
        self._remove(second)
        try:
            self.compose(*RUN_NEXT, *(() if movable else SAME_NAME), "--name", second, service)
            self._await_health(second, WAIT_SECONDS)
            if movable:
                edge.send_to_second(service)
                self._drain(edge, service, service)
            self.up(service)
        finally:
            self._retire(service, second, moved=movable)

    def _retire(self, service: str, second: str, *, moved: bool) -> None:
        """Return the requests to the service's own container, and remove the second one."""
        if moved:
            self.edge.send_back(service)
            self._drain(self.edge, service, second)
        self._remove(second)

    def _drain(self, edge: Edge, service: str, container: str) -> None:
        if not edge.drain(service, container):
            self.say(f"! {container} still answers requests, and is stopped")

    def _remove(self, container: str) -> None:
        """Let a container finish its requests, then remove it. An interrupted rollout may have left it."""
        self.runner.run("docker", "stop", container)
        self.runner.run("docker", "rm", "--force", container)

    def _state(self, container: str) -> ContainerState:
        return ContainerState.parse(self.runner.query("docker", "inspect", container).output)

    def _await_health(self, container: str, seconds: float) -> None:
        """Wait until a container is healthy, or runs if it has no health check.

        Raises:
            OpsError: it is not healthy in time, or it ends.
        """
        until = time.monotonic() + seconds
        while not self.runner.dry:
            state = self._state(container)
            if state.is_up:
                return
            if state.has_ended or time.monotonic() > until:
                log = self.runner.query("docker", "logs", "--tail", "5", container)
                last = " / ".join((log.output + log.errors).strip().splitlines()) or "no output"
                raise OpsError(f"{container} is {state}: {last}", hint=f"docker logs {container}")
            time.sleep(self.pause)

    def note(self) -> None:
        """Remember the definitions that the containers were started with."""
        found = [(self._container(name), definition) for name, definition in self.definitions.items()]
        self.fingerprints.note((container, known) for container, known in found if container is not None)

    @cached_property
    def definitions(self) -> dict[str, dict[str, Any]]:
        """Read once: nothing changes them during a rollout."""
        done = self.runner.query(*COMPOSE, "config", "--format", "json", environment=self._environment())
        return parse_definitions(done.output)

    def _container(self, service: str) -> Container | None:
        return Container.parse(self.runner.query("docker", "inspect", service).output)

    @cached_property
    def edge(self) -> Edge:
        path = self.root / CADDYFILE
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return Edge(self.runner, COMPOSE, self.pause, text)

    def step(self, what: str, *arguments: str) -> None:
        """Run a command of compose that must succeed, and report how long it took.

        Raises:
            OpsError: it failed.
        """
        began = time.monotonic()
        self.compose(*arguments)
        self.say(f"✔ {what} ({time.monotonic() - began:.0f} s)")

    def compose(self, *arguments: str) -> None:
        """Run a command of compose that must succeed.

        Raises:
            OpsError: it failed.
        """
        self.runner.require(*COMPOSE, *arguments, environment=self._environment())

    def attempt(self, *arguments: str) -> int:
        """Run a command of compose; returns its exit code."""
        return self.runner.run(*COMPOSE, *arguments, environment=self._environment()).code

    def _environment(self) -> Mapping[str, str]:
        return {"POSTHUB_TAG": self.tag} | ({"POSTHUB_IMAGES": self.images} if self.images else {})
