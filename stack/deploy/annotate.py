"""Grafana annotations: each deployment is marked on the graphs."""

import json
import os
import time
from pathlib import Path

import requests

from sidecar.http import outside_session
from stack.deploy.runner import Runner
from stack.doctor.host import COMPOSE

TAG = "deploy"
PASSWORD = Path("secrets") / "values" / "GRAFANA_ADMIN_PASSWORD"
OWN = "http://posthub_grafana:3000/grafana"
# Run in a container that reaches Grafana: its port is not published, and Caddy asks for another password.
PROGRAM = """
import base64, json, sys, urllib.request
url, password, body = json.loads({given!r})
key = base64.b64encode(f"admin:{{password}}".encode()).decode()
headers = {{"Authorization": f"Basic {{key}}", "Content-Type": "application/json"}}
request = urllib.request.Request(f"{{url}}/api/annotations", json.dumps(body).encode(), headers)
urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request, timeout=10)
"""


def annotate(url: str, text: str) -> str | None:
    """Post it with GRAFANA_TOKEN, or as admin with GRAFANA_ADMIN_PASSWORD. Returns the problem, if any.

    A missing annotation must not fail a deployment.
    """
    token, password = os.environ.get("GRAFANA_TOKEN"), os.environ.get("GRAFANA_ADMIN_PASSWORD")
    try:
        with outside_session() as client:
            if token:
                client.headers["Authorization"] = f"Bearer {token}"
            elif password:
                client.auth = ("admin", password)
            answer = client.post(f"{url.rstrip('/')}/api/annotations", json=_body(text), timeout=10)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.ok else f"HTTP {answer.status_code}"


def annotate_own(root: Path, runner: Runner, text: str, url: str = OWN) -> str | None:
    """Post it to the Grafana of this host's stack. Returns the problem, if any."""
    try:
        password = (root / PASSWORD).read_text(encoding="utf-8").strip()
    except OSError as error:
        return f"{PASSWORD}: {error.strerror}"
    # On standard input, so that the list of processes does not show the password.
    program = PROGRAM.format(given=json.dumps([url, password, _body(text)]))
    done = runner.run(*COMPOSE, "exec", "-T", "posthub_api_prod", "python", "-", stdin=program)
    return None if done.code == 0 else done.last_line


def _body(text: str) -> dict[str, object]:
    return {"time": int(time.time() * 1000), "tags": [TAG], "text": text}
