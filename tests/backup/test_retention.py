"""What retention keeps: by example, against golden files, and for any history."""

import json
import random
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.policy.retention import (
    Count,
    Decision,
    Plan,
    Policy,
    State,
    StoredBackup,
    bounded,
    jump,
    late,
    plan,
)
from backup.settings import BackupSettings
from sidecar import UsageError

NOW = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
GOLDEN = Path(__file__).parent / "golden"


def daily(count: int, *, hour: int = 2, step: timedelta = timedelta(days=1)) -> list[StoredBackup]:
    newest = NOW.replace(hour=hour)
    moments = [newest - step * number for number in range(count)]
    return [
        StoredBackup(f"{moment:%Y%m%dT%H%M%SZ}-{number:06x}", moment) for number, moment in enumerate(moments)
    ]


def in_states(backups: list[StoredBackup], *states: State) -> list[StoredBackup]:
    return [replace(each, state=state) for each, state in zip(backups, states, strict=True)]


def as_text(found: Plan) -> str:
    lines = [f"blocked: {reason}" for reason in found.blocked]
    lines += [
        f"{'keep  ' if each.keep else 'delete'} {each.id}  {'; '.join(each.reasons)}"
        for each in found.decisions
    ]
    return "\n".join(lines) + "\n"


CASES = {
    "gfs-of-a-year": (daily(400), Policy(last=2, daily=7, weekly=5, monthly=12, yearly=3)),
    "hourly": (
        daily(60, hour=4, step=timedelta(hours=1)),
        Policy(last=1, hourly=24, daily=3, weekly=0, monthly=0),
    ),
    "within": (daily(12), Policy(last=1, daily=0, weekly=0, monthly=0, within=timedelta(days=4))),
    "days-of-berlin": (
        daily(10, hour=0, step=timedelta(hours=8)),
        Policy(last=0, daily=3, weekly=0, monthly=0, zone=ZoneInfo("Europe/Berlin")),
    ),
    "unverified-and-failed": (
        in_states(
            daily(8),
            "unverified",
            "failed",
            "verified",
            "failed",
            "unverified",
            "verified",
            "verified",
            "verified",
        ),
        Policy(last=2, daily=0, weekly=0, monthly=0),
    ),
    "doubtful": (
        in_states(daily(6), "verified", "doubtful", "verified", "verified", "doubtful", "failed"),
        Policy(last=2, daily=0, weekly=1, monthly=0),
    ),
    "floor": (daily(6), Policy(last=0, daily=0, weekly=0, monthly=0, floor=4)),
    "overdue": (daily(6)[2:], Policy(last=1, daily=0, weekly=0, monthly=0)),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    backups, policy = CASES[name]
    golden = GOLDEN / f"{name}.txt"
    assert as_text(plan(backups, policy, NOW)) == golden.read_text()


def test_nothing_is_deleted_while_the_caller_has_a_problem() -> None:
    found = plan(
        daily(30), Policy(last=1, daily=1, weekly=0, monthly=0), NOW, problems=["the last run failed"]
    )
    assert found.deletions == []
    assert found.blocked == ("the last run failed",)


@pytest.mark.parametrize(
    ("newest", "reason"),
    [
        (StoredBackup("n", NOW - timedelta(days=3)), "overdue"),
        (StoredBackup("n", NOW, "failed"), "failed its verification"),
        (StoredBackup("n", NOW - timedelta(hours=25), "unverified"), "unverified for too long"),
        (StoredBackup("n", NOW, anomalous=True), "anomalous"),
        (StoredBackup("n", NOW + timedelta(days=2)), "clock"),
    ],
)
def test_pruning_is_blocked(newest: StoredBackup, reason: str) -> None:
    older = [StoredBackup(f"o{days}", NOW - timedelta(days=days)) for days in range(4, 30)]
    policy = Policy(last=1, daily=1, weekly=0, monthly=0, verify_within=timedelta(hours=24))
    found = plan([newest, *older], policy, NOW)
    assert found.deletions == []
    assert any(reason in text for text in found.blocked)


@pytest.mark.parametrize(
    ("ago", "blocked"),
    [
        (timedelta(0), False),
        (timedelta(minutes=1), False),
        (timedelta(hours=26), False),
        (timedelta(hours=26, seconds=1), True),
        (-timedelta(minutes=10), False),
        (-timedelta(minutes=10, seconds=1), True),
    ],
)
def test_the_age_of_the_newest_backup_blocks_only_out_of_bounds(ago: timedelta, blocked: bool) -> None:
    older = [StoredBackup(f"o{days}", NOW - timedelta(days=days)) for days in range(4, 30)]
    found = plan([StoredBackup("n", NOW - ago), *older], Policy(last=1, daily=1, weekly=0, monthly=0), NOW)
    assert (found.blocked == (), found.deletions == []) == (not blocked, blocked), found.blocked


def test_the_floor_blocks_only_below_it() -> None:
    for verified, blocked in ((1, True), (2, False)):
        backups = [StoredBackup(str(days), NOW - timedelta(days=days)) for days in range(verified)]
        unverified = StoredBackup("u", NOW - timedelta(days=9), "unverified")
        found = plan([*backups, unverified], Policy(floor=2), NOW)
        assert bool(found.blocked) == blocked
        assert found.deletions == ([] if blocked else ["u"])


def decided(going: int, staying: int, *, older_than: timedelta) -> Plan:
    """A plan that deletes verified backups of this age and keeps others of it, and whether it was bounded."""
    fresh = StoredBackup("fresh", NOW)
    old = [
        StoredBackup(f"old{number}", NOW - older_than - timedelta(hours=number))
        for number in range(going + staying)
    ]
    decisions = [Decision(one.id, at >= going, ("a reason",)) for at, one in enumerate(old)]
    return bounded(Plan((Decision("fresh", True, ("newest",)), *decisions)), [fresh, *old])


@pytest.mark.parametrize(
    ("going", "staying", "days", "refused"),
    [
        (2, 0, 3, False),
        (3, 0, 3, True),
        (3, 3, 3, True),
        (3, 4, 3, False),
        (9, 0, 0, False),
        (9, 0, 1, False),
        (9, 0, 2, True),
        (9, 9, 3, True),
        (9, 10, 3, False),
    ],
)
def test_old_backups_are_not_deleted_many_at_once(going: int, staying: int, days: int, refused: bool) -> None:
    """Half of them, if that is more than two; those of the last two days do not count."""
    found = decided(going, staying, older_than=timedelta(days=days, hours=1))
    assert len(found.deletions) == (0 if refused else going)
    assert bool(found.blocked) == refused


def test_a_jump_in_the_number_of_backups_is_judged_by_the_usual_number() -> None:
    def prunes(count: int) -> list[Count]:
        return [Count(NOW - timedelta(days=count - at), found=11, left=10) for at in range(count)]

    # One a day is usual: three times as many and three more are not a jump.
    assert jump(prunes(4), 16, NOW) is None
    assert "7 since the last prune, usually 1.0 a day" in (jump(prunes(4), 17, NOW) or "")
    assert jump(prunes(3), 1000, NOW) is None, "too few prunes to judge"
    seen = [*prunes(4), Count(NOW, found=99, left=99, jumped=True)]
    assert "before an earlier prune" in (jump(seen, 99, NOW) or "")


def test_a_first_prune_finds_no_jump() -> None:
    assert jump([], 1000, NOW) is None


def test_what_is_usual_is_counted_by_the_day() -> None:
    """Four each second day are two a day; in three days, 3 * 2 * 3 + 3 may be new."""
    before = [Count(NOW - timedelta(days=2 * (3 - at)), found=10, left=6) for at in range(3)]
    before.append(Count(NOW, found=10, left=8))
    later = NOW + timedelta(days=3)
    assert jump(before, 8 + 21, later) is None
    assert "22 since the last prune, usually 2.0 a day" in (jump(before, 8 + 22, later) or "")


def test_three_new_backups_are_usual_where_there_was_none() -> None:
    idle = [Count(NOW - timedelta(days=4 - at), found=5, left=5) for at in range(4)]
    assert jump(idle, 8, NOW) is None
    assert "4 since the last prune, usually 0.0 a day" in (jump(idle, 9, NOW) or "")


def test_prunes_within_a_day_count_as_a_day() -> None:
    """Otherwise a prune each hour would make 24 backups a day usual."""
    hourly = [Count(NOW - timedelta(hours=4 - at), found=11, left=10) for at in range(4)]
    assert jump(hourly, 16, NOW + timedelta(hours=20)) is None
    assert "7 since the last prune, usually 1.0 a day" in (jump(hourly, 17, NOW + timedelta(hours=20)) or "")


def test_two_backups_that_appear_among_older_ones_are_too_many() -> None:
    def found(count: int) -> list[StoredBackup]:
        return [StoredBackup(str(hours), NOW - timedelta(hours=hours + 1)) for hours in range(count)]

    last = [Count(NOW, found=10, left=10)]
    assert late(last, found(11)) is None, "a run that was in progress at the time of the prune"
    assert "2 that are older than the last prune" in (late(last, found(12)) or "")
    assert late([], found(12)) is None
    since = StoredBackup("new", NOW - timedelta(minutes=5))
    assert late(last, [*found(11), since]) is None, "within the tolerance of clocks"
    at_its_end = StoredBackup("new", NOW - timedelta(minutes=10))
    assert late(last, [*found(11), at_its_end]) is None


def test_doubtful_backups_count_among_those_that_are_not_deleted_at_once() -> None:
    old = [StoredBackup(f"old{days}", NOW - timedelta(days=days), "doubtful") for days in range(3, 7)]
    decisions = [Decision(one.id, at == 0, ("a reason",)) for at, one in enumerate(old)]
    found = bounded(Plan(tuple(decisions)), [StoredBackup("fresh", NOW), *old])
    assert found.deletions == []
    assert "3 of 4" in " ".join(found.blocked)


def test_a_backup_of_exactly_two_days_is_not_old_yet() -> None:
    ages = [timedelta(days=2), timedelta(days=2, seconds=1), timedelta(days=2, seconds=1)]
    old = [StoredBackup(str(place), NOW - age) for place, age in enumerate(ages)]
    decisions = tuple(Decision(one.id, False, ("a reason",)) for one in old)
    assert len(bounded(Plan(decisions), [StoredBackup("fresh", NOW), *old]).deletions) == 3


def test_unverified_and_failed_backups_may_be_deleted_at_once() -> None:
    old = [StoredBackup(f"old{days}", NOW - timedelta(days=days), "failed") for days in range(3, 9)]
    decisions = tuple(Decision(one.id, False, ("a reason",)) for one in old)
    assert len(bounded(Plan(decisions), [StoredBackup("fresh", NOW), *old]).deletions) == 6


def test_what_a_refused_prune_keeps_anyway_keeps_its_reason() -> None:
    reasons = {each.id: each.reasons for each in decided(3, 0, older_than=timedelta(days=3)).decisions}
    assert reasons["fresh"] == ("newest",)
    assert reasons["old0"] == ("pruning is blocked (a reason)",)


def test_no_backups_no_plan() -> None:
    assert plan([], Policy(), NOW) == Plan(())
    assert plan([], Policy(), NOW, problems=["the last run failed"]) == Plan(())
    assert bounded(Plan(()), []) == Plan(())


def test_the_tiers_of_a_decision_are_those_that_keep_a_verified_backup() -> None:
    policy = Policy(last=0, daily=2, weekly=0, monthly=1, floor=1)
    found = plan([*daily(2), *in_states(daily(1, hour=1), "doubtful")], policy, NOW)
    assert [each.tiers for each in found.decisions] == [("newest", "daily", "monthly"), (), ("daily",)]


def test_an_unverified_backup_of_the_moment_of_a_verified_one_stays() -> None:
    backups = [StoredBackup("a", NOW), StoredBackup("b", NOW, "unverified"), *daily(3)]
    assert "b" not in plan(backups, Policy(last=1, daily=0, weekly=0, monthly=0, floor=1), NOW).deletions


def test_a_failed_backup_takes_no_place_from_a_doubtful_one() -> None:
    backups = in_states(daily(4), "verified", "failed", "failed", "doubtful")
    policy = Policy(last=2, daily=0, weekly=0, monthly=0, floor=1)
    kept = {each.id: each.reasons for each in plan(backups, policy, NOW).decisions if each.keep}
    assert kept[backups[3].id] == ("last 2, if it is verified again",)


@pytest.mark.parametrize(("late_by", "blocked"), [(timedelta(0), False), (timedelta(seconds=1), True)])
def test_a_newest_backup_may_be_unverified_for_as_long_as_is_set(late_by: timedelta, blocked: bool) -> None:
    policy = Policy(rpo=timedelta(days=9), verify_within=timedelta(hours=3))
    newest = StoredBackup("newest", NOW - timedelta(hours=3) - late_by, "unverified")
    found = plan([newest, *daily(9, hour=1)], policy, NOW)
    assert found.blocked == (
        ("the newest backup newest has been unverified for too long",) if blocked else ()
    )


@pytest.mark.parametrize(
    ("verified", "text"),
    [
        (1, "there is only 1 verified backup; the floor is 3"),
        (2, "there are only 2 verified backups; the floor is 3"),
    ],
)
def test_too_few_verified_backups_are_counted(verified: int, text: str) -> None:
    assert plan(daily(verified), Policy(floor=3), NOW).blocked == (text,)


histories = st.lists(
    st.builds(
        lambda minutes, state, anomalous, number: StoredBackup(
            f"b{number}", NOW - timedelta(minutes=minutes), state, anomalous
        ),
        st.integers(-60 * 24 * 3, 60 * 24 * 800),
        st.sampled_from(["verified", "verified", "verified", "unverified", "doubtful", "failed"]),
        st.integers(0, 20).map(lambda number: number == 0),
        st.integers(0, 10**6),
    ),
    max_size=60,
    unique_by=lambda backup: backup.id,
)
small = st.integers(0, 6)
policies = st.builds(
    Policy,
    last=small,
    hourly=small,
    daily=small,
    weekly=small,
    monthly=small,
    yearly=small,
    within=st.integers(0, 400).map(lambda hours: timedelta(hours=hours)),
    floor=st.integers(1, 5),
)
jumps = st.integers(-60 * 24 * 4000, 60 * 24 * 4000).map(lambda minutes: timedelta(minutes=minutes))


@settings(max_examples=150, deadline=None)
@given(histories, policies, jumps)
def test_for_any_history(backups: list[StoredBackup], policy: Policy, jump: timedelta) -> None:
    found = plan(backups, policy, NOW)
    gone = set(found.deletions)
    verified = sorted((h for h in backups if h.state == "verified"), key=lambda h: (h.taken, h.id))
    left = [backup for backup in verified if backup.id not in gone]
    # Never fewer verified backups than the floor, if there were as many.
    assert len(left) >= min(policy.floor, len(verified))
    # The newest verified one and everything newer stays.
    if verified:
        assert verified[-1] in left
        assert all(backup.id not in gone for backup in backups if backup.taken > verified[-1].taken)
    else:
        assert not gone
    # A doubtful backup is kept if it would be kept when verified.
    surely = plan(
        [replace(h, state="verified") if h.state == "doubtful" else h for h in backups], policy, NOW
    )
    wanted = {decision.id for decision in surely.decisions if set(decision.tiers) - {"floor"}}
    assert not {backup.id for backup in backups if backup.state == "doubtful" and backup.id in wanted} & gone
    # A second plan after the first one deletes nothing more.
    remaining = [backup for backup in backups if backup.id not in gone]
    assert plan(remaining, policy, NOW).deletions == []
    # Order does not matter.
    shuffled = backups[:]
    random.Random(1).shuffle(shuffled)
    assert plan(shuffled, policy, NOW) == found
    # A clock that jumps deletes nothing extra (it may block what a correct clock deletes).
    honest = plan(backups, policy, max((h.taken for h in backups), default=NOW))
    assert set(plan(backups, policy, NOW + jump).deletions) <= set(honest.deletions)
    # Every decision has its reason.
    assert json.dumps([decision.reasons for decision in found.decisions])
    assert all(decision.reasons for decision in found.decisions)


def test_weeks_and_days_begin_where_people_live() -> None:
    """30 December 2024 and 1 January 2025 are in one week; 23:30 in London is the next day in Berlin."""
    monday, wednesday = (datetime(2024, 12, 30, 12, tzinfo=UTC), datetime(2025, 1, 1, 12, tzinfo=UTC))
    backups = [StoredBackup("mon", monday), StoredBackup("wed", wednesday)]
    policy = Policy(last=1, daily=0, weekly=5, monthly=0, floor=1)
    assert plan(backups, policy, wednesday).deletions == ["mon"]
    late, early = (datetime(2026, 6, 1, 22, 30, tzinfo=UTC), datetime(2026, 6, 2, 12, tzinfo=UTC))
    backups = [StoredBackup("late", late), StoredBackup("early", early)]
    for zone, deleted in (("Europe/Berlin", ["late"]), ("UTC", [])):
        policy = Policy(last=1, daily=5, weekly=0, monthly=0, floor=1, zone=ZoneInfo(zone))
        assert plan(backups, policy, early).deletions == deleted, zone


def test_a_backup_on_hold_stays() -> None:
    backups = [StoredBackup(str(days), NOW - timedelta(days=days), on_hold=days == 9) for days in range(10)]
    found = plan(backups, Policy(last=1, daily=0, weekly=0, monthly=0, floor=1), NOW)
    assert "9" not in found.deletions
    assert len(found.deletions) == 8


@pytest.mark.parametrize("state", ["unprovable", "doubtful", "failed"])
def test_a_newest_backup_without_proof_blocks_the_prune(state: State) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    good = [StoredBackup(str(days), now - timedelta(days=days)) for days in range(1, 31)]
    assert plan(good, Policy(), now).deletions
    decided = plan([*good, StoredBackup("newest", now, state)], Policy(), now)
    assert decided.deletions == []
    assert any("the newest backup newest" in reason for reason in decided.blocked)


def test_nothing_is_deleted_before_something_is_verified() -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    found = [StoredBackup(str(days), now - timedelta(days=days), "unverified") for days in range(5)]
    assert plan(found, Policy(floor=0), now).deletions == []


def test_backups_that_someone_deletes_do_not_make_the_next_ones_a_jump() -> None:
    day = timedelta(days=1)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    before = [Count(first + place * day, 10 - 2 * place, 10 - 2 * place) for place in range(4)]
    assert jump(before, 6, first + 4 * day) is None


def test_every_setting_reaches_the_policy() -> None:
    names = ("LAST", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY", "FLOOR")
    given = {f"BACKUP_KEEP_{name}": str(number) for number, name in enumerate(names, 11)}
    more = {"BACKUP_KEEP_WITHIN": "36h", "BACKUP_RPO_TARGET": "7200", "BACKUP_TIMEZONE": "Europe/Prague"}
    found = BackupSettings.load({**given, **more}).policy()
    counts = (found.last, found.hourly, found.daily, found.weekly, found.monthly, found.yearly, found.floor)
    assert counts == tuple(range(11, 18))
    hours = timedelta(hours=1)
    assert (found.within, found.rpo, found.verify_within) == (36 * hours, 2 * hours, 2 * hours)
    assert found.zone == ZoneInfo("Europe/Prague")


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"LAST": "1", "FLOOR": "2"}, True),
        ({"LAST": "1", "YEARLY": "1", "FLOOR": "2"}, False),
        ({"WITHIN": "7d", "FLOOR": "2"}, False),
        ({"YEARLY": "2"}, False),
        ({}, True),
    ],
)
def test_rules_that_keep_fewer_than_the_floor_are_refused(given: dict[str, str], refused: bool) -> None:
    none = dict.fromkeys(("LAST", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"), "0")
    environ = {f"BACKUP_KEEP_{name}": value for name, value in {**none, **given}.items()}
    with pytest.raises(UsageError, match="keep") if refused else nullcontext():
        BackupSettings.load(environ)
