"""Signals that arrive at the wrong time."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.signals import Request, request_on_end, uninterrupted


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
for _ in range(1_000):
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_on_request(number: signal.Signals) -> None:
    """Of ``docker stop``, and of Ctrl-C where it runs in a terminal."""
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        request = request_on_end()
        assert not request.wait(0)
        signal.raise_signal(number)
        assert request.wait(5)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


# Python drops the exception of a finalizer, in which the handler runs here.
LOST = """
import os, signal, sys, time
from sidecar.signals import {what}

class Thing:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
        for _ in range(100):
            pass

{how}
    Thing()
    print("lost", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", -signal.SIGINT)])
@pytest.mark.parametrize("how", ["with orderly_end():", "end_orderly()\nif True:"])
@pytest.mark.usefixtures("interruptible")
def test_a_signal_in_a_finalizer_ends_the_program_too(name: str, status: int, how: str) -> None:
    script = LOST.format(what="end_orderly, orderly_end", name=name, how=how)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == status, done.stderr
    assert done.stdout == "lost\n"


def test_other_errors_of_finalizers_are_reported_as_before() -> None:
    script = (
        LOST.format(what="orderly_end", name="SIGTERM", how="with orderly_end():")
        .replace("os.kill(os.getpid(), signal.SIGTERM)", "raise ValueError('unusual')")
        .replace("time.sleep(60)", "")
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert "ValueError: unusual" in done.stderr
