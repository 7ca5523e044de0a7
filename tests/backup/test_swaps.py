"""Promotions and rollbacks as plans and as steps, on a simulated server; tests/backup/test_restore.py has real ones."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from backup.errors import BusyError, DumpError, PreflightError
from backup.postgres.databases import Mark
from backup.restore import swap
from backup.restore.swap import plan_promotion, plan_rollback, promote, rollback
from sidecar import UsageError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXPLAINED = swap._explained
ADDRESS: Any = SimpleNamespace(database="shop")


def mark(state: Any = "restored", **more: Any) -> Mark:
    return Mark(**{"state": state, "moment": NOW, "database": "shop", **more})


@dataclass
class Server:
    """Databases and their marks. Changes in a transaction that fails are undone."""

    known: dict[str, Mark | None]
    address: Any = field(default_factory=lambda: ADDRESS)
    steps: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    transactions: int = 0
    prepared_at: str = ""
    breaks_at: str = ""
    closed_at: str = ""
    lost: bool = False

    def marks(self) -> dict[str, Mark]:
        return {name: one for name, one in self.known.items() if one is not None}

    def exists(self, name: str) -> bool:
        return name in self.known

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        if name in self.locked:
            raise BusyError(f"another restore of {name} is in progress", hint="wait")
        self.locked.append(name)
        try:
            yield
        finally:
            self.locked.remove(name)

    def prepared(self, name: str) -> int:
        return int(name == self.prepared_at)

    def accepts_connections(self, name: str) -> bool:
        return name != self.closed_at

    def connected(self, _: str) -> list[str]:
        return []

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.transactions += 1
        before = dict(self.known)
        try:
            yield
        except BaseException:
            self.known = before
            raise

    def rename(self, name: str, to: str) -> None:
        assert self.locked == ["shop"]
        if self.breaks_at == to:
            raise RuntimeError("the server is gone")
        assert to not in self.known
        self.known = {to if each == name else each: one for each, one in self.known.items()}
        self.steps.append(f"{name} → {to}")

    def mark(self, name: str, one: Mark) -> None:
        self.known[name] = one


Serve = Callable[..., Server]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    def serve(**known: Mark | None) -> Server:
        server = Server(known)

        @contextmanager
        def databases(_: Any) -> Iterator[Server]:
            yield server

        @contextmanager
        def nothing(*_: Any, **__: Any) -> Iterator[Any]:
            yield SimpleNamespace(execute=lambda _: None)

        monkeypatch.setattr(swap, "databases", databases)
        monkeypatch.setattr(swap, "session", nothing)
        monkeypatch.setattr(swap, "_disconnecting", nothing)
        monkeypatch.setattr(swap, "_explained", nothing)
        return server

    return serve


def test_there_and_back(serve: Serve) -> None:
    server = serve(shop=None, new=mark(backup="b1"))
    done = promote(ADDRESS, "shop", "new", NOW)
    assert (done.production, done.incoming) == ("shop", "new")
    assert server.steps == [f"shop → {done.kept}", "new → shop"]
    marks = server.marks()
    assert (marks["shop"].state, marks["shop"].partner, marks["shop"].origin) == (
        "promoted",
        done.kept,
        "new",
    )
    assert (marks["shop"].backup, marks[done.kept].state, marks[done.kept].partner) == (
        "b1",
        "before",
        "shop",
    )
    assert server.transactions == 1
    back = rollback(ADDRESS, NOW + HOUR)
    assert server.steps[2:] == [f"shop → {back.kept}", f"{done.kept} → shop"]
    marks = server.marks()
    assert (marks["shop"].state, marks["shop"].partner) == ("returned", back.kept)
    assert (marks[back.kept].state, marks[back.kept].origin) == ("undone", "")
    assert server.transactions == 2


def test_without_a_database_in_production_nothing_is_kept(serve: Serve) -> None:
    server = serve(new=mark())
    assert promote(ADDRESS, "shop", None, NOW).kept == ""
    assert server.steps == ["new → shop"]


def test_a_swap_that_breaks_in_the_middle_changes_nothing(serve: Serve) -> None:
    server = serve(shop=None, new=mark())
    before = dict(server.known)
    server.breaks_at = "shop"
    with pytest.raises(RuntimeError):
        promote(ADDRESS, "shop", "new", NOW)
    assert server.known == before


@pytest.mark.parametrize("name", ["shop", "new"])
def test_prepared_transactions_are_found_before_anything_is_renamed(serve: Serve, name: str) -> None:
    server = serve(shop=None, new=mark())
    server.prepared_at = name
    with pytest.raises(PreflightError, match=f"{name} has 1 prepared transactions"):
        promote(ADDRESS, "shop", "new", NOW)
    assert server.steps == []


def test_one_restore_at_a_time(serve: Serve) -> None:
    server = serve(shop=None, new=mark())
    server.locked.append("shop")
    for attempt in (lambda: promote(ADDRESS, "shop", "new", NOW), lambda: rollback(ADDRESS, NOW)):
        with pytest.raises(BusyError):
            attempt()
    assert server.steps == []


@pytest.mark.parametrize(
    ("state", "more", "message"),
    [
        ("restored", {"differences": 1}, "is not verified: it has 1 differences"),
        ("restored", {"database": "crm"}, "contains crm, not shop"),
        ("promoted", {}, "new is promoted"),
        ("returned", {}, "new is returned"),
    ],
)
def test_what_is_not_promoted(serve: Serve, state: str, more: dict[str, Any], message: str) -> None:
    server = serve(shop=None, new=mark(state, **more))
    with pytest.raises(UsageError, match=message):
        plan_promotion(server, "shop", "new", NOW)  # type: ignore[arg-type]


def test_a_database_of_unknown_origin_is_not_promoted(serve: Serve) -> None:
    server = serve(shop=None, other=None)
    for name, message in (
        ("other", "was not created by a restore"),
        ("missing", "does not exist on the server"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_promotion(server, "shop", name, NOW)  # type: ignore[arg-type]


def test_the_newest_restore_that_is_verified_and_ours_is_promoted(serve: Serve) -> None:
    server = serve(
        shop=None,
        old=mark(moment=NOW - 2 * HOUR),
        wanted=mark(moment=NOW - HOUR),
        broken=mark(differences=2),
        theirs=mark(database="crm"),
        undone=mark("undone"),
    )
    assert plan_promotion(server, "shop", None, NOW).incoming == "wanted"  # type: ignore[arg-type]


@pytest.mark.parametrize("restored", [None, "new"])
def test_a_promotion_that_is_run_again_does_nothing(serve: Serve, restored: str | None) -> None:
    server = serve(shop=None, new=mark())
    first = promote(ADDRESS, "shop", "new", NOW)
    steps = list(server.steps)
    again = promote(ADDRESS, "shop", restored, NOW + HOUR)
    assert (again.done, again.kept, server.steps) == (True, first.kept, steps)


def test_a_rollback_that_is_run_again_does_nothing(serve: Serve) -> None:
    server = serve(shop=None, new=mark())
    promote(ADDRESS, "shop", "new", NOW)
    rollback(ADDRESS, NOW)
    steps = list(server.steps)
    assert rollback(ADDRESS, NOW + HOUR).done
    assert server.steps == steps


def test_what_cannot_be_rolled_back(serve: Serve) -> None:
    promoted = mark("promoted", partner="shop_before")
    for one, message in (
        (None, "was not promoted"),
        (mark("restored"), "was not promoted"),
        (promoted, "no longer exists"),
        (replace_partner(promoted, ""), "no longer exists"),
    ):
        server = serve(shop=one)
        with pytest.raises(UsageError, match=message):
            plan_rollback(server, NOW)  # type: ignore[arg-type]


def replace_partner(one: Mark, partner: str) -> Mark:
    return one.model_copy(update={"partner": partner})


@pytest.mark.parametrize("state", ["returned", "restored", "before"])
def test_what_was_not_promoted_is_not_promoted_twice(serve: Serve, state: str) -> None:
    """Without a restored database, only a promotion that has already been made counts as done."""
    server = serve(shop=mark(state, partner="old", origin="new"))
    if state == "restored":
        server.known["shop"] = mark(state, differences=2)
    with pytest.raises(UsageError, match="no restored database"):
        plan_promotion(server, "shop", None, NOW)  # type: ignore[arg-type]


def test_a_database_that_admits_nobody_does_not_become_production(serve: Serve) -> None:
    """Such as one that was kept, and closed so that nothing is written to it."""
    server = serve(shop=None, new=mark())
    before = dict(server.known)
    server.closed_at = "new"
    with pytest.raises(PreflightError, match=r"new accepts no connections.*nothing was changed"):
        promote(ADDRESS, "shop", "new", NOW)
    assert server.known == before
    server.closed_at = "shop"
    kept = promote(ADDRESS, "shop", "new", NOW).kept
    server.closed_at = kept
    with pytest.raises(PreflightError, match="accepts no connections"):
        plan_rollback(server, NOW)  # type: ignore[arg-type]


def test_a_failure_after_the_swap_does_not_claim_that_nothing_was_changed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(shop=None, new=mark(backup="b1"))

    def refused(*_: Any, **__: Any) -> Any:
        raise PreflightError("cannot connect: too many connections", hint="look")

    monkeypatch.setattr(swap, "session", refused)
    with pytest.raises(DumpError, match="WERE swapped, but shop does not answer: cannot connect: too many"):
        promote(ADDRESS, "shop", "new", NOW)
    assert server.marks()["shop"].backup == "b1"
    assert promote(ADDRESS, "shop", "new", NOW).done


def test_a_connection_that_is_lost_during_the_swap_leaves_it_open(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may have committed, and its answer is lost."""
    server = serve(shop=None, new=mark())
    monkeypatch.setattr(swap, "_explained", EXPLAINED)

    def lost(*_: str) -> None:
        server.lost = True
        raise psycopg.OperationalError("the server closed the connection")

    monkeypatch.setattr(server, "rename", lost)
    with pytest.raises(DumpError, match="it is not known whether the databases were swapped"):
        promote(ADDRESS, "shop", "new", NOW)
