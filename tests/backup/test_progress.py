"""The progress of a run: in the log, as metrics and on the terminal."""

import logging

import pytest

from backup.progress import Meter
from backup.run import run
from backup.service.state import new_state
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


def test_the_log_says_each_minute_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    passed: list[int] = []
    meter = Meter("shop", passed.append, lambda: now)
    meter.expected = 4000
    for seconds in range(0, 150, 10):
        now = float(seconds)
        meter.add(100)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "backup in progress database=shop bytes=700 rate='12 B/s' expected=4000 seconds_left=283",
        "backup in progress database=shop bytes=1300 rate='11 B/s' expected=4000 seconds_left=249",
    ]
    assert sum(passed) == meter.done == 1500


def test_without_an_earlier_backup_there_is_no_estimate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    meter = Meter("shop", print, lambda: now)
    now = 60.0
    meter.add(600)
    assert "seconds_left" not in caplog.text
    assert "bytes=600" in caplog.text
