"""All parts of the suite, started in the order of their dependencies and stopped in reverse."""

import secrets
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from sidecar.prometheus import Prometheus as PrometheusClient
from stack.inbox import Inbox
from stack.paths import ROOT
from stack.ports import HOST
from stack.servers import Alertmanager, ObjectStore, Postgres, Prometheus, Redis, Server, Service
from stack.suite import addresses, environments, monitoring, scratch
from stack.suite.commands import run_command
from stack.suite.control import Control
from stack.suite.supervisor import Supervisor
from stack.web import site

APP = ROOT / "app"
# The queues and the concurrency of production's two workers.
WORKERS = {"worker": ("default,quick,scheduled", 4), "worker-ai": ("ai_jobs,ai_priority", 2)}
Progress = Callable[[str], None]


class Suite:
    """The servers and services in one folder.

    Args:
        folder: gets all state, and one log file per program below ``logs``.
        factor: divides all durations in the configuration of the monitoring.
        usual_ports: prefer the usual ports to random ones.
        on_restart: called with a line when a program ended by itself and was restarted.
    """

    def __init__(
        self,
        folder: Path,
        *,
        factor: float = 1.0,
        usual_ports: bool = False,
        on_restart: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.factor = factor
        self.ports = addresses.choose_all(usual=usual_ports)
        self.inbox = Inbox(self.logs / "inbox.log", port=self.ports["inbox"])
        self.postgres = Postgres(folder / "postgres", port=self.ports["postgres"], log=self._log("postgres"))
        self.redis = Redis(folder / "redis", port=self.ports["redis"], log=self._log("redis"))
        self.store = ObjectStore(folder / "s3", port=self.ports["s3"], log=self._log("s3"))
        self.sources = environments.Sources(
            self.postgres, self.redis, self.store, secret_key=secrets.token_urlsafe(50),
            scratch=scratch.choose(folder),
        )  # fmt: skip
        self.prometheus = Prometheus(
            folder / "prometheus",
            config=folder / "monitoring/prometheus.yml",
            port=self.ports["prometheus"],
            log=self._log("prometheus"),
        )
        self.alertmanager = Alertmanager(
            folder / "alertmanager",
            config=folder / "monitoring/alertmanager.yml",
            port=self.ports["alertmanager"],
            log=self._log("alertmanager"),
        )
        self.api = self._api()
        self.web: Service | None = None
        self.workers = {name: self._worker(name) for name in WORKERS}
        self.beat = self._beat()
        self.exporter = self._exporter()
        self.backup = self._backup()
        self.prom = PrometheusClient(self.prometheus.url)
        self.control = Control(folder / "control")
        self._supervisor = Supervisor(on_restart or (lambda _: None), self.control)

    @property
    def waves(self) -> Sequence[Sequence[Server]]:
        """Groups of servers that start together; each wave needs the ones before it."""
        return (
            (self.postgres, self.redis, self.store),
            (self.exporter, self.alertmanager, self.backup),
            (self.api, self.beat, *self.workers.values()),
            # Last, because rules would fire for parts that are still starting.
            (self.prometheus, *([self.web] if self.web else [])),
        )

    @property
    def servers(self) -> Sequence[Server]:
        """All servers, in the order of their start."""
        return [server for wave in self.waves for server in wave]

    def start(
        self, progress: Progress = lambda _: None, *, after_migrations: Callable[[], None] = lambda: None
    ) -> Self:
        """Start everything. When a part fails, the others are stopped and its OpsError is raised.

        Args:
            progress: called with a line for each part that has started.
            after_migrations: called once the tables exist, while the app's processes start.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        scratch.make(self.sources.scratch)
        try:
            self._start(progress, after_migrations)
        except BaseException:
            self.stop()
            raise
        return self

    def serve_web(self, files: Path) -> None:
        """Serve a build of the web frontend, once there is one."""
        self.web = self._web(files)
        self.web.start()
        self._supervisor.watch(self.web)

    def stop(self) -> None:
        """Stop everything, last started first. May be called at any time, and more than once."""
        self._supervisor.stop()
        for wave in reversed(self.waves):
            with ThreadPoolExecutor(len(wave)) as pool:
                list(pool.map(lambda server: server.stop(), wave))
        self.inbox.stop()
        scratch.clear(self.sources.scratch)

    def crash(self, server: Server) -> None:
        """Kill one part and do not restart it."""
        self._supervisor.release(server)
        server.kill()

    def revive(self, server: Server) -> None:
        """Start a part again after :meth:`crash`."""
        server.start()
        self._supervisor.watch(server)

    def manage(self, *arguments: str) -> str:
        """Run manage.py with the app's environment; returns its output. Raises OpsError when it fails."""
        return run_command(
            [sys.executable, "manage.py", *arguments],
            env=environments.app(self.sources),
            cwd=APP,
            log=self._log("manage"),
        )

    def backup_environment(self) -> dict[str, str]:
        """The environment of one-shot backup commands next to the service."""
        return dict(environments.backup(self.sources, self.folder))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start(self, progress: Progress, after_migrations: Callable[[], None]) -> None:
        self.inbox.start()
        monitoring.write(
            self.folder / "monitoring", self.ports, self.inbox.url, self.factor,
            env=environments.machine(self.sources.scratch),
        )  # fmt: skip
        self.store.bucket(environments.BUCKET)
        self.store.bucket(environments.MEDIA_BUCKET)
        first, second, third, last = self.waves
        self._start_wave(first, progress)
        with ThreadPoolExecutor(1) as pool:
            # Migrations take some seconds of one processor; parts that need no tables start meanwhile.
            migrated = pool.submit(self.manage, "migrate", "--noinput")
            self._start_wave(second, progress)
            migrated.result()
            progress("the database's migrations")
            prepared = pool.submit(after_migrations)
            self._start_wave(third, progress)
            prepared.result()
        self._start_wave(last, progress)
        self.control.write("environment", environments.scripts(self.sources, self.folder, self._urls()))
        self.control.write("app", environments.app(self.sources))
        self._supervisor.start()

    def _urls(self) -> dict[str, str]:
        return {"ALERTMANAGER_URL": self.alertmanager.url, "OPS_HEALTH_URL": f"{self.api.url}/health/"}

    def _start_wave(self, wave: Sequence[Server], progress: Progress) -> None:
        with ThreadPoolExecutor(len(wave)) as pool:
            for server, started in [(server, pool.submit(server.start)) for server in wave]:
                started.result()
                self._supervisor.watch(server)
                progress(f"{server.name} on port {server.port}" if server.url else server.name)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _program(
        self, name: str, arguments: Sequence[str], env: dict[str, str], **options: object
    ) -> Service:
        return Service(
            name, arguments, folder=self.folder / name, env=env, log=self._log(name), **options  # type: ignore[arg-type]
        )  # fmt: skip

    def _app(self, name: str, arguments: Sequence[str], **options: object) -> Service:
        env = dict(environments.app(self.sources))
        if name == "api":
            # The folder for the metrics of all its processes; gunicorn's default would be below /tmp.
            env["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder / name / "metrics")
            env["PROMETHEUS_URL"] = self.prometheus.url
        return self._program(name, [sys.executable, "-m", *arguments], env, cwd=APP, **options)

    def _api(self) -> Service:
        port = self.ports["api"]
        arguments = ["gunicorn", "--bind", f"{HOST}:{port}", "--workers", "2", "config.wsgi:application"]
        return self._app("api", arguments, port=port, ready="/health/")

    def _web(self, files: Path) -> Service:
        return site(
            files,
            api=self.ports["api"],
            port=self.ports["web"],
            folder=self.folder / "web",
            log=self._log("web"),
        )

    def _worker(self, name: str) -> Service:
        queues, concurrency = WORKERS[name]
        arguments = [
            "celery", "-A", "config", "worker", "-l", "INFO", "-Q", queues,
            f"--concurrency={concurrency}", "-n", f"{name}@%h",
        ]  # fmt: skip
        return self._app(name, arguments, ready_text="ready.")

    def _beat(self) -> Service:
        scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        arguments = ["celery", "-A", "config", "beat", "-l", "INFO", "--scheduler", scheduler]
        # Without a pid file, which would stay behind when beat is killed.
        return self._app("beat", [*arguments, "--pidfile="], ready_text="beat: Starting")

    def _exporter(self) -> Service:
        port = self.ports["exporter"]
        arguments = [sys.executable, "-m", "exporters", "serve", "--port", str(port)]
        env = dict(environments.exporter(self.sources))
        return self._program("exporter", arguments, env, port=port, ready="/healthz")

    def _backup(self) -> Service:
        port = self.ports["backup"]
        env = {**self.backup_environment(), "BACKUP_PORT": str(port), "BACKUP_HOST": HOST}
        return self._program(
            "backup", [sys.executable, "-m", "backup", "serve"], env, port=port, ready="/healthz"
        )
