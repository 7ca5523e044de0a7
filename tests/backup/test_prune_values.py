"""What a prune asks, counts and records, next to the decisions of the policy itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import backup.prune as pruning
from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.history import History
from backup.catalogue.hold import Hold
from backup.catalogue.manifest import Server
from backup.errors import StoreError
from backup.policy.retention import JUMPED, Count
from backup.postgres import inventory
from backup.prune import plan_for, prune
from backup.replication.merged import read
from backup.store import MemoryStore, RetryingStore, RetryPolicy
from backup.targets import Target
from tests.backup.documents import SERVER, attempt, history, manifest, put, put_attempt, report
from tests.backup.test_wires import ids, month, wired

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def test_only_finished_prunes_with_decisions_are_counted() -> None:
    def of(days: int, **more: Any) -> Any:
        values = {"kind": "prune", "decisions": {"keep": 4, "delete": 2, "refused": 1}, **more}
        return attempt(NOW - days * DAY, **values)

    done = [
        of(9, kind="backup"),
        of(8, outcome="failure", error="x"),
        of(7, decisions={}),
        of(6),
        of(5, decisions={"delete": 2}),
        of(4, blocked=("the last run failed", f"{JUMPED}: 9 since the last prune")),
        of(3, blocked=("the last run failed",), finished=NOW - 2 * DAY),
    ]
    assert pruning._counts(History("shop", attempts=tuple(done))) == [
        Count(NOW - 6 * DAY, found=7, left=5),
        Count(NOW - 5 * DAY, found=2, left=0),
        Count(NOW - 4 * DAY, found=7, left=5, jumped=True),
        Count(NOW - 2 * DAY, found=7, left=5),
    ]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The servers that are asked for their identifier; it is 7."""
    found: list[object] = []

    @contextmanager
    def session(address: object) -> Iterator[str]:
        found.append(address)
        yield "a connection"

    monkeypatch.setattr(pruning, "session", session)
    monkeypatch.setattr(inventory, "system_identifier", lambda _: "7")
    return found


def of_cluster(identifier: str) -> Server:
    return SERVER.model_copy(update={"system_identifier": identifier})


def postgres(tmp_path: Path) -> Target:
    return wired(tmp_path, MemoryStore()).targets[0]


def test_the_server_is_asked_as_soon_as_one_backup_names_its_cluster(
    asked: list[object], tmp_path: Path
) -> None:
    store = MemoryStore()
    put(store, manifest(NOW - DAY))
    target = postgres(tmp_path)
    assert pruning.identifier_of(target, history(store, now=NOW)) is None
    assert asked == []
    put(store, manifest(NOW - DAY / 2, server=of_cluster("7")))
    assert pruning.identifier_of(target, history(store, now=NOW)) == "7"
    assert len(asked) == 1


def test_only_backups_of_the_cluster_that_answers_are_pruned(asked: list[object], tmp_path: Path) -> None:
    store = MemoryStore()
    put(store, manifest(NOW - timedelta(minutes=30), server=of_cluster("8")))
    wiring = wired(tmp_path, store)
    done = prune(wiring, wiring.targets[0], agreed=True)
    assert len(asked) == 1
    assert (done.plan.blocked, done.deleted) == (("the folder belongs to another server",), ())


def test_a_key_that_cannot_delete_prunes_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    month(store)
    before = dict(store.objects)
    wiring = wired(tmp_path, store, BACKUP_DELETE="never")
    done = prune(wiring, wiring.targets[0], agreed=True)
    assert done.deleted == ()
    assert "with a key that can delete" in done.plan.blocked[0]
    assert store.objects == before, "not even the attempt is recorded"


def test_why_nothing_was_deleted_is_recorded_and_what_was_deleted_before_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    gone = prune(wiring, wiring.targets[0], agreed=True).deleted
    put_attempt(store, attempt(datetime.now(UTC), outcome="failure", error="x"))
    prune(wiring, wiring.targets[0])
    last = read(wiring).history("shop").newest("prune", finished=True)
    assert last is not None
    assert (last.blocked, last.deleted) == (("the last run failed",), gone)
    assert last.decisions == {"keep": 31 - len(gone), "delete": 0, "refused": 0}

    def fail(*_: object) -> None:
        raise StoreError("away", hint="wait", operation="delete")

    monkeypatch.setattr(pruning, "_delete", fail)
    put_attempt(store, attempt(datetime.now(UTC)))
    for days in (40, 41):
        put(store, manifest(NOW - days * DAY))
    with pytest.raises(StoreError):
        prune(wiring, wiring.targets[0], agreed=True)
    last = read(wiring).history("shop").newest("prune", finished=True)
    assert last is not None
    assert (last.outcome, last.deleted) == ("failure", gone)


def test_what_the_store_refused_is_recorded_and_old_attempts_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    doomed, *others = plan_for(wiring, read(wiring).history("shop"), agreed=True).deletions
    key = layout.manifest("shop", doomed)
    store.locked[key] = NOW + DAY
    pruned: list[str] = []
    monkeypatch.setattr(pruning, "_prune_attempts", lambda _, known: pruned.append(known.database))
    prune(wiring, wiring.targets[0], agreed=True)
    last = read(wiring).history("shop").newest("prune", finished=True)
    assert last is not None
    assert last.decisions == {"keep": 30 - len(others), "delete": len(others), "refused": 1}
    assert [problem.partition(":")[0] for problem in last.problems] == [key]
    assert pruned == ["shop"]


def test_copies_without_an_original_are_judged_by_their_own_verifications_and_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, copies = MemoryStore(), MemoryStore(name="offsite")
    for days in (1, 2, 3):
        put(store, manifest(NOW - days * DAY + timedelta(hours=1)))
    copies.objects.update(store.objects)
    passed, never, held = (manifest(NOW - days * DAY) for days in (70, 71, 72))
    put(copies, passed)
    again = report(passed, ok=False, started=NOW - DAY, finished=NOW - DAY)
    copies.put(layout.report("shop", passed.id, again.finished), encode(again))
    for each in (never, held):
        put(copies, each, proven=False)
    hold = Hold(backup=held.id, database="shop", held=True, moment=NOW - DAY)
    copies.put(layout.hold("shop", held.id), encode(hold))
    retrying = RetryingStore(copies, RetryPolicy(attempts=1), sleep=lambda _: None)
    wiring = replace(wired(tmp_path, store), offsite=retrying)
    before = dict(store.objects)
    prune(wiring, wiring.targets[0])
    assert {passed.id, held.id} <= ids(copies)
    assert never.id not in ids(copies)
    assert before.keys() <= {*store.objects}, "an original was deleted unasked"


def test_the_newest_deletions_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    month(store)
    wiring = wired(tmp_path, store)
    monkeypatch.setattr(pruning, "REMEMBERED", 3)
    gone = prune(wiring, wiring.targets[0], agreed=True).deleted
    last = read(wiring).history("shop").newest("prune", finished=True)
    assert last is not None
    assert last.deleted == gone[-3:]


def test_backups_next_to_signed_ones_are_strangers_only_if_they_are_newer() -> None:
    store = MemoryStore()
    for days in (3, 2, 1):
        put(store, manifest(NOW - days * DAY))
    older, first, newer = history(store, now=NOW).backups
    others = replace(history(store, now=NOW), backups=(first,), others=(older, newer))
    assert pruning.strangers(others) == [newer]
    assert pruning.strangers(replace(others, backups=())) == []
