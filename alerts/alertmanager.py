"""Client of Alertmanager's HTTP API: post and list alerts, add, list and end silences."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from alerts.discovery import find_url
from alerts.login import Login, login
from sidecar import OpsError
from sidecar.http import session

PORT = 9093
CONTAINER = "posthub_alertmanager"
TIMEOUT = 10


@dataclass(frozen=True)
class Silence:
    """An active or pending silence."""

    id: str
    state: str
    matchers: tuple[str, ...]
    ends: str
    by: str
    comment: str


class Alertmanager:
    """An Alertmanager.

    Every method raises OpsError if Alertmanager does not answer or refuses the request.

    Args:
        url: its address, such as ``http://127.0.0.1:9093``.
        login: user and password, if it asks for them.
    """

    def __init__(self, url: str, login: Login | None = None) -> None:
        self.url = url.rstrip("/")
        self._session = session()
        self._session.auth = login

    def post_alert(
        self, labels: Mapping[str, str], annotations: Mapping[str, str], *, duration: timedelta
    ) -> None:
        """Post an alert as Prometheus would. It resolves when ``duration`` is over."""
        now = datetime.now(UTC)
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": now.isoformat(),
            "endsAt": (now + duration).isoformat(),
        }
        self._ask("POST", "alerts", [alert])

    def alerts(self) -> list[dict[str, Any]]:
        """List all alerts with their state and receivers."""
        found: list[dict[str, Any]] = self._ask("GET", "alerts")
        return found

    def fate_of(self, labels: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The receivers of the alert with these labels, and the reasons why they are not notified."""
        alert = next((alert for alert in self.alerts() if alert["labels"] == dict(labels)), None)
        if alert is None:
            return [], []
        suppressed = [f"silenced by {silence}" for silence in alert["status"]["silencedBy"]]
        suppressed += [f"inhibited by alert {cause}" for cause in alert["status"]["inhibitedBy"]]
        return [receiver["name"] for receiver in alert["receivers"]], suppressed

    def silence(self, matchers: Sequence[str], *, duration: timedelta, by: str, comment: str) -> str:
        """Add a silence and return its ID.

        Args:
            matchers: ``name=value``, ``name=~regex`` or an alert's name; all must match.
        """
        now = datetime.now(UTC)
        body = {
            "matchers": [matcher(text) for text in matchers],
            "startsAt": now.isoformat(),
            "endsAt": (now + duration).isoformat(),
            "createdBy": by,
            "comment": comment,
        }
        return str(self._ask("POST", "silences", body)["silenceID"])

    def silences(self) -> list[Silence]:
        """The silences that have not expired, sorted by end."""
        found = [
            _silence(silence)
            for silence in self._ask("GET", "silences")
            if silence["status"]["state"] != "expired"
        ]
        return sorted(found, key=lambda silence: silence.ends)

    def expire(self, silence: str) -> None:
        """End a silence."""
        self._ask("DELETE", f"silence/{silence}")

    def metrics(self) -> str:
        """Return its own metrics page.

        Raises:
            requests.RequestException: it does not answer.
        """
        answer = self._session.get(f"{self.url}/metrics", timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.text

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise OpsError(
                f"Alertmanager at {self.url} does not answer: {type(error).__name__}",
                hint="set its address with --url or ALERTMANAGER_URL",
            ) from None
        if answer.status_code >= 400:
            raise OpsError(
                f"Alertmanager refused {method} {path}: {answer.status_code} {answer.text.strip()[:200]}",
                hint="see ./ops alerts --help",
            )
        return answer.json() if answer.content else None


def matcher(text: str) -> dict[str, Any]:
    """Parse ``severity=warning``, ``queue_name=~ai.*``, ``host!=a`` or an alert's name into the API's form."""
    for sign, is_equal, is_regex in (
        ("=~", True, True),
        ("!~", False, True),
        ("!=", False, False),
        ("=", True, False),
    ):
        name, found, value = text.partition(sign)
        if found:
            return {"name": name, "value": value, "isEqual": is_equal, "isRegex": is_regex}
    return {"name": "alertname", "value": text, "isEqual": True, "isRegex": False}


def find(given: str | None) -> Alertmanager:
    """The Alertmanager at the given address; by default the one on this machine or in the compose project."""
    return Alertmanager(find_url(given, port=PORT, container=CONTAINER, page="/-/ready"), login(os.environ))


def _silence(document: Mapping[str, Any]) -> Silence:
    signs = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
    matchers = tuple(
        f"{each['name']}{signs[each.get('isEqual', True), each['isRegex']]}{each['value']}"
        for each in document["matchers"]
    )
    return Silence(
        id=document["id"],
        state=document["status"]["state"],
        matchers=matchers,
        ends=document["endsAt"],
        by=document["createdBy"],
        comment=document["comment"],
    )
