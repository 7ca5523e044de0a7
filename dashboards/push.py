"""Sends the dashboards to a Grafana through its HTTP API. Repeating it changes nothing."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from dashboards.live_check import committed
from sidecar.address import checked, shown
from sidecar.errors import OpsError, UsageError
from sidecar.http import outside_session

TIMEOUT = 30
TOKEN = "GRAFANA_TOKEN"  # noqa: S105 — the name of the variable, not a token
FOLDER_UID = "posthub"
MESSAGE = "Pushed by ./ops dashboards push"


def read_token(file: Path | None) -> str:
    """Return the token from `file` or the environment; never from the command line, which others can see."""
    token = file.read_text(encoding="utf-8", errors="replace").strip() if file else os.environ.get(TOKEN, "")
    hint = f"set {TOKEN} or give --token-file; use a service account token"
    if not token:
        raise UsageError("no Grafana token", hint=hint)
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError("the Grafana token has characters that are not allowed in a token", hint=hint)
    return token


class Grafana:
    """Grafana's HTTP API, as far as dashboards need it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = checked(url, "Grafana", "--url https://grafana.example.org")
        self._session = outside_session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def ensure_folder(self, title: str, uid: str = FOLDER_UID) -> str:
        """Create the folder, or give it this title; return what was done."""
        found = self._ask("GET", f"/api/folders/{uid}", expected=(200, 404))
        if found is None:
            self._ask("POST", "/api/folders", json={"uid": uid, "title": title})
            return "created"
        if found.get("title") == title:
            return "there"
        self._ask("PUT", f"/api/folders/{uid}", json={"title": title, "overwrite": True})
        return f"renamed, it was {found.get('title')}"

    def dashboard(self, uid: str) -> dict[str, Any] | None:
        """Return the dashboard as Grafana has it, or None."""
        return self._ask("GET", f"/api/dashboards/uid/{uid}", expected=(200, 404))

    def save(self, dashboard: dict[str, Any], folder_uid: str = FOLDER_UID) -> None:
        """Create or replace a dashboard."""
        body = {"dashboard": dashboard, "folderUid": folder_uid, "message": MESSAGE, "overwrite": True}
        self._ask("POST", "/api/dashboards/db", json=body)

    def _ask(
        self, method: str, path: str, *, json: Any = None, expected: tuple[int, ...] = (200,)
    ) -> dict[str, Any] | None:
        """Return the answer; None if nothing was found and that was `expected`."""
        try:
            answer = self._session.request(
                method, self._url + path, json=json, timeout=TIMEOUT, allow_redirects=False
            )
        except requests.RequestException as error:
            raise OpsError(
                f"Grafana at {shown(self._url)} does not answer ({type(error).__name__})",
                hint="check --url, and that Grafana runs",
            ) from error
        if answer.status_code not in expected:
            raise _refused(shown(self._url), method, path, answer)
        return _read(shown(self._url), answer) if answer.ok else None


def push_all(grafana: Grafana, folder: str) -> Iterator[str]:
    """Update Grafana to the committed dashboards; yield what was done to each."""
    yield f"folder {folder}: {grafana.ensure_folder(folder)}"
    for dashboard in committed():
        yield f"{dashboard['uid']}: {_push(grafana, dashboard)}"


def _push(grafana: Grafana, dashboard: dict[str, Any]) -> str:
    there = grafana.dashboard(dashboard["uid"])
    if there and _same(there, dashboard):
        return "unchanged"
    grafana.save(dashboard)
    return "updated" if there else "created"


def _same(there: dict[str, Any], dashboard: dict[str, Any]) -> bool:
    """Compare only what we send: Grafana has its own ID, counts versions and adds defaults of newer schemas."""
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
_NOT_GRAFANA = "check --url: a log-in page or a proxy answers there, not Grafana"
_HINTS = {
    **dict.fromkeys((301, 302, 303, 307, 308), _NOT_GRAFANA),
    401: "the token is wrong or expired: create a service account token in Grafana",
    403: "the token may not do this: give its service account the role Editor",
    404: "check --url: is it Grafana's root address?",
    412: "the dashboard was changed in the meantime: push again",
}


def _read(url: str, answer: requests.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except requests.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise OpsError(f"{url} does not answer as Grafana does", hint=_NOT_GRAFANA)
    return found


def _refused(url: str, method: str, path: str, answer: requests.Response) -> OpsError:
    try:
        reason = str(answer.json().get("message", "")) or answer.reason
    except (requests.JSONDecodeError, AttributeError):
        reason = answer.reason
    hint = _HINTS.get(answer.status_code, "read Grafana's log")
    return OpsError(f"Grafana at {url} refused {method} {path}: {answer.status_code} {reason}", hint=hint)
