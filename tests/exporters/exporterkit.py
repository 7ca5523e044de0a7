"""Shared by the exporter's tests: captured frames, scrapes, real workers and clients."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from exporters.decode import Event, decode_all
from exporters.service import Exporter
from stack.wait import wait_for

DATA = Path(__file__).parent / "data"
HERE = Path(__file__).parent


def captured() -> list[bytes]:
    """Frames as one real worker and its clients published them."""
    lines = (DATA / "frames.jsonl").read_text().splitlines()
    return [json.loads(line)["payload"].encode() for line in lines]


def decoded(frame: bytes) -> list[Event]:
    """The events in a frame; empty for a rejected frame."""
    return decode_all([frame])[0]


def until(condition: Callable[[], Any], *, seconds: float, pause: float = 0.05) -> None:
    """Wait until a condition is met."""
    wait_for(condition, timeout=seconds, what="the awaited state", hint="see the test", interval=pause)


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [s for family in text_string_to_metric_families(text) for s in family.samples]

    def get(self, name: str, /, **labels: str) -> float | None:
        """The sum of the samples with these labels; None if there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def values(self, name: str, label: str) -> set[str]:
        return {s.labels[label] for s in self.samples if s.name == name}


class Running:
    """An exporter and its scrapes; without ``exporter`` when it runs in another process."""

    def __init__(self, exporter: Exporter | None, url: str = "") -> None:
        self._exporter = exporter
        self.url = url or f"http://127.0.0.1:{self.exporter.port}"

    @property
    def exporter(self) -> Exporter:
        assert self._exporter is not None, "it runs in another process"
        return self._exporter

    @classmethod
    def at(cls, url: str) -> "Running":
        return cls(None, url)

    def ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def scrape(self) -> Scraped:
        response = requests.get(f"{self.url}/metrics", timeout=10)
        assert response.status_code == 200
        return Scraped(response.text)

    def until(self, condition: Callable[[Scraped], Any], seconds: float = 60, pause: float = 0.1) -> Scraped:
        """Scrape until a condition is met; returns that scrape."""
        end = time.monotonic() + seconds
        while True:
            scraped = self.scrape()
            if condition(scraped):
                return scraped
            assert time.monotonic() < end, scraped.text
            time.sleep(pause)


class Worker:
    """A real Celery worker of tests/exporters/shop.py, up and consuming."""

    def __init__(
        self,
        url: str,
        node: str,
        *,
        queues: str = "default,mail",
        events: bool = True,
        pool: str = "prefork",
        concurrency: int = 2,
    ) -> None:
        self.node = node
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "shop",
            "worker",
            "-n",
            node,
            "-Q",
            queues,
            "-c",
            str(concurrency),
            "-P",
            pool,
        ]
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by show_log()
        self.process = subprocess.Popen(
            [*command, "-l", "INFO", *(["-E"] if events else [])],
            cwd=HERE,
            env=shop_environment(url, events=events),
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready(self, seconds: float) -> bool:
        """Whether it started in time; a worker that hangs writes its stacks to its log."""
        if self._logs(" ready.", seconds):
            return True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1)
            self._logs("LOCAL VARIABLES", 2)
        return False

    def must_be_ready(self) -> None:
        assert self.ready(seconds=90), f"{self.node} did not come up; its log is printed below"

    def kill(self) -> None:
        """Kill the whole process group, as a crash would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def show_log(self) -> None:
        """Print the log, which pytest shows when a test fails: it shows why a worker did not start."""
        print(f"{self.process.args!r} ended with {self.process.returncode}:\n{self._log_text()}")
        self.log.close()

    def _logs(self, text: str, seconds: float) -> bool:
        """Whether its log contains the text in time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            if text in self._log_text():
                return True
            time.sleep(0.1)
        return False

    def _log_text(self) -> str:
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")


def shop_environment(url: str, *, events: bool = True) -> dict[str, str]:
    # Celery would set up Django if this variable is set.
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "SHOP_BROKER_URL": url, "SHOP_EVENTS": "1" if events else ""}


def send(url: str, *names: str, **options: Any) -> list[str]:
    """Send tasks as a client of the shop does."""
    with Celery("client", broker=url, set_as_current=False) as client:
        client.conf.update(
            task_send_sent_event=True,
            task_default_queue="default",
            task_routes={"shop.mail": {"queue": "mail"}},
        )
        return [client.send_task(name, **options).id for name in names]
