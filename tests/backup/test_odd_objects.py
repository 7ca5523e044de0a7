"""A folder may contain anything: genuine backups are still listed, taken, verified and restored."""

import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.errors import VerificationError
from backup.physical.unpack import unpack
from backup.service import status_page
from backup.service.metrics import registry
from backup.service.state import new_state
from backup.store import LocalStore, MemoryStore
from tests.backup.conftest import Wire, samples
from tests.backup.documents import KEYS, NOW, attempt, history, manifest, put, put_attempt, report
from tests.backup.restorekit import Command

HOUR = timedelta(hours=1)


@pytest.fixture
def command(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(environ, monkeypatch, capsys)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/file")


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def from_year_33658(path: Path) -> None:
    path.write_bytes(b"{}")
    os.utime(path, (10**12, 10**12))


def before_all_years(path: Path) -> None:
    path.write_bytes(b"{}")
    os.utime(path, (-(10**11), -(10**11)))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def bytes_that_are_not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00{")


ODD: dict[str, Callable[[Path], object]] = {
    "loop": loop,
    "dangling": dangling,
    "endless": endless,
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "far": from_year_33658,
    "early": before_all_years,
    "sparse": sparse,
    "bytes": bytes_that_are_not_text,
}
NAMES = [b"a\nb", b"\xff\xfe", b"[bold]x", b"\x1b[2J", b"..x", b"x" * 255, "é\u202e".encode()]


def test_odd_objects_in_a_folder(command: Command, tmp_path: Path) -> None:
    """Each oddity in each place, all at once; the file of a hold, of which there is one, is each of them in turn."""
    made = command.passed("run")
    store = tmp_path / "store"
    database = store / made["database"]
    for number, put_odd in enumerate(ODD.values()):
        for place in places(store, database, made["id"], number):
            place.parent.mkdir(exist_ok=True)
            put_odd(place)
    for name in NAMES:
        for parent in (store, database, database / made["id"], database / "attempts"):
            Path(os.fsdecode(os.fsencode(parent) + b"/" + name)).write_bytes(b"{}")
    begun = time.monotonic()
    assert made["id"] in [each["id"] for each in command.passed("list")]
    assert command("list").status == 0
    assert command.passed("verify", made["id"])["ok"]
    again = command.passed("run")
    assert command.passed("verify", again["id"])["ok"]
    assert command.passed("restore", "latest")["id"] == again["id"]
    hold = database / made["id"] / layout.HOLD
    for put_odd in ODD.values():
        put_odd(hold)
        for arguments in (("list",), ("prune",), ("show", made["id"]), ("show", made["id"], "--json")):
            done = command(*arguments)
            done.passes()
            assert "Traceback" not in done.err
        hold.rmdir() if hold.is_dir() and not hold.is_symlink() else hold.unlink()
    assert time.monotonic() - begun < 120


def places(store: Path, database: Path, backup_id: str, number: int) -> list[Path]:
    """Where an object may be odd; other paths for each number."""
    now = datetime.now(UTC) - number * timedelta(minutes=1)
    other = now - timedelta(days=1)
    fake = database / layout.manifest("x", f"{other:%Y%m%dT%H%M%SZ}-abcdef").split("/")[1]
    return [
        fake / layout.MANIFEST,
        fake / "database.dump.zst",
        database / backup_id / f"verification-{now:%Y%m%dT%H%M%SZ}.json",
        database / "attempts" / f"{now:%Y%m%dT%H%M%SZ}-abcdef-backup.json",
        database / "attempts" / f"{now:%Y%m%dT%H%M%SZ}-abcdef-prune.json",
        store / ".uploads" / f"x{number}.key",
        store / f"x{number}",
        database / f"x{number}",
    ]


@pytest.mark.parametrize("odd", ODD)
def test_the_service_among_odd_objects(odd: str, wired: Wire, tmp_path: Path) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://nobody@127.0.0.1:9/shop")
    put(wiring.store, manifest(datetime.now(UTC) - HOUR))
    folder = tmp_path / "store" / "shop" / "20200101T000000Z-abcdef"
    folder.mkdir()
    ODD[odd](folder / layout.MANIFEST)
    ODD[odd](tmp_path / "store" / "shop" / "x")
    state = new_state(wiring)
    state.refresh()
    assert state.problems["main"] is None
    assert samples(state)['backup_count{database="shop",tier="verified"}'] == 1
    assert "shop" in status_page.render(state)


def test_an_old_report_under_a_newer_name_is_an_old_report() -> None:
    """A signed report about this backup: only the time in it counts, not its name, which anyone can change."""
    store = MemoryStore()
    made = manifest(NOW - 5 * HOUR)
    put(store, made, KEYS)
    [passed] = [info.key for info in store.walk() if layout.is_report(info.key.rpartition("/")[2])]
    failed = report(made, KEYS, ok=False, finished=NOW - HOUR)
    store.put(layout.report("shop", made.id, failed.finished), encode(failed, KEYS))
    assert [entry.state for entry in history(store, KEYS).backups] == ["FAILED"]
    for name in ("verification-99991231T235959Z.json", "verification-x.json", "verification-zzz.json"):
        store.put(f"shop/{made.id}/{name}", store.get(passed))
    found = history(store, KEYS)
    assert [entry.state for entry in found.backups] == ["FAILED"]
    assert found.last_verified is None


def test_a_record_invents_no_series(wired: Wire) -> None:
    wiring = wired(BACKUP_DATABASE_URLS="shop=postgresql://nobody@127.0.0.1:9/shop")
    errors = {f"main:{number}": 1 for number in range(1000)} | {"other:get": 1, "x": 5, "main:get": 7}
    put_attempt(
        wiring.store, attempt(datetime.now(UTC), store_errors=errors, decisions={"x\n": 1}, totals={"y": 1})
    )
    state = new_state(wiring)
    state.refresh()
    page = generate_latest(registry(state)).decode()
    assert 'backup_store_errors_total{operation="get",store="main"} 7.0' in page
    assert page.count("backup_store_errors_total{") == 11
    assert "other" not in page


def test_pending_uploads_of_another_user(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.check()
    for number, make in enumerate(ODD.values()):
        make(tmp_path / ".uploads" / f"{number}.key")
    store.begin("shop/x")
    assert [upload.key for upload in store.pending("shop/")] == ["shop/x"]
    assert json.dumps([info.key for info in store.walk()]) == "[]"


@pytest.mark.parametrize(
    "members",
    [
        [("a", b"0"), ("a/b", b"0")],
        [("a", b"0"), ("a", b"5")],
        [("a", b"5"), ("a", b"0")],
        [("a" * 300, b"0")],
        [("", b"0")],
        [(".", b"0")],
        [("../a", b"0")],
        [("/a", b"0")],
        [("a", b"1")],
        [("a", b"2")],
        [("a", b"3")],
        [("a", b"6")],
    ],
)
def test_odd_members_of_a_base_backup(members: list[tuple[str, bytes]], tmp_path: Path) -> None:
    """Files below files, folders in place of files, links, devices and pipes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    packed.seek(0)
    with pytest.raises(VerificationError):
        unpack(packed, tmp_path / "data", lambda: None)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
