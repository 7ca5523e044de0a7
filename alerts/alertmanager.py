"""Alertmanager's HTTP API: put an alert in, silence, list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from alerts.finding import find_url
from sidecar import OpsError
from sidecar.http import session

PORT = 9093
CONTAINER = "posthub_alertmanager"
TIMEOUT = 10


@dataclass(frozen=True)
class Silence:
    """One silence that is in force or will be."""

    id: str
    state: str
    matchers: tuple[str, ...]
    ends: str
    by: str
    comment: str


class Alertmanager:
    """One Alertmanager."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session = session()

    def post_alert(
        self, labels: Mapping[str, str], annotations: Mapping[str, str], *, lasts: timedelta
    ) -> None:
        """Put an alert in as Prometheus would; it resolves by itself at its end."""
        now = datetime.now(UTC)
        alert = {
            "labels": dict(labels),
            "annotations": dict(annotations),
            "startsAt": now.isoformat(),
            "endsAt": (now + lasts).isoformat(),
        }
        self._ask("POST", "alerts", [alert])

    def alerts(self) -> list[dict[str, Any]]:
        """All alerts, with their state and receivers."""
        found: list[dict[str, Any]] = self._ask("GET", "alerts")
        return found

    def fate_of(self, labels: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The receivers of the alert with these labels, and what keeps it from them."""
        one = next((one for one in self.alerts() if one["labels"] == dict(labels)), None)
        if one is None:
            return [], []
        held_back = [f"silenced by {silence}" for silence in one["status"]["silencedBy"]]
        held_back += [f"inhibited by alert {cause}" for cause in one["status"]["inhibitedBy"]]
        return [receiver["name"] for receiver in one["receivers"]], held_back

    def silence(self, matchers: Sequence[str], *, lasts: timedelta, by: str, comment: str) -> str:
        """Silence what matches all of ``name=value``, ``name=~regex`` or a bare alert name; returns the id."""
        now = datetime.now(UTC)
        body = {
            "matchers": [matcher(text) for text in matchers],
            "startsAt": now.isoformat(),
            "endsAt": (now + lasts).isoformat(),
            "createdBy": by,
            "comment": comment,
        }
        return str(self._ask("POST", "silences", body)["silenceID"])

    def silences(self) -> list[Silence]:
        """The silences that have not expired, first to end first."""
        found = [_silence(one) for one in self._ask("GET", "silences") if one["status"]["state"] != "expired"]
        return sorted(found, key=lambda silence: silence.ends)

    def expire(self, silence: str) -> None:
        """End a silence."""
        self._ask("DELETE", f"silence/{silence}")

    def metrics(self) -> str:
        """Its own metrics. Raises requests' errors."""
        answer = self._session.get(f"{self.url}/metrics", timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.text

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = self._session.request(method, f"{self.url}/api/v2/{path}", json=body, timeout=TIMEOUT)
        except requests.RequestException as error:
            raise OpsError(
                f"Alertmanager at {self.url} does not answer: {type(error).__name__}",
                hint="name its address with --url or ALERTMANAGER_URL",
            ) from None
        if answer.status_code >= 400:
            raise OpsError(
                f"Alertmanager refused {method} {path}: {answer.status_code} {answer.text.strip()[:200]}",
                hint="see ./ops alerts --help",
            )
        return answer.json() if answer.content else None


def matcher(text: str) -> dict[str, Any]:
    """``severity=warning``, ``queue_name=~ai.*``, ``host!=a`` or an alert's name, for the API."""
    for sign, is_equal, is_regex in (("=~", True, True), ("!~", False, True), ("!=", False, False), ("=", True, False)):  # fmt: skip
        name, found, value = text.partition(sign)
        if found:
            return {"name": name, "value": value, "isEqual": is_equal, "isRegex": is_regex}
    return {"name": "alertname", "value": text, "isEqual": True, "isRegex": False}


def find(given: str | None) -> Alertmanager:
    """The Alertmanager at the address given, else the one of this machine or of the compose project."""
    return Alertmanager(find_url(given, port=PORT, container=CONTAINER, page="/-/ready"))


def _silence(document: Mapping[str, Any]) -> Silence:
    signs = {(True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~"}
    matchers = tuple(
        f"{one['name']}{signs[one.get('isEqual', True), one['isRegex']]}{one['value']}"
        for one in document["matchers"]
    )
    return Silence(
        id=document["id"],
        state=document["status"]["state"],
        matchers=matchers,
        ends=document["endsAt"],
        by=document["createdBy"],
        comment=document["comment"],
    )
