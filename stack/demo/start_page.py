"""The demo's start page: what runs where, what to look at, how to sign in; and what Alertmanager knows."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Self

from alerts.alertmanager import Alertmanager
from sidecar import OpsError, html
from sidecar.web import Request, Response, WebServer
from stack.demo import frontend
from stack.paths import ROOT
from stack.ports import HOST
from stack.programs import find
from stack.servers import Server
from stack.suite import Suite
from stack.suite.environments import BUCKET

DASHBOARDS = ROOT / "dashboards" / "json"
REFRESH_SECONDS = 10
STARTING = '<p class="dim">Each part appears here as soon as it runs.</p>'
SEVERITIES = {"critical": "bad", "warning": "warn"}


@dataclass(frozen=True)
class Place:
    """An address that a browser can open, and what there is to see."""

    name: str
    url: str
    look: str


@dataclass(frozen=True)
class Login:
    """A server without pages: its address, and a command that talks to it."""

    name: str
    address: str
    command: str


class StartPage:
    """Serves the page, the pictures of dashboards, and a page about alerts.

    Args:
        pictures: the folder where pictures of dashboards appear.
    """

    def __init__(self, suite: Suite, pictures: Path, *, port: int) -> None:
        self._suite = suite
        self._pictures = pictures
        self._server = WebServer(
            HOST, port, {"/": self._start, "/alerts": self._alerts, "/dashboard": self._dashboard}
        )
        self.url = f"http://{HOST}:{self._server.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop()

    def places(self) -> list[Place]:
        """Everything that a browser can open now."""
        suite = self._suite
        web = suite.web.url if suite.web else ""
        look = "try celery_queue_length; the menu leads to what is scraped (Status, Targets) and to the rules (Alerts)"
        places: tuple[tuple[Server | None, str, str, str], ...] = (
            (suite.web, "PostHub", web, frontend.SIGN_IN),
            (
                suite.backup,
                "Backup status",
                suite.backup.url,
                "each backup, whether it is proven, how long a restore takes",
            ),
            (suite.exporter, "Celery exporter", suite.exporter.url, "queues, workers and tasks, from memory"),
            (
                suite.alertmanager,
                "Alerts",
                f"{self.url}/alerts",
                "what fires, what is silenced; from Alertmanager",
            ),
            (
                suite.alertmanager,
                "Notification inbox",
                suite.inbox.url,
                "what the person on call would have received",
            ),
            (suite.prometheus, "Prometheus", suite.prometheus.browser_url, look),
            (
                suite.api,
                "PostHub API",
                f"{suite.api.url}/api/v1/health/",
                "the health of the app's parts, as JSON",
            ),
        )
        return [Place(name, url, look) for server, name, url, look in places if suite.is_up(server)]

    def logins(self) -> list[Login]:
        """The servers that have no pages, with the credentials that exist only for this demo."""
        suite = self._suite
        keys = f"AWS_ACCESS_KEY_ID={suite.store.access_key} AWS_SECRET_ACCESS_KEY={suite.store.secret_key}"
        return [
            Login("PostgreSQL", f"{HOST}:{suite.postgres.port}", f"psql {shlex.quote(suite.postgres.url)}"),
            Login(
                "Redis",
                f"{HOST}:{suite.redis.port}",
                f"{find('redis-cli')} -u {suite.redis.url} info clients",
            ),
            Login(
                "S3 server",
                suite.store.url,
                f"{keys} aws --endpoint-url {suite.store.url} s3 ls --recursive s3://{BUCKET}/",
            ),
        ]

    def _start(self, _: Request) -> Response:
        cards = "".join(
            f'<div class="card"><h2>{html.link(place.url, place.name)}</h2><p>{escape(place.look)}</p></div>'
            for place in self.places()
        )
        logins = html.definitions(
            (f"{login.name}, {login.address}", f"<code>{escape(login.command)}</code>")
            for login in self.logins()
        )
        pictures = "".join(
            f'<div class="card"><h2>{html.link(f"/dashboard?name={path.stem}", _title(path))}</h2>'
            f'<a href="/dashboard?name={path.stem}"><img alt="" src="/dashboard?name={path.stem}"></a></div>'
            for path in self._drawn()
        )
        wait = '<p class="dim">They are drawn after the seven steps, from this demo\'s own Prometheus.</p>'
        body = (
            "<p>The suite at work on this machine: real servers, real traffic. Ctrl-C in the terminal ends everything.</p>"
            f'<div class="cards">{cards or STARTING}</div><h2>Servers without pages</h2>{logins}'
            f'<h2>Dashboards</h2><div class="cards">{pictures}</div>{"" if pictures else wait}'
            f'<p class="dim">Logs: <code>{escape(str(self._suite.logs))}</code></p>'
        )
        return html.respond("The demo", body, refresh=REFRESH_SECONDS)

    def _drawn(self) -> Sequence[Path]:
        return sorted(self._pictures.glob("*.png"))

    def _dashboard(self, request: Request) -> Response:
        wanted = request.query.get("name")
        found = next((path for path in self._drawn() if path.stem == wanted), None)
        if found is None:
            return Response(b"there is no such picture\n", status=404)
        return Response(found.read_bytes(), "image/png")

    def _alerts(self, _: Request) -> Response:
        client = Alertmanager(self._suite.alertmanager.url)
        try:
            body = _alert_table(client) + _silence_table(client)
        except OpsError as error:
            body = f"<p>{html.marked(error.message, 'bad')}</p>"
        return html.respond("Alerts", body, refresh=REFRESH_SECONDS)


def _title(picture: Path) -> str:
    """The title of the dashboard, without that of its folder."""
    board = json.loads((DASHBOARDS / f"{picture.stem}.json").read_text(encoding="utf-8"))
    return str(board["title"]).rpartition(" / ")[2]


def _alert_table(client: Alertmanager) -> str:
    rows = []
    for alert in sorted(client.alerts(), key=lambda each: str(each["startsAt"]), reverse=True):
        labels, status = alert["labels"], alert["status"]
        severity = str(labels.get("severity", "none"))
        muted = bool(status["silencedBy"] or status["inhibitedBy"])
        rows.append(
            (
                escape(str(labels["alertname"])),
                html.marked(severity, SEVERITIES.get(severity, "dim")),
                "silenced or inhibited" if muted else "notified",
                _clock(str(alert["startsAt"])),
                escape(str(alert["annotations"].get("summary", ""))),
            )
        )
    note = "<p>Watchdog always fires: its absence would mean that alerting is broken.</p>"
    return note + html.table(("alert", "severity", "state", "since (UTC)", "what"), rows)


def _silence_table(client: Alertmanager) -> str:
    rows = [
        (
            escape(" ".join(silence.matchers)),
            _clock(silence.ends),
            escape(silence.by),
            escape(silence.comment),
        )
        for silence in client.silences()
    ]
    none = '<p class="dim">There are none.</p>'
    return "<h2>Silences</h2>" + (html.table(("alerts", "until (UTC)", "by", "why"), rows) if rows else none)


def _clock(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%H:%M:%S}"
