"""Pings the dead man's switch while Watchdog arrives."""

from collections.abc import Callable

from sidecar import deadman


class Heartbeat:
    """Pings a URL in the style of healthchecks, and counts failures.

    Args:
        url: None if none is configured.
        clock: seconds since the epoch.
        last_success: Unix time of the last successful ping before a restart; 0 = never.
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
        """Ping it; returns whether it answered with success."""
        if self._url is None:
            return False
        if not deadman.call(self._url):
            self.failures += 1
            return False
        self.last_success = self._clock()
        return True
