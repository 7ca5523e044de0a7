"""The call to a dead man's switch: an external service that alerts people when the calls stop."""

import logging
import time
from collections.abc import Callable

import requests

from sidecar import http
from sidecar.logs import fields

log = logging.getLogger(__name__)

ATTEMPTS = 3
TIMEOUT_SECONDS = 10.0
LONGEST_TEXT = 2000


def call(
    url: str, text: str = "", *, name: str = "success", sleep: Callable[[float], None] = time.sleep
) -> bool:
    """Call a switch in the style of healthchecks, up to three times; returns whether it accepted the call.

    Nothing is raised: the work that reports to the switch must not fail because of it. Failures are logged without
    the URL, a secret with which anyone could keep the switch quiet.

    Args:
        url: called with GET, or with POST if there is a text.
        text: the reason of a failure; cut at 2,000 characters.
        name: what the call reports, for the log: ``start``, ``success`` or ``failure``.
        sleep: pauses between two attempts, for the given number of seconds.
    """
    for attempt in range(1, ATTEMPTS + 1):
        problem = _request(url, text)
        if not problem:
            return True
        log.warning(
            "dead man's switch not reached %s",
            fields(call=name, attempt=f"{attempt}/{ATTEMPTS}", problem=problem),
        )
        if attempt < ATTEMPTS:
            sleep(attempt - 1)
    return False


def _request(url: str, text: str) -> str:
    """What went wrong; empty when the call was accepted."""
    method, body = ("POST", text[:LONGEST_TEXT].encode()) if text else ("GET", None)
    try:
        with http.outside_session() as client:
            answer = client.request(method, url, data=body, timeout=TIMEOUT_SECONDS)
    except requests.RequestException as error:
        return type(error).__name__
    return "" if answer.ok else f"HTTP {answer.status_code}"
