"""A round of work on many databases: what is created once for all of them is kept until its end."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

Make = Callable[[ExitStack], Path]
"""Makes something in a folder, which the stack removes."""


class Round:
    """What is kept while a round is in progress. One thread may use it."""

    def __init__(self) -> None:
        self._stack: ExitStack | None = None
        self._kept: dict[Hashable, Path] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """A round for the block; within another one, a part of that one."""
        if self._stack is not None:
            yield
            return
        with ExitStack() as stack:
            self._stack = stack
            try:
                yield
            finally:
                self._stack = None
                self._kept.clear()

    def once(self, key: Hashable, make: Make) -> Path | None:
        """What was created in this round, or is created now; None if there is no round. After a failure, the next one tries again."""
        if self._stack is None:
            return None
        if key not in self._kept:
            self._kept[key] = make(self._stack)
        return self._kept[key]
