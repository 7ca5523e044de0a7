"""Work next to a measurement: a thread that ends with the block."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Background(ABC):
    """A subclass works in :meth:`work` until :attr:`ending` is set."""

    def __init__(self) -> None:
        self.ending = threading.Event()
        self._thread = threading.Thread(target=self.work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._thread.join()

    @abstractmethod
    def work(self) -> None:
        """Runs on the thread."""
