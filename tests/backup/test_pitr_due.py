"""When a base backup is needed before its schedule."""

from datetime import UTC, datetime, timedelta

import pytest

from backup.catalogue.records import Attempt, Outcome
from backup.physical.archive import Gap
from backup.physical.due import RETRY, base_due
from backup.physical.retention import RetainedBase
from backup.physical.windows import Base

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def base(start: int, hours: int, *, timeline: int = 1, system: str = "7") -> RetainedBase:
    return RetainedBase(
        Base("b", timeline, start, start + 1), NOW - hours * HOUR, proven=False, system=system
    )


def gap(end: int, hours: int, *, timeline: int = 1) -> Gap:
    return Gap(
        server="main",
        system_identifier="7",
        timeline=timeline,
        start=end - 10,
        end=end,
        noticed=NOW - hours * HOUR,
        reason="the server no longer has it",
    )


def attempt(outcome: Outcome, ago: timedelta) -> Attempt:
    return Attempt(id="a", kind="backup", database="main", outcome=outcome, started=NOW - ago)


def test_a_gap_after_the_newest_base_makes_one_due() -> None:
    assert base_due([base(20, 10)], [gap(100, 2), gap(200, 1)], None, NOW) == gap(200, 1)
    assert base_due([base(20, 10)], [], None, NOW) is None


def test_a_gap_before_the_newest_base_needs_no_other() -> None:
    assert base_due([base(20, 10), base(100, 1)], [gap(100, 2)], None, NOW) is None


def test_a_server_that_was_rewound_begins_before_the_gap() -> None:
    """Otherwise a base backup would follow another one until its positions are past the gap."""
    assert base_due([base(20, 1, timeline=2)], [gap(100, 2)], None, NOW) is None


def test_a_server_whose_clock_is_behind_gets_one_base_backup() -> None:
    assert base_due([base(100, 3)], [gap(100, 2)], None, NOW) is None


@pytest.mark.parametrize(("timeline", "system"), [(1, "8"), (1, "7"), (2, "8")])
def test_positions_of_another_cluster_or_timeline_say_nothing(timeline: int, system: str) -> None:
    missing = gap(100, 2, timeline=2)
    assert base_due([base(500, 3, timeline=timeline, system=system)], [missing], None, NOW) == missing


def test_the_first_base_backup_is_left_to_the_schedule() -> None:
    assert base_due([], [gap(100, 2)], None, NOW) is None


def test_a_failed_attempt_is_repeated_later() -> None:
    bases, gaps = [base(20, 10)], [gap(100, 2)]
    soon = RETRY - timedelta(seconds=1)
    assert base_due(bases, gaps, attempt("failure", soon), NOW) is None
    assert base_due(bases, gaps, attempt("running", soon), NOW) is None
    assert base_due(bases, gaps, attempt("failure", RETRY), NOW) is not None
    # The nightly one began before the gap.
    assert base_due(bases, gaps, attempt("success", soon), NOW) is not None
