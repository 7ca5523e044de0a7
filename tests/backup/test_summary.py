"""Which problems of a database the status page and its JSON name, and which verdict they make."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from backup.catalogue.history import Broken, Entry, History
from backup.catalogue.records import Difference
from backup.errors import CatalogueError
from backup.policy.retention import CLOCK_TOLERANCE
from backup.service import summary
from backup.service.state import SILENT_SECONDS
from backup.service.summary import Problem, Summary, problems, summaries
from tests.backup.documents import NOW, attempt, manifest, report

HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
TARGET = 26 * 3600.0


class State:
    """What the summary asks of the service."""

    def __init__(self, **given: Any) -> None:
        self.blocked: tuple[str, ...] = given.get("blocked", ())
        self._silence = given.get("silence", 0.0)
        self._died = given.get("died")
        self.offsite = SimpleNamespace(lag=lambda *_: given.get("lag", 0.0))
        self.wiring = SimpleNamespace(
            settings=SimpleNamespace(rpo_target=TARGET), offsite=given.get("offsite"), clock=lambda: NOW
        )

    def silence(self, _: str) -> float:
        return float(self._silence)

    def died(self, _: History) -> Any:
        return self._died


@pytest.fixture(autouse=True)
def _blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        summary, "plan_for", lambda wiring, _: SimpleNamespace(blocked=getattr(wiring, "blocked", ()))
    )


def entry(hours: float = 1.0, *, ok: bool = True, **more: Any) -> Entry:
    made = manifest(NOW - hours * HOUR, **more)
    return Entry(made, (report(made, ok=ok),))


def of(history: History, **given: Any) -> list[Problem]:
    state: Any = State(**given)
    state.wiring.blocked = state.blocked
    return problems(state, history, NOW)


GOOD = History("shop", (entry(),), attempts=(attempt(NOW - HOUR),), read=NOW)


def test_a_good_database_has_no_problem() -> None:
    assert of(GOOD) == []


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"silence": SILENT_SECONDS + 1}, "has had no response for"),
        ({"died": attempt()}, "the last run was killed"),
        ({"offsite": "b2", "lag": TARGET + 1}, "the off-site copy is"),
    ],
)
def test_what_the_service_knows_is_bad(given: dict[str, Any], text: str) -> None:
    (found,) = of(GOOD, **given)
    assert (found.kind, text in found.text) == ("bad", True), found


@pytest.mark.parametrize(
    "given",
    [
        {"silence": SILENT_SECONDS},
        {"offsite": "b2", "lag": TARGET},
        {"offsite": None, "lag": 9 * TARGET},
    ],
)
def test_limits_may_be_reached(given: dict[str, Any]) -> None:
    assert of(GOOD, **given) == []


FAILED = attempt(NOW, outcome="failure", error="no space", hint="free some")


@pytest.mark.parametrize(
    ("history", "text"),
    [
        (replace(GOOD, attempts=(FAILED,)), "the last run failed: no space – try: free some"),
        (
            replace(GOOD, broken=(Broken("x", CatalogueError("torn", hint="")),)),
            "backup x: torn",
        ),
        (replace(GOOD, others=(replace(entry(2), trust="unsigned"),)), "is unsigned and is ignored"),
        (replace(GOOD, backups=(entry(27),)), "is 1 d 3 h old, the target is 1 d 2 h"),
        (
            replace(GOOD, backups=(entry(), Entry(manifest(NOW + CLOCK_TOLERANCE + SECOND)))),
            "ahead of this clock",
        ),
    ],
)
def test_what_the_store_shows_is_bad(history: History, text: str) -> None:
    (found,) = of(history)
    assert (found.kind, text in found.text) == ("bad", True), found


def test_the_age_and_the_clock_may_be_at_their_limits() -> None:
    assert of(replace(GOOD, backups=(entry(26),))) == []
    ahead = entry(-CLOCK_TOLERANCE / HOUR)
    assert of(replace(GOOD, backups=(entry(), ahead))) == []


def test_a_killed_run_is_named_once() -> None:
    (found,) = of(replace(GOOD, attempts=(FAILED,)), died=attempt())
    assert "killed" in found.text


def test_without_a_backup_nothing_else_is_asked() -> None:
    found = of(History("shop", attempts=(FAILED,), read=NOW), blocked=("x",))
    assert [(each.kind, each.text) for each in found] == [
        ("bad", "the last run failed: no space – try: free some"),
        ("bad", "there is no backup yet"),
    ]


def test_a_verification_that_failed_or_was_not_possible() -> None:
    lost = Difference(kind="rows", object="posts", expected="3", found="2")
    made = manifest(NOW - HOUR)
    older = entry(2)
    for more, text in (
        ({"differences": (lost,)}, f"verification of {made.id} failed: rows posts: expected 3, found 2"),
        ({"unprovable": ("no room",)}, f"{made.id} could not be verified here: no room"),
    ):
        bad = Entry(made, (report(made, ok=False, **more),))
        assert of(replace(GOOD, backups=(older, bad))) == [Problem("bad", text)]
    assert of(replace(GOOD, backups=(Entry(made),))) == [Problem("bad", "no backup is verified yet")]


def test_a_blocked_prune_and_an_anomaly_are_warnings() -> None:
    odd = entry(anomalies=("the size fell",))
    found = of(replace(GOOD, backups=(odd,)), blocked=("the last run failed",))
    assert found == [
        Problem("warn", "pruning is blocked: the last run failed"),
        Problem("warn", f"{odd.id} differs from the backups before it: the size fell"),
    ]


def test_the_worst_problem_is_the_verdict_and_the_worst_database_is_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def of_kinds(name: str, *kinds: Any) -> Summary:
        target: Any = SimpleNamespace(name=name)
        found = tuple(Problem(kind, "") for kind in kinds)
        return Summary(
            target, replace(GOOD, backups=(entry(1), entry(2, ok=False))), found, None, None, None, None, None
        )

    known = {
        each.name: each
        for each in (
            of_kinds("a"),
            of_kinds("c", "warn"),
            of_kinds("b", "warn"),
            of_kinds("d", "warn", "bad"),
        )
    }
    assert [known[name].verdict for name in "abcd"] == ["good", "warn", "warn", "bad"]
    assert (known["a"].verified, known["a"].stored_bytes) == (1, 20)
    monkeypatch.setattr(summary, "summary", lambda _, target, __: known[target])
    state: Any = SimpleNamespace(wiring=SimpleNamespace(clock=lambda: NOW, everything=[*known]))
    assert [each.name for each in summaries(state)] == ["d", "b", "c", "a"]
