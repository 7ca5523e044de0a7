"""Bounded retries with backoff around any store, and a count of failures."""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from backup.cancellation import answered
from backup.errors import KeptError, NotFoundError, StoreError
from backup.store.base import ObjectInfo, PendingUpload, Refusal, Store, Upload

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts, and waits that double from ``first`` to ``longest`` seconds."""

    attempts: int = 5
    first: float = 0.5
    longest: float = 20.0

    def wait(self, attempt: int) -> float:
        """Seconds after the failed attempt with this number (1, 2, …): full jitter above a half."""
        ceiling: float = min(self.longest, self.first * 2 ** (attempt - 1))
        return ceiling * random.uniform(0.5, 1.0)


class RetryingStore(Store):
    """A store that retries transient failures.

    Attributes:
        errors: number of failed attempts by operation, for metrics.
    """

    def __init__(
        self, inner: Store, policy: RetryPolicy, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self.name = inner.name
        self.url = inner.url
        self.parallel = inner.parallel
        self.inner = inner
        self.errors: Counter[str] = Counter()
        self._policy = policy
        self._sleep = sleep
        self._lock = threading.Lock()

    def insist(self, action: Callable[[], T]) -> T:
        """Run an action, and retry it while its failure is transient and attempts remain."""
        attempt = 1
        while True:
            try:
                return answered(action)
            except StoreError as error:
                self._failed(error, attempt)
                if not error.transient or attempt >= self._policy.attempts:
                    raise
            self._sleep(self._policy.wait(attempt))
            attempt += 1

    def default_retention(self) -> str:
        return self.inner.default_retention()

    def check(self) -> None:
        self.insist(self.inner.check)

    def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
        try:
            self.insist(lambda: self.inner.put(key, data, retain_until=retain_until))
        except KeptError:
            # An attempt whose answer was lost may have stored it.
            if self.get(key) != data:
                raise

    def get(self, key: str) -> bytes:
        return self.insist(lambda: self.inner.get(key))

    def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
        """Resumes where it was cut. Each cut counts as a failed attempt; each piece that arrives resets the count."""
        attempt = 1
        while True:
            try:
                pieces = self.inner.stream(key, start=start)
                while (piece := answered(lambda: next(pieces, None))) is not None:  # noqa: B023 - called at once
                    yield piece
                    start, attempt = start + len(piece), 1
                return
            except StoreError as error:
                self._failed(error, attempt)
                if not error.transient or attempt >= self._policy.attempts:
                    raise
            self._sleep(self._policy.wait(attempt))
            attempt += 1

    def head(self, key: str) -> ObjectInfo | None:
        return self.insist(lambda: self.inner.head(key))

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        yield from self.insist(lambda: list(self.inner.walk(prefix)))

    def folders(self, prefix: str = "") -> list[str]:
        return self.insist(lambda: self.inner.folders(prefix))

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        wanted = list(keys)
        return self.insist(lambda: self.inner.delete(wanted))

    def begin(self, key: str, *, retain_until: datetime | None = None) -> Upload:
        return RetryingUpload(self, self.insist(lambda: self.inner.begin(key, retain_until=retain_until)))

    def pending(self, prefix: str = "") -> Iterator[PendingUpload]:
        """Yield objects as the inner store lists them, so that those before a failure are not lost."""
        found: list[PendingUpload] = []

        def collect() -> None:
            found.clear()
            found.extend(self.inner.pending(prefix))

        try:
            self.insist(collect)
        except StoreError:
            yield from found
            raise
        yield from found

    def abort(self, upload: PendingUpload) -> None:
        self.insist(lambda: self.inner.abort(upload))

    def take_errors(self) -> Counter[str]:
        """The failures since the last call, by operation."""
        with self._lock:
            taken, self.errors = self.errors, Counter()
        return taken

    def _failed(self, error: StoreError, attempt: int) -> None:
        if isinstance(error, NotFoundError | KeptError):
            return  # a response, not a failure
        with self._lock:
            self.errors[error.operation] += 1
        if error.transient:  # the caller reports any other failure
            log.warning("store error, attempt %d of %d: %s", attempt, self._policy.attempts, error.message)


class RetryingUpload(Upload):
    """An upload whose parts are sent again after transient failures."""

    def __init__(self, store: RetryingStore, inner: Upload) -> None:
        self._store = store
        self._inner = inner

    def part(self, number: int, offset: int, data: bytes | bytearray) -> None:
        self._store.insist(lambda: self._inner.part(number, offset, data))

    def complete(self) -> None:
        self._store.insist(self._inner.complete)

    def abort(self) -> None:
        self._store.insist(self._inner.abort)
