"""The VPS: one service after the other gets the new image; on failure, all get the previous one again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import requests

from sidecar import OpsError
from sidecar.http import session
from stack.deploy.edge import EDGE, SERVING
from stack.deploy.history import History
from stack.deploy.runner import Runner, Say
from stack.deploy.services import DATA, Services

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
# Services that run once and exit. They are run, never started: compose would recreate everything that depends on them.
JOBS = ("posthub_init", "posthub_migrate", "posthub_db_roles", "posthub_alertmanager_config")
# They read their mounted configuration again on SIGHUP.
RELOADED = ("posthub_prometheus", "posthub_alertmanager")
RUN = ("run", "--rm", "--no-deps", "-T")
HEALTH_TRIES = 15


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", History(self.root, dry=self.runner.dry))

    @cached_property
    def _services(self) -> Services:
        return Services(self.root, self.runner, self.say, self.tag, self.images, self.pause)

    def deploy(self) -> None:
        """Deploy; on failure, the previous tag is started again.

        Raises:
            OpsError: it failed, and the previous tag is running again.
        """
        before = self._before()
        self._services.compose("config", "--quiet")
        self._fetch()
        self._require_digests()
        self._prepare()
        self._save_before_migrating(before)
        if before is not None and self.history.empty:
            # It was started by compose alone: a rollback has to return to it.
            self.history.add(*before)
        for what, service in (("migrations", "posthub_migrate"), ("roles", "posthub_db_roles")):
            self._services.step(what, *RUN, service)
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
            f"{self.tag} failed: {error}; {previous} is running again",
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
            self._services.step("images built", "build")
        else:
            self._services.step(
                "images pulled", "pull", "--quiet", "posthub_init", "posthub_postgres_prod", *ROLLING
            )

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
        return {str(definition.get("image", "")) for definition in self._services.definitions.values()}

    def _save_before_migrating(self, before: tuple[str, str] | None) -> None:
        """A migration can destroy data, so the database is backed up first.

        Raises:
            OpsError: the backup failed; nothing was migrated.
        """
        if self._services.attempt(*RUN, "posthub_migrate", "python", "manage.py", "migrate", "--check") == 0:
            return
        what, backup = "backup before the migrations", ("run", "--database", "posthub")
        if self._services.attempt("exec", "-T", "posthub_backup", "true") == 0:
            self._services.step(what, "exec", "-T", "posthub_backup", "python", "-m", "backup", *backup)
        elif before is not None:
            self._services.step(what, *RUN, "posthub_backup", *backup)
        else:
            self.say("! no backup before the migrations: no service is running yet")

    def _prepare(self) -> None:
        """Write the secrets; start PostgreSQL and Redis, which stay as they are unless their definition changed."""
        self._services.step("secrets", *RUN, "posthub_init")
        for service in DATA:
            self._services.up(service)

    def _roll(self, *, back: bool = False) -> None:
        """Replace one service after the other: our images, then the rest, and Caddy last, by a reload if that is enough."""
        for service in ROLLING:
            if service in SERVING:
                self._services.replace(service)
            else:
                self._services.up(service)
        self._services.step("Alertmanager's configuration", *RUN, "posthub_alertmanager_config")
        for service in self._rest():
            self._services.up(service)
        if not self._services.up(EDGE):
            self._load_edge(back=back)
        for service in RELOADED:
            self._services.attempt("kill", "--signal", "HUP", service)
        self._services.note()

    def _rest(self) -> list[str]:
        placed = {*ROLLING, *DATA, *JOBS, EDGE}
        return [service for service in self._services.definitions if service not in placed]

    def _load_edge(self, *, back: bool) -> None:
        """Give Caddy the checkout's Caddyfile. A rollback continues even if Caddy refuses it, because the checkout has no other."""
        edge = self._services.edge
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
            return self._services.attempt("exec", "-T", "posthub_api_prod", *probe) == 0
        if self.runner.dry:
            print("$ GET", self.url)
            return True
        try:
            with session() as client:
                return client.get(self.url, timeout=10).ok
        except requests.RequestException:
            return False
