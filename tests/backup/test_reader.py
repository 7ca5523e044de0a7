"""What is read of a store again, and which backups and attempts a history contains."""

from datetime import timedelta

import pytest

from backup.catalogue import layout
from backup.catalogue.reader import RECENT, Reader
from backup.catalogue.signatures import NO_KEYS, Keyring
from backup.policy.retention import CLOCK_TOLERANCE
from backup.store import MemoryStore
from tests.backup.documents import KEYS, NOW, OTHERS, attempt, manifest, put, put_attempt

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


class Counting(MemoryStore):
    """A store that remembers which objects were read."""

    def __init__(self) -> None:
        super().__init__(fault=self._note)
        self.got: list[str] = []

    def _note(self, operation: str, key: str) -> None:
        if operation in ("get", "read"):
            self.got.append(key)


def test_what_has_not_changed_is_not_read_again() -> None:
    store = Counting()
    put(store, manifest(NOW - DAY))
    put_attempt(store, attempt(NOW - DAY))
    reader = Reader(store, NO_KEYS)
    first = reader.read(NOW).history("shop")
    assert len(set(store.got)) == 3
    store.got.clear()
    again = reader.read(NOW + SECOND).history("shop")
    assert (again.backups, again.attempts) == (first.backups, first.attempts)
    assert (first.read, again.read) == (NOW, NOW + SECOND)
    assert store.got == []
    made = manifest(NOW - DAY / 2)
    put(store, made)
    assert reader.read(NOW).history("shop").backups[-1].id == made.id
    assert {key.split("/")[1] for key in store.got} == {made.id}
    for key in [key for key in store.objects if made.id in key]:
        del store.objects[key]
    assert len(reader.read(NOW).history("shop").backups) == 1


def test_only_databases_that_are_asked_for_are_read() -> None:
    store = Counting()
    for name in ("shop", "blog"):
        put(store, manifest(database=name))
    store.put("wal/main/1", b"")
    store.put("Not a name/x/manifest.json", b"")
    reader = Reader(store, NO_KEYS)
    assert [*reader.read(NOW).databases] == ["blog", "shop"]
    assert [*reader.read(NOW, ["shop"]).databases] == ["shop"]
    known, objects = reader.read_listed(NOW, "blog")
    assert (known.database, len(known.backups), len(objects)) == ("blog", 1, 3)
    nothing, objects = reader.read_listed(NOW, "other")
    assert (nothing.database, nothing.backups, objects) == ("other", (), {})


def test_an_attempt_from_the_future_counts_once_its_time_has_come() -> None:
    store = MemoryStore()
    moment = NOW + CLOCK_TOLERANCE + SECOND
    put_attempt(store, attempt(moment))
    reader = Reader(store, NO_KEYS)
    assert reader.read(NOW).history("shop").attempts == ()
    assert len(reader.read(NOW + 2 * SECOND).history("shop").attempts) == 1


@pytest.mark.parametrize(("keys", "back"), [(NO_KEYS, False), (KEYS, True)])
def test_only_a_signature_shows_that_a_deleted_backup_was_put_back(keys: Keyring, back: bool) -> None:
    store = MemoryStore()
    gone, stays = manifest(NOW - 2 * DAY), manifest(NOW - DAY)
    for each in (gone, stays):
        put(store, each, keys)
    put_attempt(store, attempt(NOW, kind="prune", deleted=(gone.id,)), keys)
    known = Reader(store, keys).read(NOW).history("shop")
    assert [each.id for each in known.backups] == [stays.id] if back else [gone.id, stays.id]
    assert [each.id for each in known.others] == ([gone.id] if back else [])
    # The same if only some backups are read.
    some = Reader(store, keys).read(NOW, ["shop"], lambda ids: ids[:1]).history("shop")
    assert ([each.id for each in some.backups], [each.id for each in some.others]) == (
        ([], [gone.id]) if back else ([gone.id], [])
    )


def test_only_the_chosen_backups_are_read() -> None:
    store = Counting()
    ids: list[str] = []
    for days in (3, 2, 1):
        made = manifest(NOW - days * DAY)
        put(store, made)
        ids.append(made.id)
    put_attempt(store, attempt(NOW))
    offered: list[list[str]] = []

    def newest(found: list[str]) -> list[str]:
        offered.append(found)
        return found[-1:]

    known = Reader(store, NO_KEYS).read(NOW, ["shop"], newest).history("shop")
    assert [each.id for each in known.backups] == ids[-1:]
    assert (offered, known.attempts) == ([ids], ())
    assert {key.split("/")[1] for key in store.got} == {ids[-1]}


def test_backups_are_sorted_by_their_start_and_not_by_their_ids() -> None:
    store = MemoryStore()
    moments = {"20261127T120000Z-ffffff": NOW, "20261127T120000Z-000000": NOW + timedelta(milliseconds=500)}
    for name, started in moments.items():
        put(store, manifest(NOW, id=name, started=started))
    known = Reader(store, NO_KEYS).read(NOW).history("shop")
    assert [each.id for each in known.backups] == [*moments]


def test_a_folder_without_a_manifest_is_not_a_backup_and_a_damaged_one_is_named() -> None:
    store = MemoryStore()
    made, torn = manifest(NOW - DAY), manifest(NOW)
    put(store, made)
    store.put(f"{layout.folder('shop', torn.id)}/database.dump.zst", b"0")
    known = Reader(store, NO_KEYS).read(NOW).history("shop")
    assert ([each.id for each in known.backups], known.broken) == ([made.id], ())
    store.put(layout.manifest("shop", torn.id), b"{}")
    assert [each.id for each in Reader(store, NO_KEYS).read(NOW).history("shop").broken] == [torn.id]


def test_a_history_has_the_newest_attempts_of_each_kind_but_none_that_was_skipped() -> None:
    store = MemoryStore()
    for number in range(RECENT + 2):
        put_attempt(store, attempt(NOW - number * SECOND))
    put_attempt(store, attempt(NOW - DAY, kind="prune"))
    put_attempt(store, attempt(NOW - 2 * DAY, kind="drill", outcome="skipped"))
    found = Reader(store, NO_KEYS).read(NOW).history("shop").attempts
    assert [each.kind for each in found] == ["prune", *["backup"] * RECENT]
    assert found[-1].started == NOW
    assert found == tuple(sorted(found, key=lambda each: each.started))


def test_recent_attempts_are_those_of_a_kind_and_the_newest_of_all() -> None:
    store = MemoryStore()
    for number in range(4):
        put_attempt(store, attempt(NOW - number * DAY, kind="prune" if number == 3 else "backup"))
    recent = Reader(store, NO_KEYS).recent_attempts("shop", "prune", NOW, 2)
    assert [(each.kind, each.started) for each in recent] == [
        ("prune", NOW - 3 * DAY),
        ("backup", NOW - DAY),
        ("backup", NOW),
    ]


def test_recent_manifests_are_ours_and_the_newest() -> None:
    store = MemoryStore()
    made = [manifest(NOW - days * DAY) for days in (5, 4, 3)]
    for each in made:
        put(store, each, KEYS)
    put(store, manifest(NOW - 2 * DAY), OTHERS)
    store.put(layout.manifest("shop", manifest(NOW - DAY).id), b"damaged")
    found = Reader(store, KEYS).recent_manifests("shop", 2)
    assert [each.id for each in found] == [each.id for each in made[1:]]
