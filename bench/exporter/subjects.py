"""What is measured: this exporter, its peers, and the raw loop; each a process with a count of events."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil
import redis

from bench.exporter.rawloop import KEY
from sidecar.errors import OpsError
from stack.ports import choose

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30
COUNTED = re.compile(
    r"^celery_task_(?:sent|received|started|succeeded)_total(?:\{[^}]*\})? (\S+)$", re.MULTILINE
)

SUBSCRIBED = re.compile(r"^celery_exporter_broker_up\{[^}]*\} 1", re.MULTILINE)


class ScrapeError(HTTPException):
    """A scrape was answered with a status other than 200."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


NOT_ANSWERED = (OSError, HTTPException)


@dataclass
class Subject:
    """One subject; start it, count with it, stop it."""

    name: str
    command: list[str]
    folder: Path
    environ: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=choose)
    broker: str = "redis://127.0.0.1:{broker_port}/0"
    broker_port: int = 0
    process: psutil.Popen | None = None

    def start(self, broker_port: int, log: Path) -> None:
        self.broker_port = broker_port
        words = [
            word.format(
                port=self.port, broker=self.broker.format(broker_port=broker_port), broker_port=broker_port
            )
            for word in self.command
        ]
        with log.open("ab") as out:
            self.process = psutil.Popen(
                words,
                cwd=self.folder,
                env={**os.environ, **self.environ},
                stdout=out,
                stderr=subprocess.STDOUT,
                # A separate session is a separate scheduling group, as a container would be.
                start_new_session=True,
            )
        self._wait(log)

    def stop(self) -> None:
        if self.process is not None and self.process.is_running():
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)

    @property
    def running(self) -> psutil.Popen:
        assert self.process is not None
        return self.process

    def cpu(self) -> float:
        times = self.running.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> float:
        return float(self.running.memory_info().rss) / 1e6

    def scrape(self) -> tuple[float, str]:
        """The duration of a scrape in seconds, requested as Prometheus does, and its text."""
        started = time.perf_counter()
        link = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            link.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
            answer = link.getresponse()
            body = answer.read()
        finally:
            link.close()
        took = time.perf_counter() - started
        if answer.status != HTTPStatus.OK:
            raise ScrapeError(answer.status)
        return took, (
            gzip.decompress(body) if answer.getheader("Content-Encoding") == "gzip" else body
        ).decode()

    def events(self) -> int:
        """Task events counted so far."""
        return int(sum(float(value) for value in COUNTED.findall(self.scrape()[1])))

    def subscribed(self) -> bool:
        with redis.Redis(port=self.broker_port, decode_responses=True) as client:
            return bool(client.pubsub_numpat())

    def _wait(self, log: Path) -> None:
        end = time.monotonic() + START_SECONDS
        while not self.subscribed():
            if time.monotonic() > end or self.running.poll() is not None:
                raise OpsError(f"{self.name} did not subscribe", hint=f"see {log}")
            time.sleep(0.1)
        time.sleep(1.0)


class AmqpSubject(Subject):
    """An exporter of RabbitMQ."""

    def subscribed(self) -> bool:
        try:
            return bool(SUBSCRIBED.search(self.scrape()[1]))
        except NOT_ANSWERED:
            return False


class RawLoop(Subject):
    """The raw loop; its count is in Redis."""

    def events(self) -> int:
        time.sleep(0.5)
        with redis.Redis(port=self.broker_port) as client:
            return int(client.get(KEY) or 0)


def ours(**environ: str) -> Subject:
    """This checkout's exporter."""
    command = [sys.executable, "-m", "exporters", "serve", "--broker-url", "{broker}", "--host", "127.0.0.1"]
    return Subject("posthub-ops", [*command, "--port", "{port}", "--log-level", "WARNING"], ROOT, environ)


def today(folder: str, **environ: str) -> Subject:
    """The exporter of another checkout of this project, run with its own .venv if it has one.

    Raises:
        OpsError: the folder is not a checkout.
    """
    path = Path(folder).expanduser().resolve()
    if not (path / "exporters" / "__main__.py").is_file():
        raise OpsError(f"--today {folder} is not a checkout of this project", hint="give its root folder")
    python = path / ".venv" / "bin" / "python"
    subject = ours(**environ)
    command = [str(python) if python.exists() else sys.executable, *subject.command[1:]]
    return Subject("today", command, path, environ)


def on_rabbitmq(subject: Subject) -> Subject:
    """The same exporter on RabbitMQ."""
    return AmqpSubject(
        subject.name,
        subject.command,
        subject.folder,
        subject.environ,
        broker="amqp://guest:guest@127.0.0.1:{broker_port}//",
    )


def raw_loop() -> Subject:
    return RawLoop("raw loop", [sys.executable, "-m", "bench.exporter.rawloop", "{broker_port}"], ROOT)


def peer(text: str) -> Subject:
    """A peer from ``celery-exporter=FOLDER``; run with the Python of FOLDER/.venv if there is one.

    Raises:
        OpsError: the peer is unknown, or its folder is.
    """
    name, _, folder = text.partition("=")
    path = Path(folder).expanduser().resolve()
    if name != "celery-exporter" or not (path / "cli.py").is_file():
        raise OpsError(
            f"peer {text!r} cannot be run",
            hint="--peer celery-exporter=FOLDER, a checkout with its .venv inside",
        )
    python = path / ".venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, "cli.py", "--broker-url", "{broker}"]
    return Subject(name, [*command, "--host", "127.0.0.1", "--port", "{port}", "--retry-interval", "1"], path)
