"""A bucket that locks every object and keeps no versions: what changes is stored again under a separate key."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
from botocore.stub import Stubber

from backup.catalogue import layout
from backup.catalogue.document import decode, encode
from backup.catalogue.hold import Hold
from backup.catalogue.journal import Backlog, Journal
from backup.catalogue.records import Attempt
from backup.catalogue.signatures import NO_KEYS
from backup.catalogue.sweep import sweep
from backup.cli import backup
from backup.doctor import examine
from backup.errors import DumpError, KeptError, StoreAccessError, StoreError
from backup.notify import Notifier
from backup.policy.notices import Message
from backup.replication.copy import Route, copy_backup, copy_reports
from backup.run import run
from backup.store import MemoryStore, NoDeleteStore, PartSizes, Refusal, RetryingStore, RetryPolicy, S3Options
from backup.store.s3 import S3Store
from tests.backup.documents import NOW, attempt, history, manifest, put, put_attempt
from tests.backup.test_wires import FakeLock, lock, wired  # noqa: F401 - a fixture


def kept(key: str) -> KeptError:
    return KeptError(f"put of {key}: AccessDenied", hint="read it", operation="put")


class Keeping(MemoryStore):
    """Refuses to replace or delete what exists, as a bucket with a default retention and without versions does."""

    def put(self, key: str, data: bytes, **more: object) -> None:
        if key in self.objects:
            raise kept(key)
        super().put(key, data)

    def delete(self, keys: Iterable[str]) -> list[Refusal]:
        return [Refusal(key, "locked") for key in keys if key in self.objects]


def test_an_attempt_begins_and_ends() -> None:
    store = Keeping()
    journal = Journal(store, "shop", clock=lambda: NOW)
    with journal.attempt("backup") as first:
        [begun] = history(store).attempts
        assert (begun.id, begun.outcome) == (first.record.id, "running")
    later = Journal(store, "shop", clock=lambda: NOW + timedelta(minutes=1))
    with pytest.raises(DumpError), later.attempt("backup"):
        raise DumpError("no space", hint="free some")
    # The beginnings are still there, and do not count.
    assert len(store.objects) == 4
    assert [each.outcome for each in history(store).attempts] == ["success", "failure"]
    assert history(store).attempts[-1].totals == {"success": 1, "failure": 1}
    newest = history(store).newest("backup")
    assert newest is not None
    assert (newest.outcome, newest.error) == ("failure", "no space")


def test_older_versions_read_every_record() -> None:
    """They know only that the key is that of the ID in it."""
    store = Keeping()
    with Journal(store, "shop", clock=lambda: NOW).attempt("backup"):
        pass
    found = {key: decode(Attempt, data, key)[0] for key, (data, _) in store.objects.items()}
    assert all(key == layout.attempt("shop", each.id, each.kind) for key, each in found.items())
    assert [each.outcome for _, each in sorted(found.items())] == ["running", "success"]


def test_a_run_that_died_is_ended_once() -> None:
    store = Keeping()
    put_attempt(store, attempt(NOW - timedelta(minutes=1), outcome="running", finished=None))
    for _ in range(2):
        Journal(store, "shop", clock=lambda: NOW).close_dead("backup")
    assert [each.outcome for each in history(store).attempts] == ["failure"]
    assert len(store.objects) == 2


def test_an_end_that_waited_for_the_store_is_written_once() -> None:
    store, backlog = Keeping(), Backlog()
    journal = Journal(store, "shop", backlog=backlog, clock=lambda: NOW)
    with journal.attempt("backup") as first:
        store.fault = lambda *_: (_ for _ in ()).throw(StoreError("down", hint="", operation="put"))
    store.fault = lambda *_: None
    journal.deliver()
    backlog.keep(first.record)
    journal.deliver()
    assert [each.outcome for each in history(store).attempts] == ["success"]
    assert len(store.objects) == 2


def test_a_whole_run(lock: FakeLock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811 - the fixture
    store = Keeping()
    wiring = wired(tmp_path, store)
    for _ in range(2):
        run(wiring, wiring.targets[0])
    assert "not written" not in caplog.text
    assert [each.outcome for each in history(store, now=wiring.clock()).attempts] == ["success", "success"]
    assert wiring.store.take_errors() == {}, "a refusal is an answer, not an error of the store"


def held(store: MemoryStore, made: str) -> bool:
    entry = history(store).find(made)
    assert entry is not None
    return entry.on_hold


def test_a_hold_is_released_and_set_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store, made = Keeping(), manifest(NOW - timedelta(days=1))
    put(store, made)
    minutes = count()
    wiring = replace(wired(tmp_path, store), clock=lambda: NOW + timedelta(minutes=next(minutes)))
    monkeypatch.setattr("backup.cli.hold.load", lambda **_: wiring)
    monkeypatch.setattr("backup.cli.hold.find", lambda *_: history(store).find(made.id))
    for verb in ("hold", "release", "hold", "release", "hold"):
        backup.main([verb, made.id], standalone_mode=False)
        assert held(store, made.id) is (verb == "hold")
    # A version that knows only the first object keeps the backup.
    first = decode(Hold, store.get(layout.hold("shop", made.id)), "")[0]
    assert first.held


def test_a_copy_follows_a_hold_once() -> None:
    source, target, made = MemoryStore("main"), Keeping("offsite"), manifest(NOW - timedelta(days=1))
    put(target, made)
    put(source, made)
    route = Route(source, target, PartSizes(), NO_KEYS)
    for minutes, wanted in enumerate((True, False, True)):
        moment = NOW + timedelta(minutes=minutes)
        data = encode(Hold(backup=made.id, database="shop", held=wanted, moment=moment))
        source.put(layout.hold("shop", made.id), data)
        for _ in range(2):
            copy_reports(route, source.walk("shop/"), {info.key for info in target.walk("shop/")})
        assert held(target, made.id) is wanted
        assert sum("hold" in key for key in target.objects) == minutes + 1


def test_a_copy_that_was_broken_off_is_continued() -> None:
    """What is left of it can neither be deleted nor replaced."""
    source, target = MemoryStore("main"), Keeping("offsite")
    data, made = b"0" * 10, manifest(NOW - timedelta(days=1))
    whole = made.objects[0].model_copy(update={"sha256": sha256(data).hexdigest()})
    made = made.model_copy(update={"objects": (whole,)})
    put(source, made)
    target.put(f"{layout.folder('shop', made.id)}/{whole.name}", data)
    assert "left over" in sweep(target, "shop").problems[0]
    [entry] = history(source).backups
    copy_backup(Route(source, target, PartSizes(), NO_KEYS), entry)
    assert [(each.id, each.state) for each in history(target).backups] == [(made.id, "verified")]


def test_what_was_notified_is_known_after_each_change(tmp_path: Path) -> None:
    store, sent, minutes = Keeping(), list[Message](), count()
    wiring = replace(wired(tmp_path, store), clock=lambda: NOW + timedelta(minutes=next(minutes)))

    def look() -> list[str]:
        """What a service that was just started sends."""
        sent.clear()

        def send(message: Message) -> bool:
            sent.append(message)
            return True

        Notifier(wiring, send).send_changes(history(store))
        return [message.title for message in sent if message.kind == "failed"]

    for hours, outcome in enumerate(("failure", "success", "failure", "success")):
        put_attempt(store, attempt(NOW - timedelta(hours=9 - hours), outcome=outcome))
        assert len(look()) == 1, outcome
        assert look() == [], outcome


def test_an_object_that_was_stored_although_its_answer_was_lost() -> None:
    inner = Keeping()
    store = RetryingStore(inner, RetryPolicy(attempts=2, first=0.01), sleep=lambda _: None)

    class LosingOne:
        lost = False

    put_it = inner.put

    def lose(key: str, data: bytes, **more: object) -> None:
        put_it(key, data, **more)
        if not LosingOne.lost:
            LosingOne.lost = True
            raise StoreError("timeout", hint="", operation="put", transient=True)

    inner.put = lose  # type: ignore[method-assign]
    store.put("shop/manifest.json", b"it")
    assert store.get("shop/manifest.json") == b"it"
    with pytest.raises(KeptError):
        store.put("shop/manifest.json", b"something else")


@pytest.mark.parametrize("there", [True, False])
def test_what_an_answer_means_depends_on_what_is_there(there: bool) -> None:
    """Servers refuse to replace a kept object with the code for a missing privilege."""
    store = S3Store(
        "bucket", "some", S3Options(region="x", access_key_id="AKEYID", secret_access_key="ASECRET")
    )
    with Stubber(store._bucket.client) as stubber:
        stubber.add_client_error("put_object", "AccessDenied", "no", 403)
        if there:
            moment = {"ContentLength": 1, "LastModified": NOW, "ETag": "e"}
            stubber.add_response("head_object", moment, {"Bucket": "bucket", "Key": "some/k"})
        else:
            stubber.add_client_error("head_object", "404", "", 404)
        with pytest.raises(KeptError if there else StoreAccessError):
            store.put("k", b"1")
        stubber.assert_no_pending_responses()


def test_doctor_passes_each_time(tmp_path: Path) -> None:
    inner = Keeping()
    wiring = wired(tmp_path, inner, BACKUP_DELETE="never")
    store = RetryingStore(NoDeleteStore(inner), RetryPolicy(attempts=1), sleep=lambda _: None)
    for _ in range(2):
        checks = {each.name: each for each in examine(replace(wiring, store=store))}
        for name in ("put, get, delete", "multipart", "clock"):
            assert checks[f"store main: {name}"].ok, checks
