"""The VPS: one service after the other gets the new image; on failure, all get the previous one again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from sidecar import OpsError
from sidecar.http import session
from stack.deploy.changes import Container, Fingerprints, definitions, has_old_files
from stack.deploy.container_state import ContainerState
from stack.deploy.edge import CADDYFILE, EDGE, NEXT, SERVING, Edge
from stack.deploy.history import History
from stack.deploy.runner import Runner

COMPOSE = ("docker", "compose", "-f", "docker-compose.prod.yml")
# In this order: what serves requests, then the workers, then the monitoring.
ROLLING = (
    "posthub_api_prod",
    "posthub_frontend_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_flower",
    "posthub_celery_exporter",
    "posthub_backup",
    # Before cAdvisor, which connects to the engine only when it starts.
    "posthub_docker_proxy",
)
DATA = ("posthub_postgres_prod", "posthub_redis_prod")
# Services that run once and exit. They are run, never started: compose would recreate everything that depends on them.
JOBS = ("posthub_init", "posthub_migrate", "posthub_db_roles", "posthub_alertmanager_config")
# A changed file among their mounts does not replace them: the database reads its file only at its first start, and Caddy gets
# the new Caddyfile through a reload.
KEPT = (*DATA, EDGE)
# They read their mounted configuration again on SIGHUP.
RELOADED = ("posthub_prometheus", "posthub_alertmanager")
RUN = ("run", "--rm", "--no-deps", "-T")
RUN_NEXT = ("run", "--detach", "--no-deps")
# Under the service's own name on its networks, next to its container.
SAME_NAME = ("--use-aliases",)
UP = ("up", "--detach", "--no-build", "--no-deps", "--wait", "--wait-timeout")
WAIT_SECONDS = 240
# More time for a container that runs but is unhealthy when compose gives up: on a busy machine, it becomes healthy.
RECOVERY_SECONDS = 120
HEALTH_TRIES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rollout:
    """One deployment of a tag.

    Args:
        url: health page through the edge; when empty, the API's container is checked instead.
        images: where the images are, such as ``ghcr.io/posthub``; when empty, ``.env`` decides.
        digests: name of an image → the digest that it must have.
    """

    root: Path
    runner: Runner
    say: Say
    tag: str
    url: str = ""
    images: str = ""
    build: bool = False
    pause: float = 2.0
    digests: Mapping[str, str] = field(default_factory=dict)
    history: History = field(init=False)
    fingerprints: Fingerprints = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", History(self.root, dry=self.runner.dry))
        kept = Fingerprints(self.root / ".ops" / "containers.json", dry=self.runner.dry)
        object.__setattr__(self, "fingerprints", kept)

    def deploy(self) -> None:
        """Deploy; on failure, the previous tag is started again.

        Raises:
            OpsError: it failed, and the previous tag runs again.
        """
        before = self._before()
        self._compose("config", "--quiet")
        self._fetch()
        self._require_digests()
        self._prepare()
        self._save_before_migrating(before)
        if before is not None and self.history.empty:
            # It was started by compose alone: a rollback has to return to it.
            self.history.add(*before)
        for what, service in (("migrations", "posthub_migrate"), ("roles", "posthub_db_roles")):
            self._step(what, *RUN, service)
        try:
            self._roll()
            self._check()
        except OpsError as error:
            self._back(before, error)
        self.history.add(self.tag, self.images)
        self.say(f"✔ {self.tag} is deployed")

    def _before(self) -> tuple[str, str] | None:
        """Tag and registry of the running version: as recorded, or read from the API's container if compose alone started it."""
        if tag := self.history.current():
            return tag, self.history.images()
        done = self.runner.query("docker", "inspect", "--format", "{{.Config.Image}}", "posthub_api_prod")
        images, _, tag = done.output.strip().rpartition("/api:") if done.code == 0 else ("", "", "")
        return (tag, images) if tag else None

    def _back(self, before: tuple[str, str] | None, error: OpsError) -> None:
        if before is None or before[0] == self.tag:
            raise OpsError(f"{error}; no earlier tag is known", hint="./ops doctor") from None
        previous, images = before
        self.say(f"✖ {error}\n  returning to {previous}")
        back = Rollout(self.root, self.runner, self.say, previous, self.url, images, pause=self.pause)
        try:
            back.roll_back()
        except OpsError as second:
            raise OpsError(
                f"{self.tag} failed: {error}; {previous} was started again, but: {second}",
                hint="./ops doctor shows what is running and what is not",
            ) from None
        raise OpsError(
            f"{self.tag} failed: {error}; {previous} runs again",
            hint="read the logs of what failed; the checkout still has the new files",
        )

    def roll_back(self) -> None:
        """Run this tag again. Migrations are not undone: they are written so that the previous tag still runs."""
        self._prepare()
        self._roll(back=True)
        self._check()
        self.history.add(self.tag, self.images, back=True)

    def _fetch(self) -> None:
        if self.build:
            self._step("images built", "build")
        else:
            self._step("images pulled", "pull", "--quiet", "posthub_init", "posthub_postgres_prod", *ROLLING)

    def _require_digests(self) -> None:
        """Refuse images other than those that were scanned and attested: a tag can be moved.

        Raises:
            OpsError: another image has the tag; nothing was changed.
        """
        for name, digest in self.digests.items():
            image = next(
                (image for image in self._own_images() if image.rpartition(":")[0].endswith(f"/{name}")), ""
            )
            done = self.runner.query("docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image)
            if not self.runner.dry and f"@{digest}" not in done.output:
                raise OpsError(
                    f"{image or name} is not the image with the digest {digest}; nothing was changed",
                    hint="find out who moved the tag, and deploy the commit again",
                )
        if self.digests:
            self.say(f"✔ digests of {len(self.digests)} images")

    def _own_images(self) -> set[str]:
        return {str(definition.get("image", "")) for definition in self._definitions.values()}

    def _save_before_migrating(self, before: tuple[str, str] | None) -> None:
        """A migration can destroy data, so the database is backed up first.

        Raises:
            OpsError: the backup failed; nothing was migrated.
        """
        if self._try(*RUN, "posthub_migrate", "python", "manage.py", "migrate", "--check") == 0:
            return
        what, backup = "backup before the migrations", ("run", "--database", "posthub")
        if self._try("exec", "-T", "posthub_backup", "true") == 0:
            self._step(what, "exec", "-T", "posthub_backup", "python", "-m", "backup", *backup)
        elif before is not None:
            self._step(what, *RUN, "posthub_backup", *backup)
        else:
            self.say("! no backup before the migrations: no service is running yet")

    def _prepare(self) -> None:
        """Write the secrets; start PostgreSQL and Redis, which stay as they are unless their definition changed."""
        self._step("secrets", *RUN, "posthub_init")
        for service in DATA:
            self._up(service)

    def _roll(self, *, back: bool = False) -> None:
        """Replace one service after the other: our images, then the rest, and Caddy last, by a reload if that is enough."""
        for service in ROLLING:
            if service in SERVING:
                self._replace(service)
            else:
                self._up(service)
        self._step("Alertmanager's configuration", *RUN, "posthub_alertmanager_config")
        for service in self._rest():
            self._up(service)
        if not self._up(EDGE):
            self._load_edge(back=back)
        for service in RELOADED:
            self._try("kill", "--signal", "HUP", service)
        self._note()

    def _rest(self) -> list[str]:
        placed = {*ROLLING, *DATA, *JOBS, EDGE}
        return [service for service in self._definitions if service not in placed]

    def _load_edge(self, *, back: bool) -> None:
        """Give Caddy the checkout's Caddyfile. A rollback continues even if Caddy refuses it, because the checkout has no other."""
        edge = self._edge
        if not edge.caddyfile:
            return
        # If a rollout is interrupted, and the second container removed by hand, requests still go there.
        edge.send_back(*SERVING)
        try:
            edge.load()
        except OpsError as error:
            if not back:
                raise
            self.say(f"! Caddy keeps its earlier configuration: {error}")

    @cached_property
    def _edge(self) -> Edge:
        path = self.root / CADDYFILE
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return Edge(self.runner, COMPOSE, self.pause, text)

    def _up(self, service: str) -> bool:
        """Start a service. Its container is replaced only if the definition differs from the one that it was started with.

        Returns:
            Whether it was replaced.
        """
        definition, container = self._definitions.get(service, {}), self._container(service)
        changed = self.fingerprints.changed(definition, container) or (
            service not in KEPT and has_old_files(definition, container)
        )
        how = "--force-recreate" if changed else "--no-recreate"
        what = service if changed else f"{service}, unchanged"
        try:
            self._step(what, *UP, str(WAIT_SECONDS), how, service)
        except OpsError:
            if self._state(service).has_ended:
                raise
            self._await_health(service, RECOVERY_SECONDS)
            self.say(f"✔ {what}, after a longer wait")
        return changed

    def _replace(self, service: str) -> None:
        """Replace a service without a moment in which nothing answers: a second container starts first and stops last."""
        container, second = self._container(service), f"{service}{NEXT}"
        if container is None or not self.fingerprints.changed(self._definitions.get(service, {}), container):
            self._up(service)
            if self._container(second) is not None:
                # An interrupted rollout has left it.
                self._retire(service, second, moved=self._edge.can_move(service))
            return
        edge = self._edge
        # Without Caddy's help, both containers answer to the name of the service.
        movable = edge.can_move(service)
        if movable:
            edge.send_back(service)
        self._remove(second)
        try:
            self._compose(*RUN_NEXT, *(() if movable else SAME_NAME), "--name", second, service)
            self._await_health(second, WAIT_SECONDS)
            if movable:
                edge.send_to_second(service)
                self._drain(edge, service, service)
            self._up(service)
        finally:
            self._retire(service, second, moved=movable)

    def _retire(self, service: str, second: str, *, moved: bool) -> None:
        """Return the requests to the service's own container, and remove the second one."""
        if moved:
            self._edge.send_back(service)
            self._drain(self._edge, service, second)
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

    def _note(self) -> None:
        found = [(self._container(name), definition) for name, definition in self._definitions.items()]
        self.fingerprints.note((container, known) for container, known in found if container is not None)

    @cached_property
    def _definitions(self) -> dict[str, dict[str, Any]]:
        """Read once: nothing changes them during a rollout."""
        done = self.runner.query(*COMPOSE, "config", "--format", "json", environment=self._environment())
        return definitions(done.output)

    def _container(self, service: str) -> Container | None:
        return Container.parse(self.runner.query("docker", "inspect", service).output)

    def _check(self) -> None:
        for _ in range(HEALTH_TRIES):
            if self._is_healthy():
                self.say("✔ health")
                return
            time.sleep(self.pause)
        raise OpsError(f"{self.url or 'the API'} is not healthy", hint="./ops doctor")

    def _is_healthy(self) -> bool:
        if not self.url:
            probe = ("python", "/srv/health/answers.py", "http://127.0.0.1:8000/health/")
            return self._try("exec", "-T", "posthub_api_prod", *probe) == 0
        if self.runner.dry:
            print("$ GET", self.url)
            return True
        try:
            with session() as client:
                return client.get(self.url, timeout=10).ok
        except requests.RequestException:
            return False

    def _step(self, what: str, *arguments: str) -> None:
        began = time.monotonic()
        self._compose(*arguments)
        self.say(f"✔ {what} ({time.monotonic() - began:.0f} s)")

    def _compose(self, *arguments: str) -> None:
        self.runner.require(*COMPOSE, *arguments, environment=self._environment())

    def _try(self, *arguments: str) -> int:
        return self.runner.run(*COMPOSE, *arguments, environment=self._environment()).code

    def _environment(self) -> Mapping[str, str]:
        return {"POSTHUB_TAG": self.tag} | ({"POSTHUB_IMAGES": self.images} if self.images else {})
