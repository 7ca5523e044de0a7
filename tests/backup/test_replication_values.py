"""What copies keep of a manifest, and what a store that answers again is known for."""

from pathlib import Path
from typing import Any

from backup.catalogue import layout
from backup.catalogue.signatures import NO_KEYS
from backup.errors import StoreError
from backup.notify import Notifier, notifier_for
from backup.replication.copy import Route, _as_stored
from backup.replication.merged import Catalogues
from backup.service.status_page import _problems
from backup.service.summary import Problem
from backup.store import MemoryStore
from backup.store.parts import PartSizes
from tests.backup.documents import NOW, manifest, put
from tests.backup.test_wires import wired


class Away(MemoryStore):
    """A store that can be away."""

    away = False

    def walk(self, prefix: str = "") -> Any:
        if self.away:
            raise StoreError("it is away", hint="wait", operation="list")
        return super().walk(prefix)


def test_a_store_that_answers_again_has_no_problem(tmp_path: Path) -> None:
    store = Away()
    put(store, manifest(NOW))
    known = Catalogues(wired(tmp_path, store))
    assert len(known.read(["shop"]).history("shop").backups) == 1
    store.away = True
    assert len(known.read(["shop"]).history("shop").backups) == 1, "as it was last known"
    assert known.problem == "it is away"
    store.away = False
    known.read(["shop"])
    assert known.problem is None


def test_only_an_unchanged_manifest_is_copied_byte_by_byte() -> None:
    source, made = MemoryStore(), manifest(NOW)
    folder = put(source, made)
    data = source.get(layout.manifest("shop", made.id))
    route = Route(source, MemoryStore(), PartSizes(), NO_KEYS)
    stored = made.decode(data, "")
    assert _as_stored(route, folder, stored) == data
    assert _as_stored(route, folder, stored.model_copy(update={"anomalies": ("the size fell",)})) is None


def test_the_page_shows_what_is_bad_before_what_to_look_at() -> None:
    each: Any = type(
        "Each", (), {"problems": (Problem("warn", "odd"), Problem("bad", "late"), Problem("bad", "x"))}
    )
    shown = _problems(each, 1)
    assert shown.index("Needs attention") < shown.index("late") < shown.index("and 1 more")
    assert shown.index("and 1 more") < shown.index("Look at this") < shown.index("odd")


def test_messages_are_sent_only_to_addresses_that_are_set(tmp_path: Path) -> None:
    assert notifier_for(wired(tmp_path, MemoryStore())) is None
    given = wired(tmp_path, MemoryStore(), BACKUP_NOTIFY_URLS="json://127.0.0.1:1/x")
    assert isinstance(notifier_for(given), Notifier)
