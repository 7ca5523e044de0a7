"""How long-running work tells how far it is."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int], object]
"""Told a number of bytes each time some have passed."""


def silent(_: int) -> None:
    """Nobody listens."""
