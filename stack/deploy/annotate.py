"""A mark on every Grafana graph: what was deployed when the line bent."""

import os
import time

import requests

from stack.http import session

TAG = "deploy"


def annotate(url: str, text: str) -> str | None:
    """Post it with GRAFANA_TOKEN, or as admin with GRAFANA_ADMIN_PASSWORD. Returns what went wrong, if anything did.

    A mark is never worth a failed deployment.
    """
    token, password = os.environ.get("GRAFANA_TOKEN"), os.environ.get("GRAFANA_ADMIN_PASSWORD")
    body = {"time": int(time.time() * 1000), "tags": [TAG], "text": text}
    try:
        with session() as client:
            if token:
                client.headers["Authorization"] = f"Bearer {token}"
            elif password:
                client.auth = ("admin", password)
            answer = client.post(f"{url.rstrip('/')}/api/annotations", json=body, timeout=10)
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.ok else f"HTTP {answer.status_code}"
