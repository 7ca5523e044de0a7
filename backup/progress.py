"""How long-running work reports its progress, and how long each of its stages took."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

from sidecar.humanize import size
from sidecar.logs import fields

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int], object]
"""Called with a number of bytes each time some have passed."""


LOG_SECONDS = 60.0


def silent(_: int) -> None:
    """Report no bytes."""


class Meter:
    """Counts the bytes of a run in progress, and logs them each minute: a dump may take hours.

    Args:
        name: of the database.
        progress: is called with each number of bytes too.

    Attributes:
        done: uncompressed bytes so far.
        expected: those of the last backup; 0 if there is none.
    """

    def __init__(self, name: str, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.done = 0
        self.expected = 0
        self._name = name
        self._progress = progress
        self._clock = clock
        self._begun = self._logged = clock()

    def add(self, count: int) -> None:
        """Some bytes have passed."""
        self.done += count
        self._progress(count)
        now = self._clock()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            log.info("backup in progress %s", fields(**self._facts(now)))

    def _facts(self, now: float) -> dict[str, object]:
        rate = self.done / max(now - self._begun, 0.001)
        facts: dict[str, object] = {"database": self._name, "bytes": self.done, "rate": f"{size(rate)}/s"}
        if self.expected > self.done:
            facts |= {"expected": self.expected, "seconds_left": round((self.expected - self.done) / rate)}
        return facts


def ignore(_: str) -> None:
    """Report no steps and no tables."""


@dataclass(frozen=True)
class Reporter:
    """Where a restore or a drill reports its progress.

    Attributes:
        step: called with a description of each step as it begins.
        bytes: called with each number of bytes that were downloaded.
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
