"""Decisions on values alone: what a promotion would lose, where a backup goes, keys of Redis, hooks, lineage, manifests."""

import shutil
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pyrage
import pytest

from backup import hooks
from backup.catalogue.history import Catalogue, Entry, History
from backup.catalogue.manifest import (
    Keyspace,
    Manifest,
    PackedProvided,
    PackedSequences,
    PackedTables,
    Physical,
    StoredObject,
    Tablespace,
)
from backup.catalogue.records import Difference
from backup.cli import common
from backup.engine import PreflightResult
from backup.errors import DumpError, PreflightError, SpaceError, StoreAccessError, StoreError
from backup.hooks import HURRIED_SECONDS, SECONDS, around
from backup.ownership import lineage
from backup.postgres.dsn import parse
from backup.replication.merged import merged
from backup.restore.database import needed
from backup.restore.loss import MAX_SHOWN, Change, Rows, judge, table
from backup.run import _spools, check_clock, check_room, destination
from backup.settings import BackupSettings
from backup.store import MemoryStore
from backup.targets import PostgresTarget, ServerTarget, servers
from backup.verify.provable import afterwards
from backup.verify.redis import compare_keys, notes
from backup.verify.verifier import _retain
from sidecar import UsageError
from tests.backup.documents import BASE_ROLES, NOW, attempt, manifest, put, report
from tests.backup.test_wires import wired

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def rows(**counts: int) -> dict[str, Rows]:
    return {name: Rows(count) for name, count in counts.items()}


def test_the_largest_losses_are_shown_first_and_equal_tables_are_not() -> None:
    live, restored = rows(same=5, few=10, many=900, gone=40), rows(same=5, few=12, many=100, new=3)
    found = judge(live, restored)
    assert [each.table for each in found.changes] == ["many", "gone", "new", "few"]
    assert found.changes[1] == Change("gone", Rows(40), None)
    assert found.others == 0
    assert table(found)[2].split() == ["gone", "40", "no", "such", "table"]
    assert table(judge(live, live)) == ["every table has the same number of rows in both"]


def test_of_many_losses_the_rest_is_counted() -> None:
    live = {f"t{number:02}": Rows(number) for number in range(1, MAX_SHOWN + 4)}
    found = judge(live, {})
    assert (len(found.changes), found.others) == (MAX_SHOWN, 3)
    assert found.changes[0].table == f"t{MAX_SHOWN + 3}"
    assert table(found)[-1] == "  and 3 more tables differ"
    # An estimate is not the same as a count.
    assert judge({"t": Rows(5, exact=False)}, {"t": Rows(5)}).changes
    assert str(Rows(1_234, exact=False)) == "about 1,234"


def test_a_new_database_needs_the_room_of_the_live_one_or_of_its_rows() -> None:
    server: Any = SimpleNamespace(size=lambda _: 500, exists=lambda name: name == "shop")
    small, large = Entry(manifest(size=10)), Entry(manifest(size=900))
    assert [needed(server, one, "shop") for one in (small, large)] == [500, 900]
    assert needed(server, small, "other") == 10


@pytest.mark.parametrize(
    ("spooled", "packed", "needs"), [(200, 300, 250), (None, 300, 375), (None, None, 1_250)]
)
def test_the_spool_needs_the_room_of_the_last_backup_and_a_quarter_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spooled: int | None, packed: int | None, needs: int
) -> None:
    wiring = wired(tmp_path, MemoryStore(), BACKUP_SPOOL_DIR=str(tmp_path / "spool"))
    assert wiring.spool is not None
    if spooled is not None:
        put(wiring.spool, manifest(size=spooled))
    ready = PreflightResult("18.6", 1_000, packed=packed)
    for free, fits in ((needs, True), (needs - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        with nullcontext() if fits else pytest.raises(SpaceError, match="the spool is too small"):
            check_room(wiring, wiring.targets[0], ready)


def failing(error: StoreError) -> MemoryStore:
    def fault(operation: str, _: str) -> None:
        if operation == "check":
            raise error

    return MemoryStore(fault=fault)


DOWN = StoreError("it is down", hint="", operation="check")
DENIED = StoreAccessError("wrong keys", hint="", operation="check")


@pytest.mark.parametrize(
    ("error", "strict", "spool", "goes_to"),
    [
        (DOWN, True, True, "spool"),
        (DOWN, False, True, "spool"),
        (DOWN, False, False, None),
        # A person sees the error at once; the service must not lose the nightly backup.
        (DENIED, True, True, None),
        (DENIED, False, True, "spool"),
    ],
)
def test_where_a_backup_goes_while_the_store_fails(
    tmp_path: Path, error: StoreError, strict: bool, spool: bool, goes_to: str | None
) -> None:
    given = {"BACKUP_SPOOL_DIR": str(tmp_path / "spool")} if spool else {}
    wiring = wired(tmp_path, failing(error), **given)
    with nullcontext() if goes_to else pytest.raises(type(error)):
        assert destination(wiring, strict=strict).name == goes_to
    assert destination(wired(tmp_path, MemoryStore(), **given), strict=strict).name == "main"


def test_a_base_backup_never_goes_to_the_spool(tmp_path: Path) -> None:
    """It is worthless without its server's WAL, which is not there."""
    wiring = wired(tmp_path, MemoryStore(), BACKUP_SPOOL_DIR=str(tmp_path / "spool"))
    server = ServerTarget("main", parse("postgresql://u@127.0.0.1:9/postgres"))
    assert [_spools(wiring, target) for target in (wiring.targets[0], server)] == [True, False]


@pytest.mark.parametrize(
    ("ahead", "says"),
    [(9, None), (-9, None), (11, "behind the clock of x"), (-11, "ahead of the clock of x")],
)
def test_the_clock_that_is_wrong_is_named(ahead: int, says: str | None) -> None:
    with pytest.raises(PreflightError, match=says) if says else nullcontext():
        check_clock("x", ahead * MINUTE)


def redis(**keys: int) -> Any:
    """A server that has loaded some keys, by database."""
    spaces = {name: {"keys": count, "expires": 0, "subexpiry": 1} for name, count in keys.items()}
    return SimpleNamespace(info=lambda _: spaces)


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [
        ({"db0": 10}, []),
        # Up to four have expired since, and two came during the transfer.
        ({"db0": 6}, []),
        ({"db0": 12}, []),
        ({"db0": 5}, ["db0: 6 to 12 keys, 5 keys"]),
        ({"db0": 13}, ["db0: 6 to 12 keys, 13 keys"]),
        ({}, ["db0: 6 to 12 keys, 0 keys"]),
        ({"db0": 10, "db3": 1}, ["db3: 0 keys, 1 keys"]),
    ],
)
def test_keys_may_be_missing_that_can_expire_and_no_others(
    loaded: dict[str, int], expected: list[str]
) -> None:
    space = Keyspace(number=0, keys=10, keys_after=12, expiring=4, fields_expiring=3)
    made = manifest(kind="redis", keyspaces=(space,))
    found = compare_keys(made, redis(**loaded))
    assert [f"{each.object}: {each.expected}, {each.found}" for each in found] == expected
    assert notes(made, redis(db0=10))[0].startswith("db0: 1 of 3 keys have fields with an expiry")


@pytest.mark.parametrize(
    ("fails", "seconds", "marked"), [(False, SECONDS, True), (True, HURRIED_SECONDS, False)]
)
def test_the_command_after_a_failure_hurries_and_changes_no_outcome(
    monkeypatch: pytest.MonkeyPatch, fails: bool, seconds: float, marked: bool
) -> None:
    """A service must end within its grace period."""
    allowed: list[float] = []

    def refuse(
        _variable: Any, _command: Any, _facts: Any, _check: Any, seconds: float, _secrets: Any
    ) -> None:
        allowed.append(seconds)
        raise DumpError("no", hint="")

    monkeypatch.setattr(hooks, "run_command", refuse)
    failures: list[Exception] = []
    opened: Any = SimpleNamespace(fail=failures.append)
    with (
        pytest.raises(ValueError, match="the dump") if fails else nullcontext(),
        around(None, "after", {}, opened, lambda: None),
    ):
        if fails:
            raise ValueError("the dump")
    assert allowed == [seconds]
    assert bool(failures) == marked


def cluster(identifier: str, *adopted: str, **more: Any) -> Manifest:
    made = manifest(**more)
    server = made.server.model_copy(update={"system_identifier": identifier})
    return made.model_copy(update={"server": server, "adopted": adopted})


@pytest.mark.parametrize(
    ("newest", "identifier", "adopted"),
    [
        (None, "1", ()),
        (cluster("1", "9", "8"), "1", ("9", "8")),
        (cluster("1", "9", "8"), "2", ("1", "9", "8")),
        (cluster("1", "2", "1"), "2", ("1", "2")),
        (cluster("1", "9"), "", ("9",)),
        (cluster("", "9"), "2", ("9",)),
        (cluster("1", kind="redis"), "2", ()),
    ],
)
def test_a_cluster_that_is_adopted_brings_those_that_it_had_adopted(
    newest: Manifest | None, identifier: str, adopted: tuple[str, ...]
) -> None:
    assert lineage(newest, identifier, "shop", adopt=True) == adopted


def test_a_report_is_locked_as_long_as_its_backup_and_no_lock_is_in_the_past() -> None:
    made = manifest(NOW)
    for days, now, until in ((7, NOW, NOW + 7 * DAY), (7, NOW + 8 * DAY, None), (0, NOW, None)):
        retain = made.started + days * DAY if days else None
        wiring: Any = SimpleNamespace(retain_until=lambda _, it=retain: it, clock=lambda it=now: it)
        assert _retain(wiring, made) == until


def of(kind: str, *found: str) -> list[Difference]:
    return [Difference(kind=kind, object="x", expected="", found=one) for one in found]


MISSING = 'could not open extension control file "/x/vector.control": No such file'


@pytest.mark.parametrize(
    ("differences", "unprovable"),
    [
        (of("restore", MISSING), ["an extension or library is missing here", "older here"]),
        (of("restore", "duplicate key"), ["older here"]),
        (of("rows", MISSING), []),
        # Damaged bytes explain every other error.
        ([*of("restore", MISSING), *of("object", "flipped")], []),
        ([], []),
    ],
)
def test_only_an_error_of_the_restore_shows_what_this_host_lacks(
    differences: list[Difference], unprovable: list[str]
) -> None:
    assert afterwards(differences, ["older here"]) == unprovable


def stored(name: str, encryption: Any = "age", **more: Any) -> StoredObject:
    values = {"role": "archive", "raw_bytes": 1, "stored_bytes": 1, "sha256": "0" * 64, **more}
    return StoredObject(name=name, encryption=encryption, **values)


def test_what_a_whole_manifest_states() -> None:
    assert manifest(objects=(stored("a"), stored("b"))).encrypted
    assert not manifest(objects=(stored("a"), stored("b", None))).encrypted
    assert not manifest(objects=()).encrypted
    assert manifest(finished=NOW - DAY).seconds == 0
    spaces = (Keyspace(number=0, keys=3, keys_after=4), Keyspace(number=1, keys=5, keys_after=5))
    assert manifest(kind="redis", keyspaces=spaces).rows == 8


def of_server(**more: Any) -> Manifest:
    place = Physical(
        timeline=1, start=9, end=9, segment_size=1 << 20, tablespaces=(Tablespace(oid=7, location="/t"),)
    )
    objects = [stored(f"{name}.zst.age", role=role) for name, role in BASE_ROLES.items()]
    whole = {
        "kind": "server",
        "physical": place,
        "objects": (*objects, stored("7.tar.zst.age", role="tablespace")),
    }
    return manifest(**{**whole, **more})


@pytest.mark.parametrize(
    ("made", "odd"),
    [
        (of_server(), None),
        (of_server(objects=of_server().objects[:2]), "tablespaces without their objects"),
        (of_server(physical=of_server().physical.model_copy(update={"tablespaces": ()})), "objects without"),  # type: ignore[union-attr]
        (of_server(physical=of_server().physical.model_copy(update={"end": 8})), "ends before it starts"),  # type: ignore[union-attr]
        (of_server(physical=None), "of kind server without positions"),
        (manifest(physical=of_server().physical), "of kind postgres with positions"),
        (manifest(objects=(stored("a"), stored("a", role="globals"))), "two objects of one name"),
        (manifest(objects=(stored("a"), stored("b"))), "2 objects of role archive"),
        (manifest(objects=()), "0 objects of role archive"),
        (manifest(objects=(stored("a"), stored("b", role="rdb"))), "1 objects of role rdb"),
    ],
)
def test_a_manifest_that_no_run_writes_is_named(made: Manifest, odd: str | None) -> None:
    assert made.oddity is None if odd is None else odd in str(made.oddity)


ROW = {"schema": "public", "name": "a", "rows": 1}
LAST = {"name": "s", "last_value": 5}
GIVEN = {"provider": "citext", "object": "type public.citext", "digest": 5}


@pytest.mark.parametrize(
    ("kind", "found", "packed"),
    [
        (PackedTables, [ROW, {**ROW, "rows": 0}], True),
        (PackedTables, [{**ROW, "rows": -1}], False),
        (PackedTables, [{**ROW, "rows": None}], False),
        (PackedTables, [{**ROW, "rows": True}], False),
        (PackedTables, [{**ROW, "name": 5}], False),
        (PackedTables, [{"name": "a", "rows": 1}], False),
        (PackedTables, [{**ROW, "rows": 2**63}], False),
        (PackedSequences, [LAST, {**LAST, "last_value": None}], True),
        (PackedSequences, [{**LAST, "last_value": -5}], True),
        (PackedSequences, [{**LAST, "last_value": "5"}], False),
        (PackedProvided, [GIVEN, {**GIVEN, "digest": -(2**63)}], True),
        (PackedProvided, [{**GIVEN, "digest": None}], False),
    ],
)
def test_only_ordinary_rows_are_packed(kind: Any, found: list[dict[str, Any]], packed: bool) -> None:
    """All others are read, and refused, one by one."""
    made = kind.of(found)
    assert (made is not None) == packed
    if made is not None:
        assert [each.model_dump(by_alias=True) for each in made] == found
        assert made.total == sum(row[kind.number_field] or 0 for row in found)


def test_what_is_in_both_stores_counts_once() -> None:
    both, new = manifest(NOW - DAY), manifest(NOW)
    moved = Entry(both, (report(both),))
    tried = [attempt(NOW - DAY, totals={"success": 3}), attempt(NOW, totals={})]
    main = Catalogue(NOW, {"shop": History("shop", (moved,), attempts=(tried[0],), read=NOW)})
    spool = Catalogue(
        NOW, {"shop": History("shop", (Entry(both), Entry(new)), attempts=(tried[0], tried[1]))}
    )
    found = merged(main, spool).history("shop")
    assert [entry.id for entry in found.backups] == [both.id, new.id]
    assert found.backups[0] == moved
    assert [one.totals for one in found.attempts] == [{"success": 3}, {"success": 4}]
    assert found.read == NOW


@pytest.mark.parametrize(
    ("typed", "agreed"),
    [
        (["shop"], True),
        (["crm", "yes", "shop"], True),
        (["shop_before", "Shop", "sho"], False),
        (["", "shop ", "y"], False),
    ],
)
def test_only_the_whole_name_confirms_a_replacement(
    monkeypatch: pytest.MonkeyPatch, typed: list[str], *, agreed: bool
) -> None:
    answers = iter(typed)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "prompt", lambda *_, **__: next(answers))
    if agreed:
        common.confirm("All rows are replaced.", "shop", None)
    else:
        with pytest.raises(UsageError, match="is not shop; nothing was changed"):
            common.confirm("All rows are replaced.", "shop", None)
    assert list(answers) == []


@pytest.mark.parametrize("given", ["crm", "shop_before", "Shop", ""])
def test_a_name_that_was_given_is_compared_and_never_asked_for(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setattr(click, "prompt", lambda *_, **__: pytest.fail("it asks"))
    common.confirm("", "shop", "shop")
    with pytest.raises(UsageError, match="is not shop"):
        common.confirm("", "shop", given)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(UsageError, match="without a terminal"):
        common.confirm("", "shop", None)


@pytest.mark.parametrize(
    ("password", "is_secret"), [("posthub", False), ("backup", False), ("main", False), ("backup1", True)]
)
def test_a_password_that_is_a_public_name_is_not_masked(password: str, *, is_secret: bool) -> None:
    """Otherwise the name of the database, of its user or of its folder would be masked in every message."""
    address = parse(f"postgresql://backup:{password}@db/posthub")
    assert PostgresTarget("main", address).secrets == ([password] if is_secret else [])


def test_a_session_of_the_stream_is_never_in_productions_database() -> None:
    """It would keep a promotion from renaming that."""
    given = {
        "BACKUP_SERVERS": "main=postgresql://wal@db/posthub",
        "BACKUP_AGE_RECIPIENTS": str(pyrage.x25519.Identity.generate().to_public()),
    }
    (found,) = servers(BackupSettings.load(given))
    assert (found.name, found.address.database) == ("main", "postgres")
