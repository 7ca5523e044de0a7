"""Signals that come at a bad moment."""

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sidecar.signals import uninterrupted


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What runs in the background of a shell ignores SIGINT from its birth on."""
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
