"""The progress of a run: in the log, as metrics and on the terminal."""

import logging

import pytest

from backup.progress import Meter
from backup.run import run
from backup.service.state import new_state
from backup.verify import verify
from backup.verify.verifier import expected_bytes
from stack.wait import wait_for
from tests.backup.conftest import Wire, samples


def test_a_run_shows_how_far_it_is(wired: Wire, database: str) -> None:
    wiring = wired()
    state, target = new_state(wiring), wiring.targets[0]
    first = run(wiring, target)
    state.refresh()
    seen: list[tuple[float, float]] = []
    expected: list[int] = []

    def look(_: int) -> None:
        values = samples(state)
        seen.append(
            (
                values[f'backup_progress_bytes{{database="{database}"}}'],
                values[f'backup_progress_expected_bytes{{database="{database}"}}'],
            )
        )

    second = run(wiring, target, look, expect=expected.append)
    assert expected == [first.raw_bytes]
    assert {total for _, total in seen} == {first.raw_bytes}
    archive = next(each for each in second.objects if each.role == "archive")
    assert seen[-1][0] == archive.raw_bytes
    assert samples(state)[f'backup_progress_bytes{{database="{database}"}}'] == 0


def test_the_log_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    passed: list[int] = []
    meter = Meter("shop", passed.append, lambda: now, expected=4000)
    for seconds in range(0, 130, 10):
        now = float(seconds)
        meter.add(100)
        if seconds in (60, 120):
            meter.report()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "backup in progress database=shop bytes=700 rate='12 B/s' expected=4000 seconds_left=283",
        "backup in progress database=shop bytes=1300 rate='11 B/s' expected=4000 seconds_left=249",
    ]
    assert sum(passed) == meter.done == 1300


def test_it_says_so_while_nothing_passes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    meter = Meter("shop", work="restore", expected=100)
    with meter.reporting(0.01):
        wait_for(
            lambda: len(caplog.records) > 1,
            timeout=60,
            what="two lines in the log",
            hint="the thread logs nothing",
        )
    assert (
        caplog.records[0].getMessage()
        == "restore in progress database=shop bytes=0 rate='0 B/s' expected=100"
    )


def test_without_an_earlier_backup_there_is_no_estimate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    meter = Meter("shop", print, lambda: now)
    now = 60.0
    meter.add(600)
    meter.report()
    assert "seconds_left" not in caplog.text
    assert "bytes=600" in caplog.text


def test_a_verification_shows_how_far_it_is(wired: Wire, database: str) -> None:
    wiring = wired()
    state, target = new_state(wiring), wiring.targets[0]
    made = run(wiring, target)
    state.refresh()
    entry = state.history(database).latest
    assert entry is not None
    seen: list[float] = []

    def look(_: int) -> None:
        values = samples(state)
        seen.append(values[f'backup_verification_progress_bytes{{database="{database}"}}'])
        total = values[f'backup_verification_progress_expected_bytes{{database="{database}"}}']
        assert total == expected_bytes(made)

    assert verify(wiring, entry, look).ok
    # The new dump is about as long as the archive.
    assert seen[-1] == pytest.approx(expected_bytes(made), rel=0.3)
    assert seen == sorted(seen)
    assert samples(state)[f'backup_verification_progress_bytes{{database="{database}"}}'] == 0
