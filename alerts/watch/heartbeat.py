"""The dead-man's switch: called while Watchdog arrives, so that silence means that something is broken."""

from collections.abc import Callable

from sidecar import deadman


class Heartbeat:
    """Calls a URL in the style of healthchecks, and counts.

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
        """Call it; returns whether it accepted the call."""
        if self._url is None:
            return False
        if not deadman.call(self._url):
            self.failures += 1
            return False
        self.last_success = self._clock()
        return True
