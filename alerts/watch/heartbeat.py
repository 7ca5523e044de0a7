"""The dead-man's switch: called while Watchdog arrives, so that silence means that something is broken."""

import logging
from collections.abc import Callable

import requests

from sidecar.logs import fields

log = logging.getLogger(__name__)

TIMEOUT = 10
TRIES = 3


class Heartbeat:
    """Calls an address in the style of healthchecks.

    Args:
        url: None when there is none.
        clock: seconds since the epoch.
        last_success: when it answered before a restart, 0 never.
    """

    def __init__(self, url: str | None, *, clock: Callable[[], float], last_success: float = 0.0) -> None:
        self._url = url
        self._clock = clock
        self.last_success = last_success if url else 0.0
        self.failures = 0

    @property
    def configured(self) -> bool:
        return self._url is not None

    def beat(self) -> bool:
        """Call it; returns whether it answered well."""
        if self._url is None:
            return False
        problem = ""
        for _ in range(TRIES):
            problem = _problem(self._url)
            if not problem:
                self.last_success = self._clock()
                return True
        self.failures += 1
        # The address is a secret: who has it can keep the switch quiet.
        log.warning("dead-man's switch not reached %s", fields(problem=problem))
        return False


def _problem(url: str) -> str:
    try:
        answer = requests.get(url, timeout=TIMEOUT)
    except requests.RequestException as error:
        return type(error).__name__
    return "" if answer.ok else str(answer.status_code)
