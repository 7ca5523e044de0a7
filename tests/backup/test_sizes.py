"""A wrong size is noticed while data arrives, not when the disk is full."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyrage
import pytest
import zstandard

from backup.cancellation import never
from backup.catalogue.history import Entry
from backup.catalogue.manifest import Physical, StoredObject
from backup.errors import SpaceError
from backup.load.download import download
from backup.load.fetch import fetch
from backup.load.space import floored
from backup.physical.replica import DamagedError, replica
from backup.physical.segments import Segments
from backup.store import MemoryStore
from stack.paths import ROOT
from tests.backup.conftest import Wire
from tests.backup.documents import BASE_ROLES, NOW, manifest

BOMB = zstandard.ZstdCompressor(level=3).compress(bytes(1 << 30))


def bomb(raw: int = 5000) -> StoredObject:
    return StoredObject(
        name="database.dump.zst",
        role="archive",
        raw_bytes=raw,
        stored_bytes=len(BOMB),
        sha256=hashlib.sha256(BOMB).hexdigest(),
    )


def test_unpacking_stops_after_the_stated_size(tmp_path: Path, wired: Wire) -> None:
    assert len(BOMB) < 200_000
    store = MemoryStore()
    store.put("x", BOMB)
    got = fetch(store, "x", bomb(), tmp_path / "plain")
    assert got.too_large
    assert got.sha256 == bomb().sha256
    assert (tmp_path / "plain").stat().st_size < 2 << 20
    wiring = wired()
    made = manifest(NOW, objects=(bomb(),))
    wiring.store.put(f"shop/{made.id}/database.dump.zst", BOMB)
    work = tmp_path / "work"
    work.mkdir()
    _, [difference] = download(wiring, Entry(made), work)
    assert (difference.expected, difference.found) == ("5000 bytes unpacked", "more than 5000 bytes unpacked")
    assert sum(file.stat().st_size for file in work.iterdir()) < 2 << 20


def a_base(**more: Any) -> Entry:
    """A base backup that no one has signed."""
    objects = tuple(
        StoredObject(name=f"{name}.zst", role=role, raw_bytes=10, stored_bytes=10, sha256="0" * 64)
        for name, role in BASE_ROLES.items()
    )
    place = Physical(timeline=1, start=1 << 24, end=1 << 24, segment_size=1 << 24)
    return Entry(manifest(NOW, kind="server", physical=place, **{"objects": objects, **more}))


def test_a_base_backup_is_trusted_no_more_than_a_dump(tmp_path: Path, wired: Wire) -> None:
    """Unencrypted among encrypted ones, or with an unsigned size: not a byte of it is fetched."""
    identity = pyrage.x25519.Identity.generate()
    plain = a_base()
    large = a_base(
        objects=tuple(each.model_copy(update={"raw_bytes": 1 << 30}) for each in plain.manifest.objects)
    )
    segments = cast("Segments", None)
    for entry, settings, kind in (
        (plain, {"BACKUP_AGE_IDENTITY": str(identity)}, "encryption"),
        (large, {}, "size"),
    ):
        wiring = wired(**settings)
        with (
            pytest.raises(DamagedError) as raised,
            replica(wiring, entry, segments, tmp_path),
        ):
            raise AssertionError("it was unpacked")
        assert {each.kind for each in raised.value.differences} == {kind}
    assert list(tmp_path.glob("posthub-*")) == []


def test_an_unsigned_promise_is_not_believed_however_large(tmp_path: Path, wired: Wire) -> None:
    wiring = wired()
    made = manifest(NOW, objects=(bomb(1 << 30),))
    wiring.store.put(f"shop/{made.id}/database.dump.zst", BOMB)
    files, [difference] = download(wiring, Entry(made), tmp_path)
    assert (files, difference.kind) == ({}, "size")
    # A signature vouches for it.
    files, differences = download(wiring, Entry(made, trust="signed"), tmp_path)
    assert differences == []
    files["archive"].unlink()


def test_an_object_of_another_size_is_not_fetched(tmp_path: Path, wired: Wire) -> None:
    wiring = wired()
    made = manifest(NOW, size=10)
    wiring.store.put(f"shop/{made.id}/database.dump.zst", bytes(1000))
    files, [difference] = download(wiring, Entry(made), tmp_path)
    assert (difference.expected, difference.found) == ("10 bytes", "1000 bytes")
    assert files == {}


SMALL_DISK = """
import sys
from pathlib import Path
from backup.catalogue.history import Entry
from backup.errors import SpaceError
from backup.load.download import download
from backup.settings import BackupSettings
from backup.wiring import wire
from tests.backup.documents import BASE_ROLES, NOW, manifest
from tests.backup.test_sizes import BOMB, bomb

work = Path(sys.argv[1])
wiring = wire(BackupSettings.load())
def written():
    return sum(file.stat().st_size for file in work.iterdir())
made = manifest(NOW, objects=(bomb(),))
wiring.store.put(f"shop/{made.id}/database.dump.zst", BOMB)
_, [difference] = download(wiring, Entry(made), work)
print(difference.found, written() < 2 << 20)
made = manifest(NOW, objects=(bomb(1 << 30),))
wiring.store.put(f"shop/{made.id}/database.dump.zst", BOMB)
try:
    download(wiring, Entry(made, trust="signed"), work)
except SpaceError as error:
    print(error.message, written() < 60 << 20)
"""


def test_a_small_disk_is_not_filled(tmp_path: Path, environ: dict[str, str]) -> None:
    """A disk of 64 MiB with a quarter reserved: neither a wrong size nor a correct one fills it."""
    work = tmp_path / "work"
    work.mkdir()
    mount = f'mount -t tmpfs -o size=64m none {work} && exec "$0" -c "$1" {work}'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, sys.executable, SMALL_DISK],
        env={**os.environ, **environ, "BACKUP_WORK_DIR": str(work), "BACKUP_WORK_DIR_FLOOR": "25"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stderr.startswith(("unshare: ", "mount: ")):
        pytest.skip(f"no disk of 64 MiB here, {done.stderr.strip()}: sudo ./ops test, outside a container")
    assert done.returncode == 0, done.stderr
    lie, truth = done.stdout.splitlines()
    assert lie == "more than 5000 bytes unpacked True"
    assert "less than 25% of the disk" in truth
    assert truth.endswith(" True")


def test_the_floor_of_a_disk(tmp_path: Path) -> None:
    called: list[int] = []
    floored(tmp_path, 0, lambda: called.append(1))()
    # A new file system is never completely empty.
    with pytest.raises(SpaceError, match="less than 100%"):
        floored(tmp_path, 100, lambda: called.append(2))()
    assert called == [1, 2]


def test_the_disk_is_not_asked_for_each_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [100.0], list[float]()
    usage = SimpleNamespace(total=1 << 40, free=1 << 38)

    def look(_: Path) -> Any:
        looks.append(now[0])
        return usage

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(shutil, "disk_usage", look)
    called: list[int] = []
    check = floored(tmp_path, 0, lambda: called.append(1))
    for _ in range(1000):
        check()
    assert (len(called), looks) == (1000, [100.0])
    now[0] += 1
    check()
    assert looks == [100.0, 101.0]
    # With a gigabyte left, it could be full in a tenth of a second.
    usage.free = 1 << 30
    now[0] += 1
    check()
    now[0] += 0.07
    check()
    assert looks[2:] == [102.0, 102.07]


def test_a_full_disk_remains_a_failure(tmp_path: Path) -> None:
    check = floored(tmp_path, 100, never)
    for _ in range(2):
        with pytest.raises(SpaceError, match="less than 100%"):
            check()
