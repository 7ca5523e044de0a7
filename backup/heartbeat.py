"""Tells a dead-man switch outside how it goes: silence there means that somebody is called."""

import logging
import time

import requests
from pydantic import SecretStr

from backup.settings import BackupSettings

log = logging.getLogger(__name__)

TRIES = 3
SECONDS = 10.0
MOST_TEXT = 2000


class Pings:
    """The three calls; each is only made if its URL is set, and none ever fails the work that it tells of."""

    def __init__(self, settings: BackupSettings) -> None:
        self._settings = settings

    def started(self) -> None:
        """A run begins."""
        self._call("start", self._settings.ping_start_url)

    def proven(self) -> None:
        """A backup was made and verified; nothing less counts as success."""
        self._call("success", self._settings.ping_url)

    def failed(self, reason: str) -> None:
        """A run or its verification failed."""
        self._call("failure", self._settings.ping_failure_url, reason)

    def _call(self, name: str, url: SecretStr | None, text: str = "") -> None:
        if url is None:
            return
        for attempt in range(TRIES):
            problem = _request(url.get_secret_value(), text)
            if problem is None:
                return
            # The address is a secret of its own, so it is not repeated.
            log.warning("the %s ping failed, attempt %d of %d: %s", name, attempt + 1, TRIES, problem)
            time.sleep(attempt)


def _request(url: str, text: str) -> str | None:
    try:
        answer = (
            requests.post(url, data=text[:MOST_TEXT].encode(), timeout=SECONDS)
            if text
            else requests.get(url, timeout=SECONDS)
        )
    except requests.RequestException as error:
        return type(error).__name__
    return None if answer.ok else f"HTTP {answer.status_code}"
