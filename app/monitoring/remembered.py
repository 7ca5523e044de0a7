"""Values from the database for metrics: a scrape must be cheap, however often it comes."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from django.db import Error

T = TypeVar("T")


class Remembered(Generic[T]):
    """What `read` returns, read again after `every` seconds.

    After a failure of the database it is None, and is read again after `retry` seconds, so that it returns soon.
    """

    def __init__(self, read: Callable[[], T], every: float, retry: float) -> None:
        self._read, self._every, self._retry, self._lock = read, every, retry, Lock()
        self._value: T | None = None
        self._next = 0.0

    def value(self) -> T | None:
        with self._lock:
            if time.monotonic() >= self._next:
                self._value = self._look()
                self._next = time.monotonic() + (self._retry if self._value is None else self._every)
            return self._value

    def forget(self) -> None:
        """Read it again at the next time."""
        self._next = 0.0

    def _look(self) -> T | None:
        try:
            return self._read()
        except Error:
            return None
