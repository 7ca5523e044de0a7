"""Sends the dashboards to a Grafana through its HTTP API. Doing it again changes nothing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from dashboards.live import committed
from sidecar.errors import OpsError, UsageError

TIMEOUT = 30
TOKEN = "GRAFANA_TOKEN"  # noqa: S105 — the name of the variable, not a token
FOLDER_UID = "posthub"
MESSAGE = "Pushed by ./ops dashboards push"


def read_token(file: Path | None) -> str:
    """Return the token from `file` or the environment; never from the command line, which others can see."""
    token = file.read_text(encoding="utf-8").strip() if file else os.environ.get(TOKEN, "")
    if not token:
        raise UsageError(
            "no Grafana token", hint=f"set {TOKEN} or give --token-file; a service account token will do"
        )
    return token


class Grafana:
    """Grafana's HTTP API, as far as dashboards need it."""

    def __init__(self, url: str, token: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                f"{url!r} is not an address of Grafana", hint="--url https://grafana.example.org"
            )
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def ensure_folder(self, title: str, uid: str = FOLDER_UID) -> bool:
        """Create the folder when it is not there; return whether it was created."""
        found = self._ask("GET", f"/api/folders/{uid}", expected=(200, 404))
        if found.status_code == 200:
            return False
        self._ask("POST", "/api/folders", json={"uid": uid, "title": title})
        return True

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """Return the dashboard as Grafana has it, or None."""
        found = self._ask("GET", f"/api/dashboards/uid/{uid}", expected=(200, 404))
        return dict(found.json()) if found.status_code == 200 else None

    def save(self, dashboard: dict[str, Any], folder_uid: str = FOLDER_UID) -> None:
        """Create or replace a dashboard."""
        body = {"dashboard": dashboard, "folderUid": folder_uid, "message": MESSAGE, "overwrite": True}
        self._ask("POST", "/api/dashboards/db", json=body)

    def _ask(
        self, method: str, path: str, *, json: Any = None, expected: tuple[int, ...] = (200,)
    ) -> requests.Response:
        try:
            answer = self._session.request(
                method, self.url + path, json=json, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            raise OpsError(
                f"Grafana at {self.url} does not answer ({type(error).__name__})",
                hint="check --url, and that Grafana runs",
            ) from error
        if answer.status_code not in expected:
            raise _refused(self.url, method, path, answer)
        return answer


def push_all(grafana: Grafana, folder: str) -> Iterator[str]:
    """Bring Grafana up to the committed dashboards; yield what was done to each."""
    created = grafana.ensure_folder(folder)
    yield f"folder {folder}: {'created' if created else 'there'}"
    for dashboard in committed():
        yield f"{dashboard['uid']}: {_push(grafana, dashboard)}"


def _push(grafana: Grafana, dashboard: dict[str, Any]) -> str:
    there = grafana.dashboard(dashboard["uid"])
    if there and _same(there, dashboard):
        return "unchanged"
    grafana.save(dashboard)
    return "updated" if there else "created"


def _same(there: dict[str, Any], dashboard: dict[str, Any]) -> bool:
    """Compare what we say: Grafana keeps its own id, counts versions and fills in defaults of newer schemas."""
    ours = {key: value for key, value in dashboard.items() if key not in _GRAFANAS_OWN}
    return _contains(there["dashboard"], ours) and there.get("meta", {}).get("folderUid") == FOLDER_UID


def _contains(theirs: Any, ours: Any) -> bool:
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(
            _contains(theirs.get(key), value) for key, value in ours.items()
        )
    if isinstance(ours, list):
        same_length = isinstance(theirs, list) and len(theirs) == len(ours)
        return same_length and all(map(_contains, theirs, ours))
    return bool(theirs == ours)


_GRAFANAS_OWN = {"id", "version", "schemaVersion"}
_HINTS = {
    401: "the token is wrong or expired: make a service account token in Grafana",
    403: "the token may not do this: give its service account the role Editor",
    404: "check --url: is it Grafana's root address?",
    412: "someone else changed the dashboard meanwhile: push again",
}


def _refused(url: str, method: str, path: str, answer: requests.Response) -> OpsError:
    try:
        reason = str(answer.json().get("message", "")) or answer.reason
    except (requests.JSONDecodeError, AttributeError):
        reason = answer.reason
    hint = _HINTS.get(answer.status_code, "look into Grafana's log")
    return OpsError(f"Grafana at {url} refused {method} {path}: {answer.status_code} {reason}", hint=hint)
