"""Supervised threads: an exception is logged and counted, and the thread is restarted."""

import logging
import threading
import time
from collections.abc import Callable

from exporters.backoff import delays
from sidecar.logs import fields

log = logging.getLogger(__name__)

MAX_PAUSE = 5.0


class Supervised:
    """Runs a body on a daemon thread until stopped; restarts it if it raises or returns.

    Args:
        name: the name of the thread, and of its errors.
        body: runs until the event that it receives is set.
    """

    def __init__(self, name: str, body: Callable[[threading.Event], None]) -> None:
        self.name = name
        self.errors = 0
        self._body = body
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        waits = delays(0.1, MAX_PAUSE)
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                self._body(self._stop)
            except Exception:
                self.errors += 1
                log.exception("thread failed and is restarted %s", fields(thread=self.name))
            if time.monotonic() - started > MAX_PAUSE:
                # It ran well for a while, so a new streak of failures begins.
                waits = delays(0.1, MAX_PAUSE)
            self._stop.wait(next(waits))


class Periodic:
    """A job that runs at a steady interval; its failures are counted, and logged once per streak.

    Args:
        name: the name of the thread, and of its errors.
        job: what to do.
        interval: seconds from one start to the next.
        unfinished: whether the next round is to follow at once, unless the last one failed.

    Attributes:
        duration: seconds that the last round took; None before the first.
        failing: why the last round failed; empty if it succeeded.
        started_at: monotonic time at which the round in progress began; None between rounds.
    """

    def __init__(
        self, name: str, job: Callable[[], None], interval: float, unfinished: Callable[[], bool] = bool
    ) -> None:
        self.name = name
        self.errors = 0
        self.duration: float | None = None
        self.failing = ""
        self.started_at: float | None = None
        self.thread = Supervised(name, self._loop)
        self._job = job
        self._interval = interval
        self._unfinished = unfinished

    def run_once(self) -> None:
        """Run the job now; a failure is counted, not raised."""
        started = self.started_at = time.monotonic()
        try:
            self._job()
        except Exception as error:
            self._failed(error)
        else:
            self.failing = ""
        self.duration = time.monotonic() - started
        self.started_at = None

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        text = f"{type(error).__name__}: {error}"
        if text != self.failing:
            log.warning("collector failed %s", fields(collector=self.name, error=text))
        self.failing = text

    def _loop(self, stop: threading.Event) -> None:
        while not stop.is_set():
            started = time.monotonic()
            self.run_once()
            if not self.failing and self._unfinished():
                continue
            stop.wait(max(0.05, self._interval - (time.monotonic() - started)))
