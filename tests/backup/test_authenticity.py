"""Write access to the store does not let anyone decide what is restored, what is deleted and what counts as proven."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.manifest import Manifest
from backup.catalogue.signatures import NO_KEYS
from backup.prune import KEPT, plan_for, prune
from backup.replication.merged import read
from backup.service.jobs import Jobs
from backup.service.state import new_state
from backup.store import MemoryStore
from stack.servers import Postgres
from tests.backup.conftest import NewDatabase, Wire, samples
from tests.backup.documents import (
    KEYS,
    NOW,
    OTHERS,
    attempt,
    history,
    manifest,
    put,
    put_attempt,
    redigested,
    report,
)
from tests.backup.restorekit import Command

pyrage = pytest.importorskip("pyrage")
KEY = "k" * 40
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def states(store: MemoryStore) -> dict[str, str]:
    found = history(store, KEYS)
    return {entry.id: entry.state for entry in (*found.backups, *found.others)}


def test_what_none_of_our_keys_has_signed_is_ignored() -> None:
    store = MemoryStore()
    mine, plain, theirs = (manifest(NOW - hours * HOUR) for hours in (5, 3, 1))
    for made, keys in ((mine, KEYS), (theirs, OTHERS)):
        put(store, made, keys)
    put(store, plain)
    assert states(store) == {mine.id: "verified", plain.id: "unsigned", theirs.id: "FORGED"}
    found = history(store, KEYS)
    assert found.latest is not None
    assert found.latest.id == mine.id
    assert [each.backup for each in found.reports] == [mine.id]
    # Without a key they cannot be distinguished.
    assert [entry.verified for entry in history(store).backups] == [True, True, True]


def test_a_report_is_about_one_manifest() -> None:
    """Neither the report of another backup nor one from before its manifest was replaced proves anything."""
    store = MemoryStore()
    old, new = manifest(NOW - 2 * HOUR), manifest(NOW - HOUR)
    for made in (old, new):
        put(store, made, KEYS, proven=False)
    proof = report(old, KEYS)
    for made in (old, new):
        store.put(layout.report("shop", made.id, NOW), encode(proof, KEYS))
    assert states(store) == {old.id: "verified", new.id: "unverified"}
    # What it proved has been replaced, even if by ourselves.
    store.put(layout.manifest("shop", old.id), old.model_copy(update={"tool": "other"}).encode(KEYS))
    assert states(store)[old.id] == "unverified"


@pytest.mark.parametrize(
    "wrong", [{"backup": "20261127T100000Z-000000"}, {"database": "crm"}, {"manifest": "0" * 64}]
)
def test_a_report_about_something_else_is_not_a_proof(wrong: dict[str, str]) -> None:
    for keys in (KEYS, NO_KEYS):
        store = MemoryStore()
        made = manifest(NOW - HOUR)
        put(store, made, keys, proven=False)
        store.put(layout.report("shop", made.id, NOW), encode(report(made, keys, **wrong), keys))
        [entry] = history(store, keys).backups
        assert entry.state == "unverified"


def test_attempts_of_strangers_are_not_read() -> None:
    store = MemoryStore()
    put_attempt(store, attempt(NOW - HOUR), KEYS)
    for keys in (OTHERS, NO_KEYS):
        put_attempt(store, attempt(NOW, totals={"success": 1000}), keys)
    assert [each.totals for each in history(store, KEYS).attempts] == [{"success": 3}]
    # Nor does one of ours under another name.
    ours = put_attempt(store, attempt(NOW - 2 * HOUR), KEYS)
    store.put(layout.attempt("shop", "20261127T110000Z-abcdef", "prune"), store.get(ours))
    assert len(history(store, KEYS).attempts) == 2


def test_a_deleted_backup_that_is_put_back_is_ignored() -> None:
    store = MemoryStore()
    old = manifest(NOW - 9 * DAY)
    put(store, old, KEYS)
    put_attempt(store, attempt(NOW - HOUR, kind="prune", deleted=(old.id,)), KEYS)
    assert states(store) == {old.id: "REPLAYED"}
    assert history(store, KEYS).latest is None


def test_records_of_others_do_not_crowd_out_ours(wired: Wire) -> None:
    """Someone who can only add objects must not make us forget our own attempts, or make our prune delete their records."""
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop", BACKUP_MANIFEST_KEY=KEY)
    now, old = datetime.now(UTC), manifest(datetime.now(UTC) - 9 * DAY)
    put(wiring.store, old, wiring.keys)
    done = attempt(now - 2 * HOUR, kind="prune", deleted=(old.id,), totals={"success": 7})
    ours = put_attempt(wiring.store, done, wiring.keys)
    for number in range(KEPT + 10):
        moment = now + (number * DAY if number % 2 else -HOUR)
        put_attempt(wiring.store, attempt(moment, kind="prune", totals={"success": 1}))
    for _ in range(2):
        found = read(wiring).history("shop")
        assert [each.totals for each in found.attempts][:1] == [{"success": 7}]
        assert [entry.state for entry in found.others] == ["REPLAYED"]
        prune(wiring, wiring.targets[0])
        assert wiring.store.head(ours) is not None
    newest = read(wiring).history("shop").newest("prune", finished=True)
    assert newest is not None
    assert newest.totals == {"success": 9}
    assert old.id in newest.deleted


def test_without_a_key_records_from_the_future_do_not_count() -> None:
    store = MemoryStore()
    put_attempt(store, attempt(NOW - HOUR))
    for days in range(1, 61):
        put_attempt(store, attempt(NOW + days * DAY, totals={"success": 1}))
    assert [each.totals for each in history(store).attempts] == [{"success": 3}]


def test_a_prune_writes_down_what_it_has_deleted(wired: Wire) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop", BACKUP_MANIFEST_KEY=KEY)
    now = datetime.now(UTC)
    for days in range(1, 13):
        put(wiring.store, manifest(now - days * DAY + 20 * HOUR), wiring.keys)
    first = prune(wiring, wiring.targets[0])
    assert first.deleted
    backup_id = first.deleted[0]
    moment = datetime.strptime(backup_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    put(wiring.store, manifest(moment, id=backup_id), wiring.keys)
    found = read(wiring).history("shop")
    assert [(entry.id, entry.state) for entry in found.others] == [(backup_id, "REPLAYED")]
    again = prune(wiring, wiring.targets[0])
    assert again.deleted == ()
    assert read(wiring).history("shop").others


def test_add_only_rights_delete_nothing(wired: Wire) -> None:
    """More backups, one for each day and a little later, must not make our own prune delete the genuine ones."""
    for key in (KEY, ""):
        folder = f"shop{len(key)}"
        wiring = wired(
            BACKUP_DATABASE_URLS=f"{folder}=postgresql://u@127.0.0.1:9/shop",
            BACKUP_MANIFEST_KEY=key,
        )
        now = datetime.now(UTC)
        for days in range(11):
            put(wiring.store, manifest(now - days * DAY - 2 * HOUR, database=folder), wiring.keys)
            put(wiring.store, manifest(now - days * DAY - HOUR, database=folder))
        done = prune(wiring, wiring.targets[0])
        assert done.deleted == (), key
        assert done.plan.blocked, key
        wanted = "is unsigned" if key else "at once"
        assert any(wanted in reason for reason in done.plan.blocked), done.plan.blocked


@pytest.mark.parametrize("days", [5, 6, 8, 20])
def test_however_many_there_are_half_of_them_never_go_at_once(wired: Wire, days: int) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop")
    now = datetime.now(UTC)
    for day in range(days):
        put(wiring.store, manifest(now - day * DAY - 2 * HOUR))
        put(wiring.store, manifest(now - day * DAY - HOUR))
    done = prune(wiring, wiring.targets[0])
    assert done.deleted == ()
    assert any("at once" in reason for reason in done.plan.blocked), done.plan.blocked


def test_without_a_key_nothing_may_appear_among_older_backups(wired: Wire) -> None:
    """A few each day, each a little later than a genuine one, would eventually replace all of them."""
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop")
    target, now = wiring.targets[0], datetime.now(UTC)
    for day in range(8):
        put(wiring.store, manifest(now - day * DAY - 2 * HOUR))
    assert prune(replace(wiring, clock=lambda: now - HOUR), target).plan.blocked == ()
    for day in (5, 6):
        put(wiring.store, manifest(now - day * DAY - HOUR))
    for _ in range(2):
        done = prune(wiring, target)
        assert done.deleted == ()
        assert any("2 that are older than the last prune" in each for each in done.plan.blocked) or any(
            "before an earlier prune" in each for each in done.plan.blocked
        )
    assert prune(wiring, target, agreed=True).plan.blocked == ()


def test_a_prune_that_failed_is_not_the_last_one(wired: Wire) -> None:
    """It may have counted half of the backups."""
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop")
    now = datetime.now(UTC)
    for day in range(8):
        put(wiring.store, manifest(now - day * DAY - 2 * HOUR))
    for outcome, blocked in (("failure", False), ("success", True)):
        put_attempt(wiring.store, attempt(now - HOUR, kind="prune", outcome=outcome, decisions={"keep": 5}))
        assert bool(plan_for(wiring, read(wiring).history("shop")).blocked) is blocked


@pytest.mark.parametrize("spool", [True, False])
def test_backups_from_the_spool_may_appear_among_older_ones(wired: Wire, tmp_path: Path, spool: bool) -> None:
    wiring = wired(
        BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop",
        BACKUP_SPOOL_DIR=str(tmp_path / "spool") if spool else "",
    )
    target, now = wiring.targets[0], datetime.now(UTC)
    for day in range(8):
        put(wiring.store, manifest(now - day * DAY - 2 * HOUR))
    assert prune(replace(wiring, clock=lambda: now - HOUR), target).plan.blocked == ()
    for day in (5, 6):
        put(wiring.store, manifest(now - day * DAY - HOUR))
    assert bool(prune(wiring, target).plan.blocked) is not spool


def test_a_jump_in_the_number_of_backups_blocks_until_a_person_agrees(wired: Wire) -> None:
    """Even without a key, the usual number is pruned each day, and nothing on the day of the flood."""
    wiring = wired(
        BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop",
        BACKUP_KEEP_LAST="3",
        BACKUP_KEEP_DAILY="0",
        BACKUP_KEEP_WEEKLY="0",
        BACKUP_KEEP_MONTHLY="0",
    )
    target, begun = wiring.targets[0], datetime.now(UTC) - 10 * DAY
    for number in range(2):
        put(wiring.store, manifest(begun - number * DAY))
    for day in range(1, 8):
        now = begun + day * DAY
        put(wiring.store, manifest(now - HOUR))
        done = prune(replace(wiring, clock=partial(datetime.fromtimestamp, now.timestamp(), UTC)), target)
        assert (done.plan.blocked, len(done.deleted)) == ((), int(day > 1)), day
    for number in range(8):  # with arbitrary dates
        put(wiring.store, manifest(now - number * HOUR))
    later = replace(wiring, clock=lambda: now + HOUR)
    for _ in range(2):  # the next prune remembers the jump
        done = prune(later, target)
        assert done.deleted == ()
        assert any("more backups appeared than usual" in reason for reason in done.plan.blocked)
    state = new_state(later)
    state.refresh()
    assert samples(state)['backup_prune_blocked{database="shop"}'] == 1
    assert prune(later, target, agreed=True).deleted


def test_what_everyone_is_notified_of(wired: Wire) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop", BACKUP_MANIFEST_KEY=KEY)
    now = datetime.now(UTC)
    put(wiring.store, manifest(now - 5 * HOUR), wiring.keys)
    put(wiring.store, manifest(now - HOUR), OTHERS)
    put(wiring.store, manifest(now - 2 * HOUR))
    state = new_state(wiring)
    state.refresh()
    found = samples(state)
    assert found['backup_untrusted{database="shop",reason="forged"}'] == 1
    assert found['backup_untrusted{database="shop",reason="unsigned"}'] == 1
    assert found['backup_count{database="shop",tier="total"}'] == 1
    assert found['backup_prune_blocked{database="shop"}'] == 1
    assert 5 * 3600 - 60 < found['backup_age_seconds{database="shop"}'] < 5 * 3600 + 60


def test_the_first_run_with_a_key_is_made_up_for_at_once(wired: Wire) -> None:
    """Until then no existing backup counts."""
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop", BACKUP_MANIFEST_KEY=KEY)
    put(wiring.store, manifest(datetime.now(UTC) - HOUR))
    state = new_state(wiring)
    state.refresh()
    assert Jobs(state)._missed(wiring.targets[0])
    put(wiring.store, manifest(datetime.now(UTC)), wiring.keys)
    state.refresh()
    assert not Jobs(state)._missed(wiring.targets[0])


def forged(command: Command, store: Path, other: str, **settings: str) -> tuple[str, str]:
    """One of our backups, and under its name a copy of someone else's, with forged digests and report."""
    genuine = command.passed("run", **settings)
    assert command.passed("verify", genuine["id"], **settings)["ok"]
    away = store.parent / "away"
    away.mkdir(exist_ok=True)
    theirs = command.passed("run", DATABASE_URL=other, BACKUP_STORE_URL=f"file://{away}")
    assert command.passed("verify", theirs["id"], DATABASE_URL=other, BACKUP_STORE_URL=f"file://{away}")["ok"]
    folder = store / genuine["database"] / theirs["id"]
    shutil.copytree(away / theirs["database"] / theirs["id"], folder)
    for file in folder.glob("*.json"):
        value = json.loads(file.read_text())
        value["database"] = genuine["database"]
        file.write_bytes(redigested(value))
    key = "manifest.json"
    digest = Manifest.decode((folder / key).read_bytes(), key).digest
    for file in folder.glob("verification-*.json"):
        file.write_bytes(redigested({**json.loads(file.read_text()), "manifest": digest}))
    return genuine["id"], theirs["id"]


def test_a_forged_backup_is_neither_verified_nor_restored(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    other = postgres.url_for(new_database("CREATE TABLE theirs (i int)", "theirs"))
    settings = {"BACKUP_MANIFEST_KEY": KEY}
    genuine, fake = forged(command, tmp_path / "store", other, **settings)
    assert {each["id"]: each["state"] for each in command.passed("list", **settings)} == {
        genuine: "verified",
        fake: "unsigned",
    }
    assert command.passed("verify", "latest", **settings)["id"] == genuine
    restored = command.passed("restore", "latest", **settings)
    assert restored["id"] == genuine
    for arguments in (("verify", fake), ("restore", fake), ("drill", fake), ("show", fake)):
        done = command(*arguments, **settings)
        assert done.status == 2, done
        assert f"{fake} is unsigned" in done.err
        assert f"restore --unsigned {fake}" in done.err
    assert command("restore", "--unsigned", "latest", **settings).status == 2
    # A person who names it explicitly gets it. Both may have been taken in one second, and then have the same default name.
    into = f"{other.rpartition('/')[2]}_unsigned"
    assert command.passed("restore", "--unsigned", fake, "--into", into, **settings)["id"] == fake


def test_without_a_key_a_plain_backup_among_encrypted_ones_is_not_restored(
    command: Command, postgres: Postgres, new_database: NewDatabase, tmp_path: Path
) -> None:
    identity = pyrage.x25519.Identity.generate()
    settings = {"BACKUP_AGE_RECIPIENTS": str(identity.to_public()), "BACKUP_AGE_IDENTITY": str(identity)}
    other = postgres.url_for(new_database("CREATE TABLE theirs (i int)", "theirs"))
    genuine, fake = forged(command, tmp_path / "store", other, **settings)
    done = command("verify", fake, "--json", **settings)
    assert done.status == 1, done
    assert {each["kind"] for each in done.json["differences"]} == {"encryption"}
    done = command("restore", fake, **settings)
    assert done.status == 1, done
    assert "encrypted" in done.err
    assert command.passed("restore", "latest", **settings)["id"] == genuine


def test_the_plan_looks_only_at_our_own(wired: Wire) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://u@127.0.0.1:9/shop", BACKUP_MANIFEST_KEY=KEY)
    now = datetime.now(UTC)
    mine = manifest(now - 3 * HOUR)
    put(wiring.store, mine, wiring.keys)
    put(wiring.store, manifest(now - HOUR))
    assert [each.id for each in plan_for(wiring, read(wiring).history("shop")).decisions] == [mine.id]
