"""The suite with the exporters that the demo does without, so that every alert of a live part can be seen.

The host's metrics come from a double: the captured output of the real node_exporter, whose numbers a test can move.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from stack.ports import HOST, choose
from stack.programs import find
from stack.servers import Service
from stack.suite import Suite
from stack.suite.monitoring import without_login
from tests.alerts.fixtures import FOLDER

BLACKBOX = {
    "modules": {
        "http_2xx": {
            "prober": "http",
            "timeout": "5s",
            "http": {"preferred_ip_protocol": "ip4", "tls_config": {"insecure_skip_verify": True}},
        }
    }
}


# Values that were off because the captured machine was busy.
WELL = {
    "node_load5": 0.3,
    "node_timex_sync_status": 1,
    "node_timex_maxerror_seconds": 0.1,
    "node_timex_offset_seconds": 0,
}


# Increases per second of a healthy, mostly idle machine.
PACE = {
    r'node_cpu_seconds_total\{.*mode="idle"': 0.85,
    r'node_cpu_seconds_total\{.*mode="user"': 0.1,
    r'node_cpu_seconds_total\{.*mode="system"': 0.05,
    r"node_disk_written_bytes_total": 300e3,
    r"node_disk_io_time_seconds_total": 0.03,
    r'node_network_(?:receive|transmit)_bytes_total\{device="eth': 100e3,
}
_MOVING = {pace: re.compile(rf"(?m)^({series}[^ ]*) (.*)$") for series, pace in PACE.items()}


class HostDouble:
    """Serves node_exporter's captured output: some counters continue from there, the values of some series are replaced."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self.reset()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(self))
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Reset to the captured values, with those of a healthy machine."""
        self.text = (FOLDER / "node_exporter.prom").read_text(encoding="utf-8")
        for series, value in WELL.items():
            self.set(series, value)

    def set(self, series: str, value: float) -> None:
        """Give every series whose name and labels begin like this another value."""
        self.text, count = re.subn(rf"(?m)^({re.escape(series)}[^ ]*) .*$", rf"\1 {value}", self.text)
        assert count, f"node_exporter.prom has no {series}"

    def now(self) -> str:
        """The page of a scrape. Counters must advance: a constant idle counter would look like a fully busy machine."""
        text, passed = self.text, time.monotonic() - self._since
        for pace, series in _MOVING.items():
            text = _raised(series, text, by=pace * passed)
        return text

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _raised(series: re.Pattern[str], text: str, *, by: float) -> str:
    return series.sub(lambda found: f"{found[1]} {float(found[2]) + by}", text)


def _handler(double: HostDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = double.now().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler


def exporters(suite: Suite) -> dict[str, Service]:
    """Third-party exporters, by job."""

    def service(name: str, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Service:
        port = choose()
        return Service(
            name,
            [str(find(program)), *arguments, f"--web.listen-address={HOST}:{port}"],
            folder=suite.folder / name,
            env={**os.environ, **(env or {})},
            port=port,
            ready="/metrics",
            log=suite.logs / f"{name}.log",
        )

    blackbox = suite.folder / "blackbox.yml"
    blackbox.write_text(yaml.safe_dump(BLACKBOX))
    return {
        "redis": service(
            "redis-exporter", "redis_exporter", f"--redis.addr=redis://{HOST}:{suite.redis.port}"
        ),
        "postgres": service(
            "postgres-exporter",
            "postgres_exporter",
            *_postgres_flags(),
            env={"DATA_SOURCE_NAME": f"{suite.postgres.url}?sslmode=disable"},
        ),
        "blackbox": service("blackbox-exporter", "blackbox_exporter", f"--config.file={blackbox}"),
    }


def _postgres_flags() -> list[str]:
    """The flags of production; a system's old exporter lacks one, and its bgwriter collector fails on PostgreSQL 17."""
    done = subprocess.run([find("postgres_exporter"), "--help"], capture_output=True, text=True, check=False)
    known = done.stdout + done.stderr
    wraparound = "--collector.database_wraparound"
    return [
        *([wraparound] if wraparound in known else []),
        *(["--no-collector.bgwriter"] if "--collector.bgwriter" in known else []),
    ]


def watch_also(suite: Suite, ports: Mapping[str, int]) -> None:
    """Add the jobs to the running Prometheus, from the repository's own configuration."""
    folder = suite.folder / "monitoring"
    config = folder / "prometheus.yml"
    document: dict[str, Any] = yaml.safe_load(config.read_text())
    committed = yaml.safe_load((Path(__file__).parents[2] / "alerts" / "prometheus.yml").read_text())
    for job in committed["scrape_configs"]:
        name = job["job_name"]
        if name in ports:
            targets = [{"targets": [f"{HOST}:{ports[name]}"], "labels": {"environment": "demo"}}]
            if name == "blackbox":
                probed = {"environment": "demo", "probe": "api", "__exporter": f"{HOST}:{ports[name]}"}
                targets = [{"targets": [f"{suite.api.url}/health/"], "labels": probed}]
            (folder / "targets" / f"{name}.yml").write_text(yaml.safe_dump(targets))
            # An old exporter takes a second to say that there is no database.
            pace = {"scrape_interval": "2s", "scrape_timeout": "2s"} if name == "postgres" else {}
            document["scrape_configs"].append({**without_login(job), **pace})
    config.write_text(yaml.safe_dump(document, sort_keys=False))
    os.kill(suite.prometheus.pid, signal.SIGHUP)


@contextmanager
def running(suite: Suite) -> Iterator[tuple[dict[str, Service], HostDouble]]:
    """Start the exporters next to a running suite, and have Prometheus scrape them."""
    found = exporters(suite)
    host = HostDouble()
    try:
        for service in found.values():
            service.start()
        watch_also(suite, {**{job: service.port for job, service in found.items()}, "node": host.port})
        yield found, host
    finally:
        for service in found.values():
            service.stop()
        host.stop()
