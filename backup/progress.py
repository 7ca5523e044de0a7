"""How long-running work reports its progress, and how long each of its stages took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], object]
"""Called with a number of bytes each time some have passed."""


def silent(_: int) -> None:
    """Report no bytes."""


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
