"""All parts of the suite, started in the order of their dependencies and stopped in reverse."""

import secrets
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from sidecar.prometheus import Prometheus as PrometheusClient
from stack.inbox import Inbox
from stack.ports import HOST
from stack.servers import Alertmanager, ObjectStore, Postgres, Prometheus, Redis, Server, Service
from stack.suite import addresses, environments, monitoring, scratch
from stack.suite.commands import run_command
from stack.suite.control import Control
from stack.suite.services import APP, WORKERS, Services
from stack.suite.supervisor import Supervisor

Progress = Callable[[str], None]


class Suite:
    """The servers and services in one folder.

    Args:
        folder: gets all state, and one log file per program below ``logs``.
        factor: divides all durations in the configuration of the monitoring.
        usual_ports: prefer the usual ports to random ones.
        on_restart: called with a line when a program died and was restarted.
        rules_left_out: files of alert rules that Prometheus does not load, by name without the suffix.
    """

    def __init__(
        self,
        folder: Path,
        *,
        factor: float = 1.0,
        usual_ports: bool = False,
        on_restart: Progress | None = None,
        rules_left_out: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self.factor = factor
        self._rules_left_out = rules_left_out
        self.ports = addresses.choose_all(usual=usual_ports)
        self.inbox = Inbox(self.logs / "inbox.log", port=self.ports["inbox"])
        self.postgres = Postgres(
            folder / "postgres",
            port=self.ports["postgres"],
            log=self._log("postgres"),
            # Without a limit to what the server keeps, the WAL is not streamed.
            options={"max_slot_wal_keep_size": "1GB"},
        )
        self.redis = Redis(folder / "redis", port=self.ports["redis"], log=self._log("redis"))
        self.store = ObjectStore(folder / "s3", port=self.ports["s3"], log=self._log("s3"))
        self.sources = environments.Sources(
            self.postgres,
            self.redis,
            self.store,
            secret_key=secrets.token_urlsafe(50),
            scratch=scratch.choose(folder),
            stripe=f"http://{HOST}:{self.ports['stripe']}",
            frontend=f"http://{HOST}:{self.ports['web']}",
        )
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
        self._services = services = Services(folder, self.logs, self.ports, self.sources, self.prometheus.url)
        self.api = services.api()
        self.stripe = services.stripe()
        self.web: Service | None = None
        self.wal: Service | None = None
        self.workers = {name: services.worker(name) for name in WORKERS}
        self.beat = services.beat()
        self.exporter = services.exporter()
        self.backup = services.backup()
        self.prom = PrometheusClient(self.prometheus.url)
        self.control = Control(folder / "control")
        self._supervisor = Supervisor(on_restart or (lambda _: None), self.control)

    @property
    def waves(self) -> Sequence[Sequence[Server]]:
        """Groups of servers that start together; each wave needs the ones before it."""
        return (
            (self.postgres, self.redis, self.store),
            (self.exporter, self.alertmanager, self.backup, self.stripe),
            (self.api, self.beat, *self.workers.values()),
            # Last, because rules would fire for parts that are still starting.
            (self.prometheus, *(part for part in (self.web, self.wal) if part)),
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
        self.web = self._services.web(files)
        self.web.start()
        self._supervisor.watch(self.web)

    def stream_wal(self) -> None:
        """Stream the WAL into the store from now on."""
        self.wal = self._services.wal()
        self.wal.start()
        self._supervisor.watch(self.wal)

    def stop(self) -> None:
        """Stop everything, last started first. May be called at any time, and more than once."""
        self._supervisor.stop()
        for wave in reversed(self.waves):
            with ThreadPoolExecutor(len(wave)) as pool:
                list(pool.map(lambda server: server.stop(), wave))
        self.inbox.stop()
        scratch.clear(self.sources.scratch)

    def is_up(self, server: Server | None) -> bool:
        """Whether a server has started."""
        return server is not None and self._supervisor.watches(server)

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

    def recovery_environment(self) -> dict[str, str]:
        """The environment of one-shot commands of point-in-time recovery."""
        return dict(environments.recovery(self.sources, self.folder))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start(self, progress: Progress, after_migrations: Callable[[], None]) -> None:
        self.inbox.start()
        self.store.bucket(environments.BUCKET)
        self.store.bucket(environments.MEDIA_BUCKET)
        first, second, third, last = self.waves
        with ThreadPoolExecutor(1) as pool:
            # Both take some seconds of one processor; parts that need neither start meanwhile.
            written = pool.submit(self._write_monitoring)
            self._start_wave(first, progress)
            migrated = pool.submit(self.manage, "migrate", "--noinput")
            written.result()
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

    def _write_monitoring(self) -> None:
        monitoring.write(
            self.folder / "monitoring",
            self.ports,
            self.inbox.url,
            self.factor,
            env=environments.machine(self.sources.scratch),
            rules_left_out=self._rules_left_out,
        )

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
