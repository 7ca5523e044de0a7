"""The VPS: one service after the other gets the new image, and the old one again if anything is wrong."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import requests

from sidecar import OpsError
from stack.deploy.history import History
from stack.deploy.runner import Runner
from stack.http import session

COMPOSE = ("docker", "compose", "-f", "docker-compose.prod.yml")
# In this order: who is asked first, then who works behind it, then who watches.
ROLLING = (
    "posthub_api_prod",
    "posthub_frontend_prod",
    "posthub_celery_worker",
    "posthub_celery_worker_ai",
    "posthub_celery_beat",
    "posthub_flower",
    "posthub_celery_exporter",
    "posthub_backup",
)
WAIT_SECONDS = 240
HEALTH_TRIES = 15

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rollout:
    """One deployment of a tag.

    Args:
        url: health page through the whole edge; empty asks the API's container instead.
        images: where the images are, such as ``ghcr.io/posthub``; empty leaves what ``.env`` says.
    """

    root: Path
    runner: Runner
    say: Say
    tag: str
    url: str = ""
    images: str = ""
    build: bool = False
    pause: float = 2.0
    history: History = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "history", History(self.root, dry=self.runner.dry))

    def deploy(self) -> None:
        """Roll out; on failure the previous tag comes back.

        Raises:
            OpsError: it failed; what runs now is the previous tag.
        """
        previous = self.history.current()
        self._compose("config", "--quiet")
        self._fetch()
        self._data()
        self._save_before_migrating()
        for what, service in (("migrations", "posthub_migrate"), ("roles", "posthub_db_roles")):
            self._step(what, "run", "--rm", "--no-deps", "-T", service)
        try:
            self._roll()
            self._check()
        except OpsError as error:
            self._back(previous, error)
        self.history.add(self.tag, self.images)
        self.say(f"✔ {self.tag} is deployed")

    def _back(self, previous: str | None, error: OpsError) -> None:
        if previous in (None, self.tag):
            raise OpsError(f"{error}; there is no earlier tag to return to", hint="./ops doctor") from None
        self.say(f"✖ {error}\n  returning to {previous}")
        back = Rollout(
            self.root, self.runner, self.say, str(previous), self.url, self.images, pause=self.pause
        )
        back.roll_back()
        raise OpsError(
            f"{self.tag} failed: {error}; {previous} runs again", hint="read the logs of what failed"
        )

    def roll_back(self) -> None:
        """Run this tag again, without migrations: they are written so that the tag before them still runs."""
        self._data()
        self._roll()
        self._check()
        self.history.add(self.tag, self.images)

    def _fetch(self) -> None:
        if self.build:
            self._step("images built", "build")
        else:
            self._step("images pulled", "pull", "--quiet", "posthub_init", *ROLLING)

    def _save_before_migrating(self) -> None:
        """A migration can destroy: what is about to be changed is backed up first."""
        check = (
            "run",
            "--rm",
            "--no-deps",
            "-T",
            "posthub_migrate",
            "python",
            "manage.py",
            "migrate",
            "--check",
        )
        if self._try(*check) == 0:
            return
        if self._try("exec", "-T", "posthub_backup", "true") != 0:
            self.say("! no backup before the migrations: posthub_backup does not run yet")
            return
        command = ("exec", "-T", "posthub_backup", "python", "-m", "backup", "run", "--database", "posthub")
        self._step("backup before the migrations", *command)

    def _data(self) -> None:
        """Secrets, database and Redis; on a first deployment they do not run yet."""
        data = ("posthub_postgres_prod", "posthub_redis_prod")
        self._step("database and Redis", "up", "--detach", "--no-build", "--wait", *data)

    def _roll(self) -> None:
        for service in ROLLING:
            self._step(
                service, "up", "--detach", "--no-build", "--no-deps", "--wait",
                "--wait-timeout", str(WAIT_SECONDS), service,
            )  # fmt: skip
        # What the tag does not concern, but the compose file may have changed: Caddy, monitoring, data.
        self._step(
            "everything else", "up", "--detach", "--no-build", "--wait", "--wait-timeout", str(WAIT_SECONDS)
        )

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
        self.runner.must(*COMPOSE, *arguments, environment=self._environment())

    def _try(self, *arguments: str) -> int:
        return self.runner.run(*COMPOSE, *arguments, environment=self._environment()).code

    def _environment(self) -> Mapping[str, str]:
        return {"POSTHUB_TAG": self.tag} | ({"POSTHUB_IMAGES": self.images} if self.images else {})
