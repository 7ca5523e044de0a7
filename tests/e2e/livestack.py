"""The suite with the exporters that the demo does without, so that every alert of a live part can be seen.

The host's metrics come from a double: the captured output of the real node_exporter, whose numbers a test can move.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

from stack.ports import HOST
from stack.servers import Service
from stack.suite import Suite, exporters, monitoring
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


# Values that look unhealthy because the captured machine was busy.
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

    def __init__(self, host: str = HOST) -> None:
        self._since = time.monotonic()
        self.reset()
        self._server = ThreadingHTTPServer((host, 0), _handler(self))
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """Reset to the captured values, with those of a healthy machine."""
        self.text = (FOLDER / "node_exporter.prom").read_text(encoding="utf-8")
        for series, value in WELL.items():
            self.set(series, value)

    def set(self, series: str, value: float) -> None:
        """Set the value of every series whose name and labels begin with this text."""
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


def started(suite: Suite) -> dict[str, Service]:
    """Third-party exporters, by job."""
    blackbox = suite.folder / "blackbox.yml"
    blackbox.write_text(yaml.safe_dump(BLACKBOX))
    return {
        "redis": exporters.redis(suite),
        "postgres": exporters.postgres(suite),
        "blackbox": exporters.service(suite, "blackbox_exporter", f"--config.file={blackbox}"),
    }


def targets(suite: Suite, ports: Mapping[str, int]) -> dict[str, exporters.Targets]:
    """The targets of the jobs; Blackbox's is what it probes."""
    probed = {
        "environment": monitoring.ENVIRONMENT,
        "probe": "api",
        "__exporter": f"{HOST}:{ports['blackbox']}",
    }
    return {
        **{job: [monitoring.target(port)] for job, port in ports.items()},
        "blackbox": [{"targets": [f"{suite.api.url}/health/"], "labels": probed}],
    }


@contextmanager
def running(suite: Suite) -> Iterator[tuple[dict[str, Service], HostDouble]]:
    """Start the exporters next to a running suite, and have Prometheus scrape them."""
    found = started(suite)
    host = HostDouble()
    try:
        for service in found.values():
            service.start()
        ports = {**{job: service.port for job, service in found.items()}, "node": host.port}
        exporters.scrape(suite, targets(suite, ports))
        yield found, host
    finally:
        for service in found.values():
            service.stop()
        host.stop()
