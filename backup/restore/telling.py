"""How a restore tells where it is."""

from collections.abc import Callable
from dataclasses import dataclass

from backup.progress import Progress, silent


def nobody(_: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Telling:
    """Who is told what.

    Attributes:
        step: each step as it begins, in words.
        bytes: bytes that were downloaded.
        table: each table whose rows begin to be restored.
    """

    step: Callable[[str], object] = nobody
    bytes: Progress = silent
    table: Callable[[str], object] = nobody
