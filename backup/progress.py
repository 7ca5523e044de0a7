"""How long-running work reports its progress, and how long each of its stages took."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeAlias

from sidecar.humanize import size
from sidecar.logs import fields

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int], object]
"""Called with a number of bytes each time some have passed."""


LOG_SECONDS = 60.0


def silent(_: int) -> None:
    """Report no bytes."""


class Meter:
    """Counts the bytes of work in progress. Within its block it logs them each minute: the work may take hours.

    Args:
        name: of the database.
        progress: is called with each number of bytes too.
        work: what is in progress, for the log.
        expected: the number of bytes at its end; 0 if not known.

    Attributes:
        done: bytes so far.
    """

    def __init__(
        self,
        name: str,
        progress: Progress = silent,
        clock: Callable[[], float] = time.monotonic,
        *,
        work: str = "backup",
        expected: int = 0,
    ) -> None:
        self.done = 0
        self.expected = expected
        self._name = name
        self._work = work
        self._progress = progress
        self._clock = clock
        self._begun = clock()
        self._adding = threading.Lock()

    def add(self, count: int) -> None:
        """Some bytes have passed. Any thread may call this."""
        with self._adding:
            self.done += count
            self._progress(count)

    def report(self) -> None:
        """Log how far the work is."""
        log.info("%s in progress %s", self._work, fields(**self._facts(self._clock())))

    @contextmanager
    def reporting(self, seconds: float = LOG_SECONDS) -> Iterator[Self]:
        """Log it each minute within the block, even while no bytes pass."""
        over = threading.Event()

        def report() -> None:
            while not over.wait(seconds):
                self.report()

        thread = threading.Thread(target=report, name="progress", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()

    def _facts(self, now: float) -> dict[str, object]:
        rate = self.done / max(now - self._begun, 0.001)
        facts: dict[str, object] = {"database": self._name, "bytes": self.done, "rate": f"{size(rate)}/s"}
        if self.expected > self.done:
            facts["expected"] = self.expected
            if rate:
                facts["seconds_left"] = round((self.expected - self.done) / rate)
        return facts


def ignore(_: str) -> None:
    """Report no steps and no tables."""


@dataclass(frozen=True)
class Reporter:
    """Where a restore or a drill reports its progress.

    Attributes:
        step: called with a description of each step as it begins.
        bytes: called with each number of bytes that were downloaded, restored from an archive, or compared.
        table: called with the name of each table whose rows begin to be restored.
    """

    step: Callable[[str], object] = ignore
    bytes: Progress = silent
    table: Callable[[str], object] = ignore


class Timings:
    """A stopwatch: seconds by stage. The times of a stage that is entered twice add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.monotonic() - begin, 3)
