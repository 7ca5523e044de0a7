"""Asking a running watch to send a test message now, and following where it arrives."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from alerts.finding import find_url
from sidecar import OpsError
from sidecar.http import session

PORT = 9810
CONTAINER = "posthub_alert_watch"
TIMEOUT = 10
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Seen:
    """What became of a test message at one receiver.

    Args:
        seconds: how long it took; None when it was not seen.
    """

    receiver: str
    evidence: str
    seconds: float | None


class Asked:
    """A watch that was asked for a test message."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = session()
        self._before = float(self._state()["sent"])
        self._ask("POST")

    def follow(self, *, patience: float) -> Iterator[Seen]:
        """Each receiver when the message is seen there, and in the end those where it was not."""
        until = time.monotonic() + patience
        state = self._once_sent(until)
        left = set(state["arrivals"])
        while left:
            is_over = time.monotonic() >= until
            told = left if is_over else left - set(state["awaited"])
            yield from (_seen(state, receiver) for receiver in sorted(told))
            left = left - told
            if left:
                time.sleep(LOOK_SECONDS)
                state = self._state()

    def _once_sent(self, until: float) -> Any:
        while True:
            state = self._state()
            if state["sent"] > self._before:
                return state
            if time.monotonic() >= until:
                raise OpsError("no test message was sent", hint="the watch's log says why")
            time.sleep(LOOK_SECONDS)

    def _state(self) -> Any:
        return self._ask("GET").json()

    def _ask(self, method: str) -> requests.Response:
        try:
            answer = self._session.request(method, f"{self._url}/canary", timeout=TIMEOUT)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise OpsError(
                f"the watch at {self._url} does not answer: {type(error).__name__}",
                hint="name its address with --url or ALERTS_WATCH_URL; ./ops alerts watch runs one",
            ) from None
        return answer


def ask(url: str | None) -> Asked:
    """Ask the watch at the address given, else the one of this machine or of the compose project."""
    return Asked(find_url(url, port=PORT, container=CONTAINER, page="/healthz"))


def _seen(state: Any, receiver: str) -> Seen:
    missed = receiver in state["awaited"]
    seconds = None if missed else float(state["arrivals"][receiver]["seconds"])
    return Seen(receiver, state["evidence"][receiver], seconds)
