"""What a verification reports, and when a host cannot verify a backup, without any server."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backup.catalogue.history import Entry
from backup.catalogue.manifest import Extension, StoredObject
from backup.catalogue.records import Difference
from backup.ownership import is_foreign
from backup.store import MemoryStore
from backup.verify import provable, verifier
from tests.backup.documents import NOW, history, manifest, put, report
from tests.backup.test_wires import wired

LOST = Difference(kind="rows", object="public.posts", expected="10 rows", found="9 rows")


@pytest.mark.parametrize(
    ("differences", "unprovable", "ok"), [([], [], True), ([LOST], [], False), ([], ["no disk"], False)]
)
def test_only_a_verification_that_found_and_lacked_nothing_is_a_proof(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    differences: list[Difference],
    unprovable: list[str],
    ok: bool,
) -> None:
    def compare(_: object, __: object, findings: Any, ___: object) -> str:
        findings.differences += differences
        findings.unprovable += unprovable
        return "18.1"

    store = MemoryStore()
    put(store, manifest(), proven=False)
    wiring = replace(wired(tmp_path, store), clock=lambda: NOW)
    (entry,) = history(store).backups
    monkeypatch.setattr(verifier, "_verify", compare)
    made = verifier.verify(wiring, entry)
    after = history(store)
    (stored,) = after.reports
    assert made.ok == stored.ok
    assert (stored.ok, stored.manifest, stored.server) == (ok, entry.manifest.digest, "18.1")
    assert after.backups[0].verified == ok
    assert [each.outcome for each in after.attempts] == ["success" if ok else "failure"]


BIG = StoredObject(name="a", role="archive", raw_bytes=1000, stored_bytes=5, sha256="a" * 64)


class Here:
    """The programs of this host: PostgreSQL 17.4 without extensions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, _: str) -> bool:
        return True

    def version(self, _: str) -> str:
        return "17.4"

    def major(self, _: str) -> int:
        return 17

    def extension_folder(self) -> Path:
        return self._folder


@pytest.mark.parametrize(
    ("theirs", "suspect"),
    [("17.3", False), ("17.4", False), ("17.5", True), ("17.10", True), ("16.9", False), ("", False)],
)
def test_only_older_programs_of_the_same_version_are_suspicious(
    tmp_path: Path, theirs: str, suspect: bool
) -> None:
    server = manifest().server.model_copy(update={"version": theirs})
    here: Any = Here(tmp_path)
    assert bool(list(provable.suspicions(server, here))) == suspect


@pytest.mark.parametrize(
    ("client", "given", "lacks"),
    [
        ("17.4", False, ["extensions are missing here: postgis"]),
        ("17.4", True, []),
        ("16.1", True, []),
        ("18.0", True, ["the archive was written by pg_dump 18.0"]),
    ],
)
def test_what_this_host_lacks_is_known_before_the_download(
    tmp_path: Path, client: str, given: bool, lacks: list[str]
) -> None:
    made = manifest(client=client, extensions=(Extension(name="postgis", version="3"),))
    here: Any = Here(tmp_path)
    found = provable.beforehand(made, here, Path("/"), given=given)
    assert [any(why.startswith(one) for why in found) for one in lacks] == [True] * len(lacks)
    assert len(found) == len(lacks)


@pytest.mark.parametrize(
    ("free", "given", "floor", "fits"),
    [
        (2.9, False, 0, False),
        (3.0, False, 0, True),
        (3.4, False, 5, False),
        (3.5, False, 5, True),
        (1.0, True, 0, False),
        (1.1, True, 0, True),
    ],
)
def test_a_restore_needs_three_times_the_plain_size_and_its_archive_alone_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, given: bool, floor: float, fits: bool
) -> None:
    """Beyond the share of the disk that must stay free."""
    made = manifest(client="17.4", objects=(BIG,))
    usage = SimpleNamespace(free=int(1000 * free), total=10_000)
    monkeypatch.setattr("backup.verify.provable.shutil.disk_usage", lambda _: usage)
    here: Any = Here(tmp_path)
    found = provable.beforehand(made, here, Path("/"), given=given, floor=floor)
    assert ["BACKUP_WORK_DIR" in why for why in found] == ([] if fits else [True])


def test_the_path_of_a_socket_has_107_bytes() -> None:
    room = 107 - len("/posthub-verify-12345678/pg/.s.PGSQL.5432")
    assert list(provable.too_long(Path("/" + (room - 1) * "x"))) == []
    assert "1 bytes too long" in next(provable.too_long(Path("/" + room * "x")))


@pytest.mark.parametrize(
    ("kind", "identifier", "foreign"),
    [
        ("postgres", "7", False),
        ("postgres", "8", True),
        ("postgres", "", False),
        ("server", "8", True),
        ("redis", "8", False),
    ],
)
def test_only_a_backup_of_another_known_cluster_is_foreign(kind: str, identifier: str, foreign: bool) -> None:
    server = SimpleNamespace(system_identifier=identifier)
    entry: Any = SimpleNamespace(manifest=SimpleNamespace(kind=kind, server=server))
    assert is_foreign(entry, {"7", "9"}) == foreign


@pytest.mark.parametrize(("size", "damaged"), [(5, False), (4, True), (6, True), (None, True)])
def test_an_object_that_is_gone_or_has_another_size_is_damage(size: int | None, damaged: bool) -> None:
    store = MemoryStore()
    folder = put(store, manifest(objects=(BIG,)))
    store.delete([f"{folder}/a"])
    if size is not None:
        store.put(f"{folder}/a", size * b"0")
    (entry,) = history(store).backups
    assert (entry.damaged, entry.verified) == (damaged, not damaged)
    assert entry.missing == (("a",) if damaged else ())


@pytest.mark.parametrize(("missing", "doubtful"), [((), True), (("a",), False)])
def test_a_check_that_fails_on_intact_bytes_is_doubtful(missing: tuple[str, ...], doubtful: bool) -> None:
    failed = Difference(kind="check", object="users", expected="exit 0", found="exit 1")
    made = manifest(objects=(BIG,))
    entry = Entry(made, (report(made, ok=False, differences=(failed,)),), missing)
    assert entry.doubtful == doubtful


def test_a_backup_from_the_future_is_not_the_latest() -> None:
    first, ahead = (
        cast("Entry", SimpleNamespace(manifest=SimpleNamespace(taken=NOW + timedelta(hours=hours))))
        for hours in (0, 25)
    )
    assert replace(history(MemoryStore()), backups=(first, ahead), read=NOW).latest is first
