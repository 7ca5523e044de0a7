"""What the entries of the catalogue say about backups: the state of one, and the newest of each kind."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.history import Broken, Catalogue, Entry, History, projected, projected_rto
from backup.catalogue.hold import Hold
from backup.catalogue.records import Difference, Report
from backup.errors import CatalogueError
from backup.policy.retention import CLOCK_TOLERANCE
from backup.store import MemoryStore
from tests.backup.documents import NOW, attempt, history, manifest, put, report

MADE = manifest()
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
CHECK = Difference(kind="check", object="orders", expected="1", found="0")
ROWS = Difference(kind="rows", object="posts", expected="3", found="2")
BYTES = Difference(kind="object", object=MADE.objects[0].name, expected="a", found="b")
ELSEWHERE = Difference(kind="object", object="another.dump", expected="a", found="b")


def of(ok: bool, *differences: Difference, hours: int = 1, **more: Any) -> Report:
    return report(MADE, ok=ok, differences=differences, finished=NOW + timedelta(hours=hours), **more)


def entry(*reports: Report, **more: Any) -> Entry:
    return Entry(MADE, reports, **more)


PASSED, FAILED = of(True), of(False, ROWS)
IMPOSSIBLE = of(False, unprovable=("no room",), hours=5)


@pytest.mark.parametrize(
    ("given", "state", "true"),
    [
        (entry(), "unverified", ""),
        (entry(PASSED), "verified", "verified passed_once"),
        (entry(FAILED), "FAILED", ""),
        (entry(of(False, CHECK)), "FAILED", "doubtful"),
        (entry(of(False, CHECK, ROWS)), "FAILED", ""),
        (entry(of(False, BYTES)), "FAILED", "damaged"),
        (entry(of(False, ROWS, BYTES)), "FAILED", "damaged"),
        (entry(of(False, ELSEWHERE)), "FAILED", ""),
        (entry(PASSED, FAILED), "FAILED", "passed_once doubtful"),
        (entry(PASSED, of(False, BYTES)), "FAILED", "passed_once damaged"),
        (entry(FAILED, PASSED), "verified", "verified passed_once"),
        (entry(IMPOSSIBLE), "unprovable", "unprovable"),
        (entry(PASSED, IMPOSSIBLE), "verified", "verified passed_once"),
        (entry(FAILED, IMPOSSIBLE), "FAILED", ""),
        (entry(PASSED, missing=("a",)), "incomplete", "passed_once damaged"),
        (entry(missing=("a",)), "incomplete", "damaged"),
        (entry(PASSED, trust="signed"), "verified", "verified passed_once"),
        (entry(PASSED, trust="unsigned"), "unsigned", "passed_once doubtful"),
        (entry(PASSED, trust="forged"), "FORGED", "passed_once doubtful"),
        (entry(PASSED, deleted_before=True), "REPLAYED", "passed_once doubtful"),
    ],
)
def test_the_state_of_a_backup(given: Entry, state: str, true: str) -> None:
    assert given.state == state
    names = ("verified", "passed_once", "damaged", "doubtful", "unprovable")
    assert {name for name in names if getattr(given, name)} == set(true.split())


def test_the_label_names_everything_that_is_odd() -> None:
    odd = Entry(manifest(anomalies=("the size fell",)), on_hold=True)
    assert odd.label == "unverified, unlike, on hold"
    assert entry(PASSED).label == "verified"


@pytest.fixture
def of_days() -> History:
    """Four backups: the newest is one from the future, the one before it has no verification."""
    store = MemoryStore()
    for days in (3, 2, 1):
        put(store, manifest(NOW - days * DAY), proven=days > 1)
    put(store, manifest(NOW + DAY))
    return history(store)


def test_backups_from_the_future_are_not_the_newest(of_days: History) -> None:
    ids = [each.id for each in of_days.backups]
    assert (of_days.latest, of_days.last_verified) == (of_days.backups[2], of_days.backups[1])
    assert of_days.seconds_ahead == DAY.total_seconds()
    assert [each.id for each in of_days.until(NOW - 2 * DAY).backups] == ids[:2]
    assert of_days.find(ids[1]) == of_days.backups[1]
    assert of_days.find("another") is None
    never_read = replace(of_days, read=None)
    assert never_read.latest == of_days.backups[3]
    assert never_read.seconds_ahead == 0.0
    assert History("shop", read=NOW).seconds_ahead == 0.0
    assert replace(of_days, backups=of_days.backups[:3]).seconds_ahead == 0.0


@pytest.mark.parametrize(("late", "ahead"), [(timedelta(0), False), (SECOND, True)])
def test_clocks_may_differ_a_little(late: timedelta, ahead: bool) -> None:
    made = Entry(manifest(NOW + CLOCK_TOLERANCE + late))
    known = History("shop", (made,), read=NOW, attempts=(attempt(NOW + CLOCK_TOLERANCE + late),))
    assert known.is_ahead(made) == ahead
    assert (known.newest("backup") is None) == ahead


def test_the_past_has_neither_later_strangers_nor_later_damage() -> None:
    early, late = manifest(NOW - DAY), manifest(NOW)
    error = CatalogueError("damaged", hint="delete it")
    known = History(
        "shop",
        broken=(Broken(early.id, error), Broken(late.id, error)),
        others=(Entry(early), Entry(late)),
    )
    past = known.until(NOW - DAY)
    assert [each.id for each in past.others] == [early.id]
    assert [each.id for each in known.until(NOW - DAY / 2).broken] == [early.id]


def test_the_newest_attempt_of_a_kind() -> None:
    done, running, other = (
        attempt(NOW - 2 * DAY),
        attempt(NOW - DAY, finished=None, outcome="running"),
        attempt(NOW, kind="prune"),
    )
    known = History("shop", attempts=(done, running, other), read=NOW)
    assert known.newest("backup") == running
    assert known.newest("backup", finished=True) == done
    assert known.newest("prune") == other
    assert known.newest("drill") is None


def test_verifications_are_sorted_by_their_end_whatever_the_order_of_the_backups() -> None:
    first, last = of(True, hours=1), of(False, ROWS, hours=9)
    known = History("shop", (entry(last), entry(first)))
    assert known.reports == [first, last]
    assert known.last_report == last
    assert History("shop").last_report is None


def test_a_restore_takes_time_by_the_size_of_the_backup() -> None:
    small, large = Entry(manifest(NOW - DAY, size=10)), Entry(manifest(NOW, size=30))
    known = History("shop", (small, large), read=NOW)

    def restored(made: Entry, seconds: float) -> Report:
        # The comparison is not part of a restore.
        stages = {"download": 1.0, "globals": 1.0, "restore": seconds - 2.0, "compare": 99.0}
        return report(made.manifest, stages=stages)

    measured = [restored(small, 2.5), restored(small, 4.0)]
    assert projected_rto(known, measured) == 12.0
    assert projected(known, measured, small) == 4.0
    assert projected_rto(known, []) == 0.0
    assert projected(known, measured, None) == 0.0
    assert projected_rto(replace(known, backups=(large,)), measured) == 4.0, "the restored one is gone"
    empty = Entry(manifest(NOW - DAY, size=0))
    assert projected(replace(known, backups=(empty, large)), [restored(empty, 3.0)], large) == 3.0


def test_a_database_without_backups_has_an_empty_history() -> None:
    known = History("shop", (entry(),))
    assert Catalogue(NOW, {"shop": known}).history("shop") == known
    assert Catalogue(NOW).history("blog") == History("blog")


def test_reports_are_sorted_by_their_signed_time_and_holds_by_their_moment() -> None:
    store = MemoryStore()
    put(store, MADE, proven=False)
    for moment, found in ((NOW + DAY, of(False, ROWS, hours=1)), (NOW, of(True, hours=2))):
        store.put(layout.report("shop", MADE.id, moment), encode(found))
    key = layout.hold("shop", MADE.id)

    def hold(held: bool, hours: int) -> bytes:
        moment = NOW + timedelta(hours=hours)
        return encode(Hold(backup=MADE.id, database="shop", held=held, moment=moment, reason=str(hours)))

    (found_entry,) = history(store).backups
    assert found_entry.verified
    assert (found_entry.on_hold, found_entry.hold) == (False, None)
    store.put(key, hold(False, 1))
    assert not history(store).backups[0].on_hold
    store.put(layout.further(key, b"1"), hold(True, 2))
    (found_entry,) = history(store).backups
    assert found_entry.on_hold
    assert found_entry.hold is not None
    assert found_entry.hold.reason == "2"
    store.put(layout.further(key, b"2"), hold(False, 3))
    assert not history(store).backups[0].on_hold
    store.put(layout.further(key, b"3"), b"not ours")
    (found_entry,) = history(store).backups
    assert (found_entry.on_hold, found_entry.hold) == (True, None)
