"""Alertmanager's HTTP API: put an alert in, silence, list."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import requests

from sidecar import OpsError

DEFAULT_URL = "http://127.0.0.1:9093"
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
        self._session = requests.Session()
        # Alertmanager stands beside us; a proxy of the environment leads elsewhere.
        self._session.trust_env = False

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


def find_url(given: str | None) -> str:
    """The address given, else this machine's, else that of the compose project's container."""
    if given:
        return given
    return DEFAULT_URL if _answers(DEFAULT_URL) else (_container_url() or DEFAULT_URL)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=1).ok
    except requests.RequestException:
        return False


def _container_url() -> str | None:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    try:
        done = subprocess.run(
            ["docker", "inspect", "-f", form, CONTAINER],
            capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    addresses = done.stdout.split() if done.returncode == 0 else []
    return f"http://{addresses[0]}:9093" if addresses else None


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
