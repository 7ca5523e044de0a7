"""Pure decisions of point-in-time recovery: what the WAL's records say, where a snapshot is, which base a target needs."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from backup.errors import VerificationError
from backup.physical import conf, cut, records, targets
from backup.physical.cut import Cut
from backup.physical.records import Ending
from backup.physical.targets import AtMark, AtPosition, AtTime, Base, Latest
from sidecar import UsageError

# Printed by pg_waldump 15.18 of a server on which these things were done.
LOG = """\
rmgr: Transaction len (rec/tot):    405/   405, tx:        724, lsn: 0/01516610, prev 0/015165D0, desc: COMMIT 2026-11-29 03:56:31.430810 UTC; inval msgs: catcache 80 relcache 16384
rmgr: Transaction len (rec/tot):    242/   242, tx:        725, lsn: 0/015167E8, prev 0/015167A8, desc: PREPARE gid x: 1: 2026-11-29 03:56:31.943771 UTC
rmgr: Transaction len (rec/tot):     42/    42, tx:          0, lsn: 0/015168E0, prev 0/015167E8, desc: COMMIT_PREPARED 725: 2026-11-29 03:56:32.220444 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        726, lsn: 0/01516950, prev 0/01516910, desc: ABORT 2026-11-29 03:56:32.542737 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        726, lsn: 0/01516955, prev 0/01516910, desc: ASSIGNMENT xtop 726: subxacts: 729
rmgr: Database    len (rec/tot):     34/    34, tx:        727, lsn: 0/01516DF8, prev 0/01516D48, desc: CREATE_WAL_LOG create dir 1663/16387
rmgr: Transaction len (rec/tot):     66/    66, tx:        727, lsn: 0/01935E58, prev 0/01935E08, desc: COMMIT 2026-11-29 03:56:33.049101 UTC; inval msgs: catcache 21; sync
rmgr: Database    len (rec/tot):     42/    42, tx:        728, lsn: 0/01936098, prev 0/01936020, desc: CREATE_FILE_COPY copy dir 1663/1 to 1663/16388
rmgr: Database    len (rec/tot):     38/    38, tx:        729, lsn: 0/01936648, prev 0/019365D0, desc: DROP dir 1663/16387 1700/16387
rmgr: Transaction len (rec/tot):     98/    98, tx:        729, lsn: 0/01936670, prev 0/01936648, desc: COMMIT 2026-11-29 03:56:36.378057 UTC; dropped stats: 1/16387/0; sync
pg_waldump: error: error in WAL record at 0/19366D8: invalid record length at 0/1936740: wanted 24, got 0
"""
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def commits(*pairs: tuple[int, int]) -> list[Ending]:
    return [Ending("commit", lsn, xid, NOW) for lsn, xid in pairs]


def test_endings_are_read_with_the_number_of_the_transaction_they_end() -> None:
    found = list(records.endings(records.parse(LOG.splitlines())))
    assert [(each.kind, each.xid) for each in found] == [
        ("commit", 724),
        ("prepare", 725),
        ("commit", 725),
        ("abort", 726),
        ("commit", 727),
        ("commit", 729),
    ]
    assert found[0].lsn == 0x1516610
    assert found[0].moment == datetime(2026, 11, 29, 3, 56, 31, 430810, UTC)
    assert cut.last_ending(found) == found[-1]
    assert cut.last_ending([]) is None


def test_a_database_that_is_copied_by_files_is_found() -> None:
    assert [each.xid for each in records.copied_databases(records.parse(LOG.splitlines()))] == [728]


def test_recovery_for_a_dropped_database_ends_with_the_last_commit_before_its_files_go() -> None:
    log = list(records.parse(LOG.splitlines()))
    ended = list(records.endings(log))
    assert cut.before_drop(log, ended, 16387) == 0x1935E58
    assert cut.before_drop(log, ended, 16388) is None


def test_a_snapshot_sees_what_had_ended_before_it() -> None:
    snapshot = cut.parse_snapshot("725:730:725,727")
    assert [xid for xid in range(720, 733) if snapshot.sees(xid)] == [720, 721, 722, 723, 724, 726, 728, 729]


def test_a_snapshot_after_many_transactions_is_compared_by_the_lower_bits() -> None:
    begin = (3 << 32) - 2
    snapshot = cut.parse_snapshot(f"{begin}:{begin + 5}:{begin + 3}")
    assert snapshot.sees(0xFFFFFFFE)
    assert snapshot.sees(0)
    assert not snapshot.sees(1)
    assert snapshot.sees(2)
    assert not snapshot.sees(3)


@pytest.mark.parametrize("text", ["", "1:2", "a:b:", "1:2:,", "1:2:3,", "１:2:"])
def test_a_text_that_is_not_a_snapshot_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a snapshot"):
        cut.parse_snapshot(text)


def test_the_place_of_a_snapshot_is_its_last_visible_commit() -> None:
    snapshot = cut.parse_snapshot("10:14:12")
    assert cut.place(snapshot, commits((100, 10), (200, 13), (300, 12), (400, 14)), until=250) == Cut(
        200, 250, followed=True
    )
    assert cut.place(snapshot, commits((100, 10), (200, 13), (240, 12)), until=250) == Cut(
        200, 240, followed=True
    )
    assert cut.place(snapshot, commits((100, 10), (200, 13)), until=250) == Cut(200, 250, followed=False)
    assert cut.place(snapshot, commits((300, 12)), until=250) == Cut(None, 250, followed=True)


def test_a_snapshot_that_does_not_see_an_earlier_commit_has_no_place() -> None:
    snapshot = cut.parse_snapshot("10:14:12")
    assert cut.place(snapshot, commits((100, 12), (200, 13)), until=250) is None
    assert cut.place(snapshot, commits((100, 12), (200, 14)), until=250) == Cut(None, 100, followed=True)


def test_commits_in_any_order_have_a_place_exactly_if_a_cut_exists() -> None:
    """A property: the position, if there is one, separates visible from invisible commits, and none is missed."""
    chance = random.Random(17)
    for _ in range(2000):
        xids = chance.sample(range(100, 112), 8)
        log = [Ending("commit", 10 * number, xid, NOW) for number, xid in enumerate(xids, 1)]
        end = chance.randint(98, 114)
        running = frozenset(chance.sample(range(90, end), min(3, end - 90)))
        snapshot = cut.Snapshot(90, end, running)
        visible = [snapshot.sees(each.xid) for each in log]
        cuts = [n for n in range(len(log) + 1) if all(visible[:n]) and not any(visible[n:])]
        found = cut.place(snapshot, log, until=1000)
        assert (found is None) == (not cuts)
        assert (found is None) == cut.is_torn(snapshot, log, until=1000)
        if found is not None:
            assert found.last == (log[cuts[0] - 1].lsn if cuts[0] else None)
            assert found.limit == (log[cuts[0]].lsn if cuts[0] < len(log) else 1000)


CONTROL = """\
pg_control version number:            1300
Database system identifier:           7713437366875807143
Latest checkpoint's REDO WAL file:    000000010000000000000001
max_connections setting:              100
max_worker_processes setting:         8
max_wal_senders setting:              10
max_prepared_xacts setting:           5
max_locks_per_xact setting:           64
"""


def test_the_settings_that_recovery_needs_come_from_the_control_file() -> None:
    fields = conf.control(CONTROL)
    assert fields["Latest checkpoint's REDO WAL file"] == "000000010000000000000001"
    assert conf.needed(fields) == {
        "max_connections": "100",
        "max_worker_processes": "8",
        "max_wal_senders": "10",
        "max_prepared_transactions": "5",
        "max_locks_per_transaction": "1024",
    }
    assert (
        conf.needed({**fields, "max_locks_per_xact setting": "4096"})["max_locks_per_transaction"] == "4096"
    )


@pytest.mark.parametrize("value", ["", "-1", "1; drop", "٣"])
def test_a_control_file_without_these_settings_is_refused(value: str) -> None:
    with pytest.raises(VerificationError, match="max_prepared_xacts"):
        conf.needed({**conf.control(CONTROL), "max_prepared_xacts setting": value})


def test_settings_that_were_raised_later_are_read_from_the_log() -> None:
    line = "DETAIL:  max_connections = 100 is a lower setting than on the primary server, where its value was 250.\n"
    assert conf.raised(f"LOG:  x\n{line}") == {"max_connections": "250"}
    assert conf.raised(line.replace("max_connections", "max_anything")) == {}


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-28 14:03:00+01", "13:03:00"),
        ("2026-11-28T14:03:00.25+0100", "13:03:00.250000"),
        ("2026-11-28 14:03 -05:30", "19:33:00"),
        ("2026-11-28 14:03:00Z", "14:03:00"),
        ("2026-11-28 14:03:00 UTC", "14:03:00"),
        ("2026-11-28 14:03:00 Europe/Prague", "13:03:00"),
        ("2026-07-28 14:03:00 Europe/Prague", "12:03:00"),
    ],
)
def test_a_time_with_a_zone_is_read(text: str, utc: str) -> None:
    assert targets.parse_moment(text).time().isoformat() == utc


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-11-28 14:03:00", "no time zone"),
        ("2026-11-28 14:03:00 UTC+1", "can mean several things"),
        ("2026-11-28 14:03:00 Etc/GMT+1", "can mean several things"),
        ("2026-11-28 14:03:00 CET", "can mean several things"),
        ("2026-11-28 14:03:00 Europe/Nowhere", "not a known time zone"),
        ("2026-11-28 14:03:00+16", "not an offset"),
        ("2026-11-28 14:03:00+01:75", "not an offset"),
        ("2026-10-25 02:30:00 Europe/Prague", "occurs twice"),
        ("2026-03-29 02:30:00 Europe/Prague", "does not exist"),
        ("2026-02-30 14:03:00+01", "is not a time"),
        ("0001-01-01 00:00:00+01", "is not a time"),
        ("now", "is not a time"),
        ("yesterday", "is not a time"),
        ("", "is not a time"),
    ],
)
def test_a_time_that_can_be_misread_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        targets.parse_moment(text)


def test_a_time_is_given_to_the_server_in_utc() -> None:
    goal = targets.parse_goal("2026-11-28 14:03:00.5+01")
    assert isinstance(goal, AtTime)
    assert targets.settings(goal, 3) == {
        "recovery_target_time": "2026-11-28 13:03:00.500000+00",
        "recovery_target_timeline": "3",
        "recovery_target_action": "pause",
    }


def test_a_noted_position_excludes_the_record_that_starts_there() -> None:
    noted = targets.parse_position("1/3000060")
    assert noted == AtPosition(0x1_03000060)
    assert targets.settings(noted, 1)["recovery_target_inclusive"] == "off"
    assert targets.settings(AtPosition(1, inclusive=True), 1)["recovery_target_inclusive"] == "on"
    with pytest.raises(UsageError, match="not a position"):
        targets.parse_position("14:03")


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "é", "x" * 64])
def test_a_name_that_is_not_for_a_mark_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="is not a name for a mark"):
        targets.parse_mark(name)


def base(name: str, hour: int, end: int, until: int, stored: float, *, still: bool = True) -> Base:
    begin = datetime(2026, 11, 29, tzinfo=UTC)
    return Base(
        name, 1, end - 10, end, begin + timedelta(hours=hour), until, begin + timedelta(hours=stored), still
    )


BASES = [base("a", 1, 100, 250, 3, still=False), base("b", 5, 400, 900, 10), base("c", 8, 700, 900, 10)]


def at(hour: float) -> AtTime:
    return AtTime(datetime(2026, 11, 29, tzinfo=UTC) + timedelta(hours=hour))


def test_the_newest_base_before_the_target_is_chosen() -> None:
    assert targets.choose(BASES, Latest()).id == "c"
    assert [targets.choose(BASES, at(hour)).id for hour in (1, 2.5, 5, 7.9, 8, 10)] == list("aabbcc")
    positions = (100, 250, 400, 699, 700, 900)
    assert [targets.choose(BASES, AtPosition(each)).id for each in positions] == list("aabbcc")
    assert targets.choose(list(reversed(BASES)), AtMark("before migration"), 450).id == "b"


@pytest.mark.parametrize(
    ("goal", "why"),
    [
        (at(0.5), "before the end of the first base backup"),
        (AtPosition(99), "before the end of the first base backup"),
        (at(4), "inside a gap.*2026-11-29 03:00:00 UTC and 2026-11-29 05:00:00 UTC"),
        (AtPosition(300), "inside a gap"),
        (at(10.1), "after the end of what is stored"),
        (AtPosition(901), "after the end of what is stored"),
        (AtMark("unknown"), "is not known"),
    ],
)
def test_what_cannot_be_reached_is_refused_with_the_reason(goal: targets.Goal, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        targets.choose(BASES, goal)


def test_without_a_base_nothing_can_be_recovered() -> None:
    with pytest.raises(UsageError, match="no base backup"):
        targets.choose([], Latest())


def test_the_latest_state_is_not_one_before_a_hole() -> None:
    """Later WAL is stored, and would be lost silently."""
    with pytest.raises(UsageError, match=r"WAL is missing after 0/FA .*2026-11-29 03:00:00 UTC") as refused:
        targets.choose(BASES[:1], Latest())
    assert "--at-lsn 0/FA" in str(refused.value.hint)


def test_after_the_last_window_has_ended_a_later_time_is_in_a_gap() -> None:
    with pytest.raises(UsageError, match="inside a gap: nothing is stored between 2026-11-29 03:00:00 UTC"):
        targets.choose(BASES[:1], at(4))
