"""How the backups in a store are listed, and how a person can name one."""

import os
import pty
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.catalogue import layout
from backup.catalogue.document import encode
from backup.catalogue.ids import stamp
from backup.catalogue.manifest import Keyspace, Manifest, Table, content
from backup.cli.run import content_of
from backup.spans import parse_moment
from backup.store import LocalStore
from tests.backup.documents import NOW, manifest, put, report
from tests.backup.restorekit import Command

pytest.importorskip("pyrage")

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    (tmp_path / "store").mkdir()
    return LocalStore(tmp_path / "store", "main")


@pytest.fixture
def command(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """On a host that has only the store."""
    return Command({"BACKUP_STORE_URL": f"file://{tmp_path}/store"}, monkeypatch, capsys)


def take(store: LocalStore, hours: float, *, proven: bool = True, **more: Any) -> Manifest:
    made = manifest(NOW - timedelta(hours=hours), **more)
    put(store, made, proven=proven)
    return made


def on_terminal(environ: dict[str, str], *arguments: str, columns: int = 80) -> str:
    """The output on a terminal of a given width."""
    terminal, ours = pty.openpty()
    more = {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "backup", *arguments],
        env={**os.environ, **environ, **more},
        stdout=ours,
        stderr=ours,
    ) as process:
        os.close(ours)
        seen = b""
        while True:
            try:
                piece = os.read(terminal, 1 << 16)
            except OSError:  # the other end was closed
                break
            if not piece:
                break
            seen += piece
        assert process.wait() == 0, seen
    os.close(terminal)
    return seen.decode().replace("\r\n", "\n")


def test_all_of_it_fits_into_80_columns(store: LocalStore, command: Command) -> None:
    rows = (Table(schema="public", name="posts", rows=1_234_567_890),)
    failed = take(store, 500, proven=False)
    unlike = take(store, 3, proven=False, tables=rows, size=876_543, anomalies=("rows fell",))
    take(store, 1, database="crm")
    seen = on_terminal(command.environ, "list")
    lines = [line.rstrip() for line in COLOUR.sub("", seen).splitlines()]
    assert max(map(len, lines)) <= 80, seen
    assert "…" not in seen
    row = next(line for line in lines if line.startswith(unlike.id))
    assert row.split()[-2:] == ["unverified,", "unlike"]
    assert "876.5 kB" in row
    assert "1,234,567,890" in row
    assert any(line.startswith(failed.id) and line.endswith("unverified") for line in lines)
    assert "shop: 2 backups, 0 verified, 876.6 kB stored" in lines
    assert "crm: 1 backup, 1 verified, 10 B stored" in lines
    assert "\x1b[32mverified" in seen
    # A pipe gets neither colours nor truncated lines.
    assert "\x1b" not in command("list").out


def test_what_was_counted_is_named_as_what_it_is() -> None:
    """A Redis backup has keys, and the rows of a base backup were not counted."""
    table = Table(schema="public", name="posts", rows=1)
    assert content_of(manifest(tables=(table,))) == "1 table, 1 row"
    assert content_of(manifest()) == "0 tables, 0 rows"
    keys = Keyspace(number=0, keys=10, keys_after=10)
    assert content_of(manifest(kind="redis", keyspaces=(keys,))) == "10 keys"
    assert content_of(manifest(kind="server")) == "a base backup"
    # A proof has counted what it recovered.
    counts = [content(kind, 1, 10) for kind in ("redis", "server", "postgres")]
    assert counts == ["10 keys", "1 table, 10 rows", "1 table, 10 rows"]


def test_each_state_has_its_colour_on_a_terminal(store: LocalStore, command: Command) -> None:
    made = {
        "verified": take(store, 1),
        "unverified": take(store, 2, proven=False),
        "verified, unlike": take(store, 3, anomalies=("rows fell",)),
    }
    failed = take(store, 4, proven=False)
    found = report(failed, ok=False)
    store.put(layout.report("shop", failed.id, found.finished), encode(found))
    shown = {
        COLOUR.sub("", line).split()[0]: line
        for line in on_terminal(command.environ, "list", columns=100).splitlines()
        if line[:4].isdigit()
    }
    colours = {"verified": "32", "unverified": "", "verified, unlike": "33", "FAILED": "1;31"}
    for label, of in {**made, "FAILED": failed}.items():
        code = colours[label]
        wanted = f"\x1b[{code}m{label}\x1b[0m" if code else f"  {label}"
        assert shown[of.id].rstrip().endswith(wanted), (label, shown[of.id])


def test_only_some_of_them(store: LocalStore, command: Command) -> None:
    ids = [take(store, hours, proven=hours != 5).id for hours in (1, 5, 30, 60)]

    def listed(*words: str) -> list[str]:
        return [each["id"] for each in command.passed("list", *words)]

    assert listed() == ids
    assert listed("-n", "2") == ids[:2]
    assert listed("--state", "UNVERIFIED") == [ids[1]]
    assert listed("--state", "unverified", "--state", "verified", "-n", "3") == ids[:3]
    assert listed("--since", (NOW - timedelta(hours=20)).isoformat()) == ids[:2]
    assert listed("--since", f"{NOW - timedelta(hours=31):%Y-%m-%d %H:%M}") == ids[:3]
    assert "4 backups, 3 verified, 40 B stored, 2 shown" in command("list", "-n", "2").out
    done = command("list", "--since", "yesterday-ish")
    done.fails(2, "'yesterday-ish' is not a moment")
    assert command("list", "--state", "fine").status == 2
    assert command("list", "-n", "0").status == 2


def test_a_moment_is_a_span_or_a_time_in_utc() -> None:
    assert parse_moment("36h", NOW) == NOW - timedelta(hours=36)
    assert parse_moment("2w", NOW) == NOW - timedelta(weeks=2)
    assert parse_moment("2026-11-27 12:00", NOW) == parse_moment("2026-11-27T13:00+01:00", NOW) == NOW
    assert parse_moment("2026-11-27", NOW) == NOW - timedelta(hours=12)
    for wrong in ("", "h", "-3d", "12", "2026-13-01", "999999w"):
        with pytest.raises(ValueError, match=re.escape(repr(wrong))):
            parse_moment(wrong, NOW)


def test_an_empty_store_and_a_wrong_name_say_where_was_looked(store: LocalStore, command: Command) -> None:
    done = command("list")
    assert (done.status, done.out) == (0, "")
    assert done.err == f"there is no backup in {command.environ['BACKUP_STORE_URL']}\n"
    assert command.passed("list") == []
    take(store, 1)
    done = command("list", "-d", "shp")
    assert done.status == 2
    assert "has no backup of shp" in done.err
    assert "Try: databases that have backups there: shop" in done.err
    assert (
        "shop (not configured here): 1 backup" in command("list", DATABASE_URL="postgresql://x@y/other").out
    )


def test_the_end_of_an_id_is_enough(store: LocalStore, command: Command) -> None:
    first, second = take(store, 2, id="20261127T100000Z-12ab34"), take(store, 1, id="20261127T110000Z-99ab34")
    assert command.passed("show", "12ab34")["manifest"]["id"] == first.id
    assert command.passed("show", second.id)["manifest"]["id"] == second.id
    done = command("show", "ab34")
    done.fails(2, first.id, second.id)
    for wrong in ("b34", "34ab12", "20261127"):
        done = command("show", wrong)
        done.fails(2, f"backup {wrong} does not exist")


def test_a_damaged_one_is_named_by_its_end_too(store: LocalStore, command: Command) -> None:
    made = take(store, 2)
    store.put(f"shop/{made.id}/manifest.json", b"{")
    done = command("show", made.id[-6:])
    assert done.status == 1
    assert "manifest.json is damaged" in done.err
    assert made.id in command("list").err


def test_500_backups_take_less_than_a_second_of_the_processor(store: LocalStore, command: Command) -> None:
    tables = tuple(Table(schema="public", name=f"table_{number}", rows=number) for number in range(40))
    for number in range(500):
        take(store, number, tables=tables)
    # About half a second; what else runs on the machine only adds to it.
    assert any(seconds_of(command) < 1 for _ in range(3))


def seconds_of(command: Command) -> float:
    """The processor time of one listing."""
    began = time.process_time()
    assert len(command.passed("list")) == 500
    return time.process_time() - began


def test_backups_of_one_second_are_in_the_order_of_their_start(store: LocalStore, command: Command) -> None:
    """Their IDs say only the second; the last six digits are random."""
    begun = [NOW + timedelta(milliseconds=100 * number) for number in range(3)]
    for moment, digits in zip(begun, ("cccccc", "aaaaaa", "bbbbbb"), strict=True):
        put(store, manifest(moment, id=f"{stamp(NOW)}-{digits}"), proven=True)
    assert [each["id"][-6:] for each in command.passed("list")] == ["bbbbbb", "aaaaaa", "cccccc"]
    shown = command.passed("show", "latest", "--database", "shop")
    assert shown["manifest"]["id"].endswith("bbbbbb")
