"""Signals that arrive at a bad moment."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.signals import Request, uninterrupted


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A background process of a shell ignores SIGINT from its start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_is_delayed_until_the_block_ends() -> None:
    done = []

    def begin() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("begun")

    assert threading.current_thread() is threading.main_thread()
    with pytest.raises(KeyboardInterrupt):
        begin()
    assert done == ["begun"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_not_affected() -> None:
    def begin() -> str:
        with uninterrupted():
            return "begun"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(begin).result() == "begun"


# The handler interrupts the wait at a random moment of its first 60 microseconds, repeatedly.
INTERRUPTED = """
import random, signal
from sidecar.signals import Request

requests = []
signal.signal(signal.SIGALRM, lambda *_: requests[-1].make())
for _ in range(5_000):
    requests[:] = [Request()]
    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 6e-5))
    assert requests[-1].wait(10)
"""


def test_a_signal_in_the_middle_of_a_wait_ends_it() -> None:
    """With a threading.Event, the handler waits forever for the lock that the interrupted wait owns."""
    subprocess.run([sys.executable, "-c", INTERRUPTED], check=True, timeout=120)


def test_all_threads_that_wait_see_a_request() -> None:
    request = Request()
    with ThreadPoolExecutor(3) as pool:
        waits = [pool.submit(request.wait, 60) for _ in range(3)]
        request.make()
        assert [wait.result() for wait in waits] == [True] * 3
    assert request.wait(0)


def test_a_wait_ends_without_a_request() -> None:
    request = Request()
    assert not request.wait(0.01)
    assert not request.made
