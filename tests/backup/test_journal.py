"""How attempts are recorded: their totals, their errors, and what waits while the store is away."""

import os
import socket
from datetime import timedelta

import pytest

from backup.catalogue.journal import MAX_ATTEMPTS, Backlog, Journal
from backup.catalogue.reader import Reader
from backup.catalogue.records import Attempt
from backup.catalogue.signatures import NO_KEYS
from backup.errors import BusyError, DumpError, StoreError
from backup.store import MemoryStore, RetryingStore, RetryPolicy
from tests.backup.documents import NOW, attempt, history, put_attempt

FAILED = DumpError("pg_dump failed", hint="read its message")


class Away:
    """A store's fault that can be switched on."""

    def __init__(self) -> None:
        self.on = False

    def __call__(self, operation: str, _: str) -> None:
        if self.on:
            raise StoreError("it is away", hint="wait", operation=operation)


@pytest.fixture
def away() -> Away:
    return Away()


@pytest.fixture
def store(away: Away) -> MemoryStore:
    return MemoryStore(fault=away)


@pytest.fixture
def backlog() -> Backlog:
    return Backlog()


@pytest.fixture
def journal(store: MemoryStore, backlog: Backlog) -> Journal:
    return Journal(store, "shop", backlog=backlog, clock=lambda: NOW)


def last(store: MemoryStore) -> Attempt:
    """Also of one that was skipped, which no history contains."""
    return Reader(store, NO_KEYS).recent_attempts("shop", "backup", NOW)[-1]


def test_a_success_continues_the_totals_of_its_kind(journal: Journal, store: MemoryStore) -> None:
    put_attempt(store, attempt(NOW - timedelta(hours=3), totals={"success": 3, "failure": 1}))
    put_attempt(store, attempt(NOW - timedelta(hours=2), kind="verification", totals={"success": 9}))
    put_attempt(store, attempt(NOW - timedelta(hours=1), outcome="running", finished=None, totals={}))
    with journal.attempt("backup", backup="b") as tried:
        (running,) = [each for each in history(store).attempts if each.started == NOW]
        assert (running.outcome, running.finished, running.totals) == (
            "running",
            None,
            {"success": 3, "failure": 1},
        )
        tried.set(problems=("one",))
    done = last(store)
    assert (done.outcome, done.finished, done.backup, done.problems) == ("success", NOW, "b", ("one",))
    assert done.totals == {"success": 4, "failure": 1}
    assert (done.host, done.pid, done.error, done.hint) == (socket.gethostname(), os.getpid(), None, None)


@pytest.mark.parametrize(
    ("error", "outcome", "texts", "totals"),
    [
        (FAILED, "failure", ("pg_dump failed", "read its message"), {"failure": 1}),
        (ValueError("odd"), "failure", ("ValueError: odd", "read the log"), {"failure": 1}),
        (BusyError("it is running", hint="wait"), "skipped", ("it is running", "wait"), {}),
    ],
)
def test_an_error_ends_the_attempt_and_is_raised(
    journal: Journal,
    store: MemoryStore,
    error: Exception,
    outcome: str,
    texts: tuple[str, str],
    totals: dict[str, int],
) -> None:
    with pytest.raises(type(error)), journal.attempt("backup"):
        raise error
    done = last(store)
    assert (done.outcome, (done.error, done.hint), done.totals) == (outcome, texts, totals)


def test_work_that_ran_to_its_end_may_have_failed(journal: Journal, store: MemoryStore) -> None:
    with journal.attempt("verification") as tried:
        tried.fail(FAILED)
    done = last(store)
    assert (done.outcome, done.error, done.totals) == ("failure", "pg_dump failed", {"failure": 1})


def test_the_errors_of_the_watched_stores_are_added_once() -> None:
    store, away = MemoryStore(), Away()
    retrying = RetryingStore(MemoryStore(name="offsite", fault=away), RetryPolicy(attempts=1))
    put_attempt(store, attempt(NOW - timedelta(hours=1), store_errors={"offsite:put": 2, "main:get": 1}))
    journal = Journal(store, "shop", watched=(retrying,), clock=lambda: NOW)
    away.on = True
    with journal.attempt("backup"), pytest.raises(StoreError):
        retrying.put("a", b"")
    done = last(store)
    assert done.new_errors == {"offsite:put": 1}
    assert done.store_errors == {"offsite:put": 3, "main:get": 1}


def test_an_end_that_the_store_refuses_waits_and_a_start_does_not(
    journal: Journal, store: MemoryStore, backlog: Backlog, away: Away
) -> None:
    away.on = True
    with journal.attempt("backup"):
        assert backlog.of("shop") == ()
    (waiting,) = backlog.of("shop")
    assert (waiting.outcome, waiting.totals) == ("success", {"success": 1})
    journal.deliver()
    assert backlog.of("shop") == (waiting,), "it still waits"
    away.on = False
    with journal.attempt("prune"):
        assert backlog.of("shop") == ()
    assert {each.kind for each in history(store).attempts} == {"backup", "prune"}


def test_without_a_store_a_failure_waits(journal: Journal, backlog: Backlog) -> None:
    journal.failed_without_store("backup", FAILED)
    (waiting,) = backlog.of("shop")
    assert (waiting.kind, waiting.outcome, waiting.error) == ("backup", "failure", "pg_dump failed")


def test_nothing_is_read_to_deliver_nothing(store: MemoryStore, journal: Journal, away: Away) -> None:
    away.on = True
    journal.deliver()
    Journal(store, "shop").deliver()


def test_what_waits_is_kept_by_database_and_bounded(backlog: Backlog) -> None:
    mine, theirs = attempt(), attempt(database="blog")
    backlog.keep(mine)
    backlog.keep(theirs)
    assert (backlog.of("shop"), backlog.of("blog")) == ((mine,), (theirs,))
    assert backlog.take("shop") == (mine,)
    assert (backlog.of("shop"), backlog.of("blog")) == ((), (theirs,))
    for _ in range(MAX_ATTEMPTS):
        backlog.keep(mine)
    assert (len(backlog.of("shop")), backlog.of("blog")) == (MAX_ATTEMPTS, ())
    backlog.take("blog")
    backlog.keep(theirs)
    assert len(backlog.of("shop")) == MAX_ATTEMPTS - 1


def test_runs_that_died_are_ended_but_not_our_own(journal: Journal, store: MemoryStore) -> None:
    running = {"outcome": "running", "finished": None}
    died, ours, other = (
        attempt(NOW - timedelta(hours=2), **running),
        attempt(NOW - timedelta(hours=1), **running),
        attempt(NOW - timedelta(hours=1), kind="drill", **running),
    )
    for each in (died, ours, other):
        put_attempt(store, each)
    journal.close_dead("backup", but=ours.id)
    found = {each.id: each for each in history(store).attempts}
    assert (found[died.id].outcome, found[died.id].error) == ("failure", "the process died in the middle")
    assert (found[ours.id].outcome, found[other.id].outcome) == ("running", "running")
