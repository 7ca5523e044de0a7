"""The notification inbox: the receiver of Alertmanager's webhook in the demo and in tests."""

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Self

from sidecar import OpsError, html
from sidecar.web import Request, Response, WebServer
from stack import ports
from stack.ports import HOST


@dataclass(frozen=True)
class Notification:
    """One alert as it arrived in one webhook call.

    Args:
        received: time of arrival, seconds since the epoch.
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
        log: file that gets one line per notification.
        host: address to listen on.
        port: a free one by default.
    """

    def __init__(self, log: Path, *, host: str = HOST, port: int | None = None) -> None:
        self.log, self._host = log, host
        self._arrived = threading.Condition()
        self._notifications: list[Notification] = []
        self._server = WebServer(host, port or ports.choose(), {"/": self._show}, posts={"/": self._take})
        self.port = self._server.port

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}"

    @property
    def notifications(self) -> Sequence[Notification]:
        """All notifications so far, oldest first."""
        with self._arrived:
            return tuple(self._notifications)

    def wait_for(
        self, alert: str, status: str = "firing", *, since: float = 0.0, timeout: float = 60.0
    ) -> Notification:
        """The first notification of this alert and status that arrived at or after ``since`` (epoch seconds).

        Raises:
            OpsError: none arrived within ``timeout`` seconds; the message lists those that did arrive.
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
        """Take one webhook call. Raises ValueError when it does not come from Alertmanager."""
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
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _take(self, request: Request) -> Response:
        try:
            self.receive(request.body)
        except ValueError as error:
            return Response(f"{error}\n".encode(), status=HTTPStatus.BAD_REQUEST)
        return Response(b"received\n")

    def _show(self, _request: Request) -> Response:
        return _page(self.notifications)


def _notification(alert: dict[str, dict[str, str]], received: float) -> Notification:
    labels = dict(alert["labels"])
    return Notification(
        received, str(alert["status"]), labels["alertname"], labels, dict(alert["annotations"])
    )


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def _page(notifications: Sequence[Notification]) -> Response:
    items = "".join(f"<li>{_clock(n.received)} {escape(n.text)}</li>" for n in reversed(notifications))
    body = f"<p>Newest first, times in UTC.</p><ol reversed>{items or 'none yet'}</ol>"
    return html.respond("Notification inbox", body, refresh=5)
