"""Threads and jobs that fail: what is counted, logged, restarted and repeated."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from exporters.supervise import Periodic, Supervised


def failing_with(*errors: str) -> Callable[[], None]:
    """A job that raises each error in turn; an empty one is a success."""
    rest = list(errors)

    def job() -> None:
        if error := rest.pop(0):
            raise OSError(error)

    return job


def test_each_failure_is_counted_and_each_streak_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    periodic = Periodic("queues", failing_with("a", "a", "b", "", "b"), 15)
    seen = []
    for _ in range(5):
        periodic.run_once()
        seen.append((periodic.errors, periodic.failing))
        assert periodic.started_at is None
    assert seen == [(1, "OSError: a"), (2, "OSError: a"), (3, "OSError: b"), (3, ""), (4, "OSError: b")]
    assert [record.getMessage()[-2] for record in caplog.records] == ["a", "b", "b"]


def test_a_round_knows_when_it_began_and_how_long_it_took() -> None:
    began: list[float | None] = []
    before = time.monotonic()
    periodic = Periodic("queues", lambda: began.append(periodic.started_at), 15)
    durations = [periodic.duration]
    periodic.run_once()
    durations.append(periodic.duration)
    assert began[0] is not None
    assert before <= began[0]
    assert durations[0] is None
    assert durations[1] is not None
    assert 0 <= durations[1] <= time.monotonic() - before


class Stop(threading.Event):
    """Never waits; is set after a number of waits, which it notes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        if len(self.waits) == self._most:
            self.set()
        return self.is_set()


def test_an_unfinished_round_continues_at_once_unless_it_failed() -> None:
    left = [True, False, True, False]
    periodic = Periodic("search", failing_with("", "", "x", "", ""), 60, unfinished=lambda: left.pop(0))
    stop = Stop(3)
    periodic._loop(stop)
    # Two rounds, the failed one (which does not ask whether something is left), and two rounds.
    assert (periodic.errors, left) == (1, [])
    assert [round(wait) for wait in stop.waits] == [60, 60, 60]


def test_a_thread_whose_body_raises_or_returns_is_restarted() -> None:
    starts = threading.Semaphore(0)
    ends: list[str] = ["raise", "return", "raise"]

    def body(stop: threading.Event) -> None:
        starts.release()
        if not ends:
            stop.wait(30)
        elif ends.pop(0) == "raise":
            raise OSError("broken")

    thread = Supervised("receiver", body)
    thread._stop = Stop(1000)
    thread.start()
    for _ in range(4):
        assert starts.acquire(timeout=10)
    assert thread.errors == 2
    thread.stop()
    thread.join(10)
    assert not thread.alive
