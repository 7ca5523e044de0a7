"""What is removed as a leftover, and what only looks like one."""

from collections.abc import Iterator

import pytest

from backup.catalogue import layout
from backup.catalogue.records import added, continued, errors_so_far
from backup.catalogue.sweep import MAX_NAMED, sweep
from backup.errors import StoreError
from backup.store import MemoryStore
from backup.store.base import ObjectInfo
from tests.backup.documents import NOW, attempt, manifest, put


def folder_of(store: MemoryStore, backup_id: str) -> list[str]:
    return [key for key in store.objects if backup_id in key]


@pytest.mark.parametrize("listed", [False, True])
def test_only_objects_without_a_manifest_are_removed(listed: bool) -> None:
    store = MemoryStore()
    made = manifest()
    put(store, made)
    left, other = "20260101T000000Z-aaaaaa", "20260101T000000Z-bbbbbb"
    for name in ("database.dump.zst", "globals.sql.zst"):
        store.put(f"{layout.folder('shop', left)}/{name}", b"x")
    store.put(f"{layout.folder('blog', other)}/database.dump.zst", b"x")
    store.put("shop/readme.txt", b"not ours")
    before = set(store.objects)
    swept = sweep(
        store,
        "shop",
        set(store.objects) - {f"{layout.folder('blog', other)}/database.dump.zst"} if listed else None,
    )
    assert (swept.uploads, swept.objects, swept.problems) == (0, 2, ())
    assert before - set(store.objects) == {
        f"{layout.folder('shop', left)}/{name}" for name in ("database.dump.zst", "globals.sql.zst")
    }


def test_what_was_listed_is_not_listed_again() -> None:
    def refuse(operation: str, _: str) -> None:
        if operation == "list":
            raise StoreError("listed again", hint="", operation=operation)

    store = MemoryStore()
    key = f"{layout.folder('shop', '20260101T000000Z-aaaaaa')}/database.dump.zst"
    store.put(key, b"x")
    store.fault = refuse
    swept = sweep(store, "shop", [key])
    assert swept.objects == 1
    assert not any("delete leftover objects" in problem for problem in swept.problems)


class Forgetful(MemoryStore):
    """A store whose listing lacks the manifests."""

    def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in super().walk(prefix) if not info.key.endswith(layout.MANIFEST))


def test_a_backup_whose_manifest_the_listing_lacks_is_kept() -> None:
    store = Forgetful()
    made = manifest()
    put(store, made)
    left = f"{layout.folder('shop', '20260101T000000Z-aaaaaa')}/database.dump.zst"
    store.put(left, b"x")
    kept = folder_of(store, made.id)
    swept = sweep(store, "shop")
    assert folder_of(store, made.id) == kept
    assert left not in store.objects
    assert swept.objects == 1
    assert swept.problems == (f"the store's listing lacked the manifest of {made.id}; the backup was kept",)


def test_what_the_store_refuses_to_delete_is_counted_and_named_in_part() -> None:
    store = MemoryStore()
    keys = [f"{layout.folder('shop', '20260101T000000Z-aaaaaa')}/{number}" for number in range(MAX_NAMED + 2)]
    for key in keys:
        store.put(key, b"x")
        store.locked[key] = NOW.replace(year=9999)
    free = f"{layout.folder('shop', '20260101T000000Z-aaaaaa')}/free"
    store.put(free, b"x")
    swept = sweep(store, "shop")
    assert swept.objects == 1
    assert len(swept.problems) == MAX_NAMED
    assert all(problem.startswith("left over: shop/") for problem in swept.problems)
    assert set(store.objects) == set(keys)


def test_unfinished_uploads_are_aborted_one_by_one() -> None:
    store = MemoryStore()
    for name in ("a", "b"):
        store.begin(f"{layout.folder('shop', '20260101T000000Z-aaaaaa')}/{name}")
    swept = sweep(store, "shop")
    assert (swept.uploads, swept.objects, swept.problems) == (2, 0, ())
    assert list(store.pending("shop/")) == []


def test_totals_and_errors_are_continued_in_the_order_of_the_starts() -> None:
    main = [
        attempt(NOW.replace(hour=1), totals={"success": 4}, store_errors={"main:put": 1}),
        attempt(NOW.replace(hour=2), outcome="running", finished=None, totals={"success": 4}),
    ]
    known = attempt(NOW.replace(hour=3), id=main[0].id)
    failed = attempt(
        NOW.replace(hour=4), outcome="failure", totals={"failure": 1}, new_errors={"main:put": 2}
    )
    running = attempt(NOW.replace(hour=5), outcome="running", finished=None, totals={})
    drill = attempt(NOW.replace(hour=6), kind="drill", totals={"success": 1})
    last = attempt(NOW.replace(hour=7), totals={"success": 1}, new_errors={"main:get": 1})
    found = continued(main, [last, drill, running, failed, known])
    assert [each.started.hour for each in found] == [4, 5, 6, 7]
    assert [each.totals for each in found] == [
        {"success": 4, "failure": 1},
        {"success": 4, "failure": 1},
        {"success": 1},
        {"success": 5, "failure": 1},
    ]
    assert found[0].store_errors == {"main:put": 3}
    assert found[-1].store_errors == {"main:get": 1, "main:put": 3}
    assert errors_so_far([]) == {}
    late_end = attempt(NOW.replace(hour=0), finished=NOW.replace(hour=9), store_errors={"main:put": 7})
    assert errors_so_far([late_end, *main, running]) == {"main:put": 7}
    assert added({"a": 1}, {"a": 2, "b": 3}) == {"a": 3, "b": 3}
