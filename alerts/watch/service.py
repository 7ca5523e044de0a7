"""The watch service: receives Watchdog from Alertmanager, sends test messages, exports metrics."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from alerts.alertmanager import Alertmanager
from alerts.receivers import ReceiverSettings
from alerts.render import CHANNELS
from alerts.watch.canary import Canary
from alerts.watch.delivery import Accepted, Evidence, Mailbox, Page
from alerts.watch.heartbeat import Heartbeat
from alerts.watch.settings import WatchSettings
from alerts.watch.state_file import StateFile
from sidecar import OpsError
from sidecar.page_server import configured
from sidecar.web import Request, Response

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
# Interval between checks for a late message: providers limit the request rate.
LATE_POLL_SECONDS = 60.0
# Interval between messages while one is missing, and before the next attempt if Alertmanager refused one.
AGAIN_SECONDS = 3600.0
RETRY_SECONDS = 60.0
DAY = 86400.0
METRICS = "text/plain; version=0.0.4; charset=utf-8"


def evidence(
    settings: WatchSettings, receivers: ReceiverSettings, alertmanager: Alertmanager
) -> dict[str, Evidence]:
    """The best available kind of evidence for each enabled receiver."""
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
    """Seconds until the next scheduled test message."""
    if settings.canary_every:
        return settings.canary_every
    at = now.replace(hour=settings.canary_at.hour, minute=settings.canary_at.minute, second=0, microsecond=0)
    return ((at if at > now else at + timedelta(days=1)) - now).total_seconds()


class Watch:
    """The running service.

    Args:
        settings: settings of the service.
        receivers: the settings that Alertmanager's configuration was rendered from.
    """

    def __init__(
        self, settings: WatchSettings, receivers: ReceiverSettings, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.started = clock()
        alertmanager = Alertmanager(settings.alertmanager_url, settings.login)
        url = settings.heartbeat_url.get_secret_value() if settings.heartbeat_url else None
        self._state_file = StateFile(settings.state)
        known = self._state_file.load()
        self.heartbeat = Heartbeat(url, clock=clock, last_success=float(known.get("heartbeat", 0.0)))
        self.canary = Canary(
            alertmanager,
            evidence(settings, receivers, alertmanager),
            patience=settings.canary_patience,
            clock=clock,
            known=known.get("canary"),
        )
        self._tried = self.canary.sent
        self._due = self._first()
        self._registry = CollectorRegistry()
        self._registry.register(_Metrics(self))
        self._stopping = False
        # Set to end a pause: the service stops, or a test message was requested.
        self._wake = threading.Event()
        self._saving = threading.Lock()
        pages = {"/metrics": self._metrics_page, "/healthz": self._health_page, "/canary": self._canary_page}
        posts = {"/watchdog": self._take_watchdog, "/canary": self._take_request}
        self._server = configured(
            settings.host, settings.port, pages, settings.web_config_file_path, posts=posts
        )
        self.port = self._server.port
        self._follower = threading.Thread(target=self._follow, name="canary", daemon=True)

    def start(self) -> Self:
        self._server.start()
        self._follower.start()
        return self

    def stop(self) -> None:
        self._stopping = True
        self._wake.set()
        self._server.stop()
        self._follower.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def received(self, body: bytes) -> bool:
        """Handle a webhook request from Alertmanager; returns whether the dead man's switch was pinged successfully.

        Raises:
            ValueError: the body is not a webhook request from Alertmanager.
        """
        try:
            alerts = json.loads(body)["alerts"]
            names = {alert["labels"]["alertname"] for alert in alerts if alert["status"] == "firing"}
        except (KeyError, TypeError) as error:
            raise ValueError("not a webhook request from Alertmanager") from error
        if "Watchdog" not in names or not self.heartbeat.beat():
            return False
        self._remember()
        return True

    def metrics(self) -> bytes:
        return generate_latest(self._registry)

    def is_healthy(self) -> bool:
        """Whether all threads are alive."""
        return self._server.running and self._follower.is_alive()

    def ask(self) -> None:
        """Request a test message now."""
        self._due = 0.0
        self._wake.set()

    def state(self) -> dict[str, Any]:
        """The last test message and the last known arrival at each receiver."""
        return {**self.canary.state(), "evidence": self.canary.kinds}

    def _metrics_page(self, _request: Request) -> Response:
        return Response(self.metrics(), METRICS)

    def _health_page(self, _request: Request) -> Response:
        if self.is_healthy():
            return Response(b"ok\n")
        return Response(b"a thread of the service has ended\n", status=HTTPStatus.SERVICE_UNAVAILABLE)

    def _canary_page(self, _request: Request) -> Response:
        return Response(json.dumps(self.state()).encode(), "application/json")

    def _take_request(self, _request: Request) -> Response:
        self.ask()
        return Response(b"a test message was requested\n", status=HTTPStatus.ACCEPTED)

    def _take_watchdog(self, request: Request) -> Response:
        try:
            reached = self.received(request.body)
        except ValueError as error:
            return Response(f"{error}\n".encode(), status=HTTPStatus.BAD_REQUEST)
        # Alertmanager counts a failure and tries again when the response is not 2xx.
        if reached:
            return Response(b"ok\n")
        return Response(b"the dead man's switch was not reached\n", status=HTTPStatus.SERVICE_UNAVAILABLE)

    def _follow(self) -> None:
        while not self._stopping:
            self._wake.wait(self._pause())
            self._wake.clear()
            self.canary.check()
            if not self._stopping and self._clock() >= self._next():
                self._send()
            self._remember()

    def _pause(self) -> float:
        longest = POLL_SECONDS if self.canary.is_fresh else LATE_POLL_SECONDS
        return min(longest, max(0.1, self._next() - self._clock()))

    def _next(self) -> float:
        """Unix time of the next message: as scheduled, or earlier while one is missing."""
        again = self._tried + AGAIN_SECONDS
        return min(self._due, again) if self.canary.is_missing else self._due

    def _first(self) -> float:
        """Unix time of the first message: at once if the last one is older than the schedule allows."""
        every = self._settings.canary_every or DAY
        return self.started if self.started - self.canary.sent >= every else self._scheduled()

    def _scheduled(self) -> float:
        now = self._clock()
        return now + seconds_until_next(self._settings, datetime.fromtimestamp(now, UTC))

    def _send(self) -> None:
        self._tried = self._clock()
        try:
            self.canary.send()
        except OpsError as error:
            log.warning("test message not sent: %s", error.message)
            self._due = self._tried + RETRY_SECONDS
        else:
            self._due = self._scheduled()

    def _remember(self) -> None:
        with self._saving:
            self._state_file.save({"heartbeat": self.heartbeat.last_success, "canary": self.canary.state()})


class _Metrics(Collector):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterable[Metric]:
        heartbeat, canary = self._watch.heartbeat, self._watch.canary
        yield GaugeMetricFamily(
            "alerts_watch_start_timestamp_seconds", "Start time of the watch", self._watch.started
        )
        yield GaugeMetricFamily(
            "alerts_heartbeat_configured",
            "1 if a dead man's switch is configured",
            float(heartbeat.configured),
        )
        yield GaugeMetricFamily(
            "alerts_heartbeat_last_success_timestamp_seconds",
            "Last successful ping of the dead man's switch (0 = never)",
            heartbeat.last_success,
        )
        yield CounterMetricFamily(
            "alerts_heartbeat_failures", "Failed pings of the dead man's switch", heartbeat.failures
        )
        yield GaugeMetricFamily(
            "alerts_canary_sent_timestamp_seconds",
            "Time at which the last test message was sent (0 = never)",
            canary.sent,
        )
        yield from self._arrivals()

    def _arrivals(self) -> Iterable[Metric]:
        arrived = GaugeMetricFamily(
            "alerts_canary_arrived_timestamp_seconds",
            "Time at which a test message last arrived at the receiver (0 = never)",
            labels=["receiver", "evidence"],
        )
        missing = GaugeMetricFamily(
            "alerts_canary_missing_since_timestamp_seconds",
            "Time at which the first missing test message was sent (0 = none is missing)",
            labels=["receiver"],
        )
        took = GaugeMetricFamily(
            "alerts_canary_delivery_seconds", "Delivery time of the last test message", labels=["receiver"]
        )
        kinds = self._watch.canary.kinds
        for receiver, arrival in self._watch.canary.arrivals.items():
            arrived.add_metric([receiver, kinds[receiver]], arrival.at)
            missing.add_metric([receiver], arrival.missing_since)
            took.add_metric([receiver], arrival.seconds)
        yield from (arrived, missing, took)
