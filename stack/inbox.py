"""The notification inbox: where Alertmanager's webhook ends in the demo and in tests."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from sidecar import OpsError
from stack import ports
from stack.ports import HOST

# A webhook of Alertmanager is some kilobytes; anything far larger is not one.
LARGEST_BODY = 4 * 1024 * 1024


@dataclass(frozen=True)
class Notification:
    """One alert as it arrived in one webhook call.

    Args:
        received: arrival, seconds since the epoch.
        status: ``firing`` or ``resolved``.
    """

    received: float
    status: str
    alert: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def text(self) -> str:
        """One line for a person."""
        what = self.annotations.get("summary") or self.alert
        return f"{self.status.upper()} [{self.labels.get('severity', '?')}] {self.alert}: {what}"


class Inbox:
    """Receives webhooks on ``POST /``, shows them on ``GET /``, and lets a caller wait for one.

    Args:
        log: file that gets a line for each notification.
        port: a free one by default.
    """

    def __init__(self, log: Path, *, port: int | None = None) -> None:
        self.log = log
        self._arrived = threading.Condition()
        self._notifications: list[Notification] = []
        self._server = _Server((HOST, port or ports.choose()), self)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="inbox", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def notifications(self) -> Sequence[Notification]:
        """All that arrived, oldest first."""
        with self._arrived:
            return tuple(self._notifications)

    def wait_for(
        self, alert: str, status: str = "firing", *, since: float = 0.0, timeout: float = 60.0
    ) -> Notification:
        """The first notification of this alert and status that arrived at or after ``since`` (epoch seconds).

        Raises:
            OpsError: none arrived within ``timeout`` seconds; the message lists what did.
        """

        def found() -> Notification | None:
            return next(
                (
                    n
                    for n in self._notifications
                    if (n.alert, n.status) == (alert, status) and n.received >= since
                ),
                None,
            )

        with self._arrived:
            self._arrived.wait_for(lambda: found() is not None, timeout)
            arrived = found()
            others = sorted({f"{n.alert} {n.status}" for n in self._notifications if n.received >= since})
        if arrived is None:
            raise OpsError(
                f"no {status} notification of {alert} within {timeout:g} s; arrived: {', '.join(others) or 'none'}",
                hint="read the logs of Prometheus and Alertmanager",
            )
        return arrived

    def receive(self, body: bytes) -> None:
        """Take one webhook call. Raises ValueError when it is none of Alertmanager's."""
        received = time.time()
        try:
            new = [_notification(alert, received) for alert in json.loads(body)["alerts"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a webhook of Alertmanager: {error!r}") from None
        with self.log.open("a", encoding="utf-8") as log:
            log.writelines(f"{_clock(n.received)} {n.text}\n" for n in new)
        with self._arrived:
            self._notifications += new
            self._arrived.notify_all()

    def start(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], inbox: Inbox) -> None:
        self.inbox = inbox
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = 15.0
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_BODY:
            self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no body, or too large a one\n")
            return
        try:
            self.server.inbox.receive(self.rfile.read(length))
        except ValueError as error:
            self._answer(HTTPStatus.BAD_REQUEST, f"{error}\n")
        else:
            self._answer(HTTPStatus.OK, "received\n")

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK, _page(self.server.inbox.notifications), "text/html; charset=utf-8")

    def _answer(self, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


def _notification(alert: dict[str, dict[str, str]], received: float) -> Notification:
    labels = dict(alert["labels"])
    return Notification(
        received, str(alert["status"]), labels["alertname"], labels, dict(alert["annotations"])
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _page(notifications: Sequence[Notification]) -> str:
    items = "".join(f"<li>{_clock(n.received)} {escape(n.text)}</li>" for n in reversed(notifications))
    return (
        "<!doctype html><meta charset=utf-8><meta http-equiv=refresh content=5><title>Notification inbox</title>"
        f"<h1>Notification inbox</h1><p>Newest first, times in UTC.</p><ol reversed>{items or 'none yet'}</ol>"
    )
