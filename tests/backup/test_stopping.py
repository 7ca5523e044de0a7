"""Signals that come at a bad moment."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backup.stopping import uninterrupted


def test_a_signal_waits_until_what_was_begun_is_known() -> None:
    done = []

    def begin() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("begun")

    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        begin()
    assert done == ["begun"]
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_need_nothing_of_that() -> None:
    def begin() -> str:
        with uninterrupted():
            return "begun"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(begin).result() == "begun"
