"""Client of the watch: requests a test message and follows where it arrives."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from alerts.discovery import find_url
from alerts.login import Login, login
from sidecar import OpsError
from sidecar.http import session

PORT = 9810
CONTAINER = "posthub_alert_watch"
TIMEOUT = 10
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """Result of a test message at one receiver.

    Args:
        evidence: ``read-back`` or ``accepted``.
        seconds: delivery time; None if it did not arrive.
    """

    receiver: str
    evidence: str
    seconds: float | None


class TestMessage:
    """A test message that a watch was asked to send.

    Raises:
        OpsError: the watch does not answer.
    """

    # pytest must not collect this class.
    __test__ = False

    def __init__(self, url: str, login: Login | None = None) -> None:
        self._url = url.rstrip("/")
        self._session = session()
        self._session.auth = login
        self._before = float(self._state()["sent"])
        self._ask("POST")

    def follow(self, *, patience: float) -> Iterator[Seen]:
        """Yield each receiver when the message arrives there, and after ``patience`` seconds the remaining ones."""
        until = time.monotonic() + patience
        state = self._once_sent(until)
        left = set(state["arrivals"])
        while left:
            is_over = time.monotonic() >= until
            reported = left if is_over else left - set(state["awaited"])
            yield from (_seen(state, receiver) for receiver in sorted(reported))
            left = left - reported
            if left:
                time.sleep(POLL_SECONDS)
                state = self._state()

    def _once_sent(self, until: float) -> Any:
        while True:
            state = self._state()
            if state["sent"] > self._before:
                return state
            if time.monotonic() >= until:
                raise OpsError("no test message was sent", hint="the watch's log has the reason")
            time.sleep(POLL_SECONDS)

    def _state(self) -> Any:
        return self._ask("GET").json()

    def _ask(self, method: str) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._url}/canary", timeout=TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise OpsError(
                f"the watch at {self._url} does not answer: {type(error).__name__}",
                hint="set its address with --url or ALERTS_WATCH_URL; ./ops alerts watch runs one",
            ) from None
        return answer


def send(url: str | None) -> TestMessage:
    """Request a test message from the watch at the given address, on this machine or in the compose project."""
    found = find_url(url, port=PORT, container=CONTAINER, page="/healthz")
    return TestMessage(found, login(os.environ))


def _seen(state: Any, receiver: str) -> Seen:
    missed = receiver in state["awaited"]
    seconds = None if missed else float(state["arrivals"][receiver]["seconds"])
    return Seen(receiver, state["evidence"][receiver], seconds)
