"""The service: takes Watchdog from Alertmanager, sends and follows test messages, shows metrics."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from alerts.alertmanager import Alertmanager
from alerts.receivers import ReceiverSettings
from alerts.render import CHANNELS
from alerts.watch.canary import Canary
from alerts.watch.evidence import Accepted, Evidence, Mailbox, Page
from alerts.watch.heartbeat import Heartbeat
from alerts.watch.settings import WatchSettings
from sidecar import OpsError

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
LARGEST_BODY = 1024 * 1024
METRICS = "text/plain; version=0.0.4; charset=utf-8"


def evidence(
    settings: WatchSettings, receivers: ReceiverSettings, alertmanager: Alertmanager
) -> dict[str, Evidence]:
    """By receiver that is on, the best evidence that the settings allow."""
    pages = {
        "slack": (settings.slack_readback_url, settings.slack_readback_authorization),
        "pagerduty": (settings.pagerduty_readback_url, settings.pagerduty_readback_authorization),
        "webhook": (settings.webhook_readback_url, settings.webhook_readback_authorization),
    }
    found: dict[str, Evidence] = {}
    for channel in CHANNELS:
        if not channel.is_on(receivers):
            continue
        name = channel.key.removesuffix("_configs")
        url, authorization = pages.get(name, (None, None))
        if url is not None:
            found[name] = Page(
                url.get_secret_value(), authorization.get_secret_value() if authorization else None
            )
        elif name == "email" and settings.email_readback_url is not None:
            found[name] = Mailbox(settings.email_readback_url.get_secret_value())
        else:
            found[name] = Accepted(name, alertmanager.metrics)
    return found


def seconds_until_next(settings: WatchSettings, now: datetime) -> float:
    """Seconds until the next test message is due."""
    if settings.canary_every:
        return settings.canary_every
    at = now.replace(hour=settings.canary_at.hour, minute=settings.canary_at.minute, second=0, microsecond=0)
    return ((at if at > now else at + timedelta(days=1)) - now).total_seconds()


class Watch:
    """The running service.

    Args:
        settings: its own.
        receivers: the receivers' settings, those that Alertmanager's configuration was made from.
    """

    def __init__(
        self, settings: WatchSettings, receivers: ReceiverSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        alertmanager = Alertmanager(settings.alertmanager_url)
        url = settings.heartbeat_url.get_secret_value() if settings.heartbeat_url else None
        self.heartbeat = Heartbeat(url, clock=clock)
        self.canary = Canary(
            alertmanager,
            evidence(settings, receivers, alertmanager),
            patience=settings.canary_patience,
            clock=clock,
        )
        self._registry = CollectorRegistry()
        self._registry.register(_Metrics(self))
        self._stopping = threading.Event()
        self._server = _Server((settings.host, settings.port), self)
        self.port = int(self._server.server_address[1])
        self._threads = [
            threading.Thread(target=self._server.serve_forever, name="web", daemon=True),
            threading.Thread(target=self._follow, name="canary", daemon=True),
        ]

    def start(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def received(self, body: bytes) -> bool:
        """Take a webhook call of Alertmanager; returns whether the dead-man's switch was called with success.

        Raises:
            ValueError: it is none of Alertmanager's.
        """
        try:
            alerts = json.loads(body)["alerts"]
            names = {alert["labels"]["alertname"] for alert in alerts if alert["status"] == "firing"}
        except (KeyError, TypeError) as error:
            raise ValueError("not a webhook of Alertmanager") from error
        return "Watchdog" in names and self.heartbeat.beat()

    def metrics(self) -> bytes:
        return generate_latest(self._registry)

    def _follow(self) -> None:
        due = time.monotonic() + seconds_until_next(self._settings, datetime.now(UTC))
        while not self._stopping.wait(min(LOOK_SECONDS, max(0.1, due - time.monotonic()))):
            self.canary.look()
            if time.monotonic() >= due:
                self._send()
                due = time.monotonic() + seconds_until_next(self._settings, datetime.now(UTC))

    def _send(self) -> None:
        try:
            self.canary.send()
        except OpsError as error:
            log.warning("test message not sent: %s", error.message)


class _Metrics(Collector):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        heartbeat, canary = self._watch.heartbeat, self._watch.canary
        yield GaugeMetricFamily(
            "alerts_heartbeat_last_success_timestamp_seconds",
            "When the dead-man's switch last answered; 0 never",
            heartbeat.last_success,
        )
        yield CounterMetricFamily(
            "alerts_heartbeat_failures", "Calls of the dead-man's switch that failed", heartbeat.failures
        )
        yield GaugeMetricFamily(
            "alerts_canary_sent_timestamp_seconds",
            "When the last test message was sent; 0 never",
            canary.sent,
        )
        yield from self._arrivals()

    def _arrivals(self) -> Iterable[Metric]:
        arrived = GaugeMetricFamily(
            "alerts_canary_arrived_timestamp_seconds",
            "When a test message was last found at the receiver's other end; 0 never",
            labels=["receiver", "evidence"],
        )
        missing = GaugeMetricFamily(
            "alerts_canary_missing_since_timestamp_seconds",
            "When the first test message was sent that did not arrive; 0 none is missing",
            labels=["receiver"],
        )
        took = GaugeMetricFamily(
            "alerts_canary_delivery_seconds", "How long the last test message took", labels=["receiver"]
        )
        kinds = self._watch.canary.kinds
        for receiver, arrival in self._watch.canary.arrivals.items():
            arrived.add_metric([receiver, kinds[receiver]], arrival.at)
            missing.add_metric([receiver], arrival.missing_since)
            took.add_metric([receiver], arrival.seconds)
        yield from (arrived, missing, took)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], watch: Watch) -> None:
        self.watch = watch
        try:
            super().__init__(address, _Handler)
        except OSError as error:
            raise OpsError(
                f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}",
                hint="stop what uses the port, or set ALERTS_WATCH_PORT",
            ) from None


class _Handler(BaseHTTPRequestHandler):
    timeout = 15
    server: _Server

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, self.server.watch.metrics(), METRICS)
        elif self.path == "/healthz":
            self._answer(200, b"ok\n")
        else:
            self._answer(404, b"there are /metrics, /healthz and POST /watchdog\n")

    def do_POST(self) -> None:
        if self.path != "/watchdog":
            self._answer(404, b"there is POST /watchdog\n")
            return
        try:
            reached = self.server.watch.received(self._body())
        except ValueError as error:
            self._answer(400, f"{error}\n".encode())
            return
        # Alertmanager counts a failure and tries again when it gets no 2xx.
        self._answer(
            200 if reached else 503, b"ok\n" if reached else b"the dead-man's switch did not answer\n"
        )

    def _body(self) -> bytes:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_BODY:
            raise ValueError("no body, or one that is too large")
        return self.rfile.read(length)

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        log.debug(format, *args)
