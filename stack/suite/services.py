"""Our own programs as servers of the suite, each with its command and its environment."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.paths import ROOT
from stack.ports import HOST
from stack.servers import Service
from stack.suite import environments
from stack.web import site

APP = ROOT / "app"
# The queues and the concurrency of production's two workers.
WORKERS = {"worker": ("default,quick,scheduled", 4), "worker-ai": ("ai_jobs,ai_priority", 2)}


class Services:
    """Makes the services of one suite.

    Args:
        folder: the suite's folder; each service has its own folder in it.
        logs: the folder of the log files.
        ports: by the name of the part.
        sources: the servers that they use.
        prometheus: the address of Prometheus.
    """

    def __init__(
        self,
        folder: Path,
        logs: Path,
        ports: Mapping[str, int],
        sources: environments.Sources,
        prometheus: str,
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._ports = ports
        self._sources = sources
        self._prometheus = prometheus

    def api(self) -> Service:
        """The app's API."""
        port = self._ports["api"]
        arguments = ["gunicorn", "--bind", f"{HOST}:{port}", "--workers", "2", "config.wsgi:application"]
        return self._app("api", arguments, port=port, ready="/health/")

    def web(self, files: Path) -> Service:
        """The web server of a build of the frontend, with the API behind it."""
        return site(
            files,
            api=self._ports["api"],
            port=self._ports["web"],
            folder=self._folder / "web",
            log=self._logs / "web.log",
        )

    def worker(self, name: str) -> Service:
        """One of :data:`WORKERS`."""
        queues, concurrency = WORKERS[name]
        arguments = [
            "celery",
            "-A",
            "config",
            "worker",
            "-l",
            "INFO",
            "-Q",
            queues,
            f"--concurrency={concurrency}",
            "-n",
            f"{name}@%h",
        ]
        return self._app(name, arguments, ready_text="ready.")

    def beat(self) -> Service:
        """Celery beat."""
        scheduler = "django_celery_beat.schedulers:DatabaseScheduler"
        arguments = ["celery", "-A", "config", "beat", "-l", "INFO", "--scheduler", scheduler]
        # Without a pid file, which would remain after beat is killed.
        return self._app("beat", [*arguments, "--pidfile="], ready_text="beat: Starting")

    def stripe(self) -> Service:
        """The stand-in for Stripe, which sends its events to the API."""
        port = self._ports["stripe"]
        arguments = [
            *(sys.executable, "-m", "stack.standins.stripe", "--port", str(port)),
            *("--webhook", f"http://{HOST}:{self._ports['api']}/api/v1/billing/webhook/"),
        ]
        env = environments.machine(self._sources.scratch)
        return self._program("stripe", arguments, env, port=port, ready="/")

    def exporter(self) -> Service:
        """The Celery exporter."""
        port = self._ports["exporter"]
        arguments = [sys.executable, "-m", "exporters", "serve", "--port", str(port)]
        env = dict(environments.exporter(self._sources))
        return self._program("exporter", arguments, env, port=port, ready="/healthz")

    def backup(self) -> Service:
        """The backup sidecar."""
        port = self._ports["backup"]
        env = {
            **environments.backup(self._sources, self._folder),
            "BACKUP_PORT": str(port),
            "BACKUP_HOST": HOST,
        }
        return self._program(
            "backup", [sys.executable, "-m", "backup", "serve"], env, port=port, ready="/healthz"
        )

    def wal(self) -> Service:
        """The stream of the server's WAL into the store."""
        port = self._ports["wal"]
        env = {
            **environments.recovery(self._sources, self._folder),
            "BACKUP_WAL_PORT": str(port),
            "BACKUP_HOST": HOST,
        }
        return self._program(
            "wal", [sys.executable, "-m", "backup", "wal", "serve"], env, port=port, ready="/readyz"
        )

    def _app(self, name: str, arguments: Sequence[str], **options: object) -> Service:
        env = dict(environments.app(self._sources))
        if name == "api":
            # The folder for the metrics of all its processes; gunicorn's default would be below /tmp.
            env["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder / name / "metrics")
            env["PROMETHEUS_URL"] = self._prometheus
        return self._program(name, [sys.executable, "-m", *arguments], env, cwd=APP, **options)

    def _program(
        self, name: str, arguments: Sequence[str], env: dict[str, str], **options: object
    ) -> Service:
        return Service(
            name,
            arguments,
            folder=self._folder / name,
            env=env,
            log=self._logs / f"{name}.log",
            **options,  # type: ignore[arg-type]  # passed through as they are
        )
