"""Every ✖ of ``backup doctor`` is given when it should be; a check or a ✖ without a case fails here."""

import ast
import inspect
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyrage import x25519

from backup.cancellation import OutOfTimeError
from backup.catalogue.manifest import Server
from backup.doctor import check as one_check
from backup.doctor import examination, host, postgres, protection, redis, stores
from backup.doctor.check import Check, Shared, carried_out
from backup.errors import PreflightError, StoreError, VerificationError
from backup.physical import fitness
from backup.physical.walsender import WalSender
from backup.pipeline.encrypt import parse_identities, parse_recipients
from backup.postgres import inventory
from backup.postgres import preflight as conditions
from backup.postgres.dsn import Address
from backup.redis import engine, product, rdb
from backup.store import RetryingStore, RetryPolicy
from backup.store.base import ObjectInfo, Refusal
from backup.store.memory import MemoryStore
from backup.targets import PostgresTarget, RedisTarget
from backup.verify import checks, configured, place, provable
from tests.verdictsites import Sites, failing, raising, yielding

Patch = pytest.MonkeyPatch
# What is changed in the environment, and the check that is then run.
Case = Callable[[Patch, Path], Iterator[Check]]
CASES: dict[str, list[Case]] = {}
# The modules of ``doctor``.
MODULES = (one_check, examination, host, postgres, protection, redis, stores)
# Checks that only remark on something, with their remarks.
REMARKS = {
    "own_key": "two copies under one key are allowed",
    "signatures": "signatures are a choice",
    "_snapshots": "without encryption, or without a work folder, a snapshot lasts as long as before",
    "_locks": "a dump that runs out of locks says so, and other servers share theirs",
    "_left_out": "what is left out was left out on purpose",
    "secrets": "a short password works; only logs and messages do not mask it",
    "connections": "a private network may do without TLS",
    "confinement": "a kernel without Landlock is allowed",
}


def fails(name: str) -> Callable[[Case], Case]:
    """This case makes the check of this name fail."""

    def register(case: Case) -> Case:
        CASES.setdefault(name, []).append(case)
        return case

    return register


def around(store: MemoryStore) -> RetryingStore:
    return RetryingStore(store, RetryPolicy(attempts=1), sleep=lambda _: None)


def in_a(store: MemoryStore) -> Any:
    """The part of the wiring that the checks of a store need."""
    return SimpleNamespace(
        stores=[around(store)], targets=(), settings=SimpleNamespace(s3_object_lock_days=1)
    )


def of_store(store: MemoryStore, check: str) -> Iterator[Check]:
    yield from (
        one
        for one in stores.checks(in_a(store), around(store), Shared())
        if one.name == f"store main: {check}"
    )


def refusing(*operations: str) -> MemoryStore:
    def fault(operation: str, key: str) -> None:
        if operation in operations:
            raise StoreError(f"it refuses {operation} of {key}", hint="allow it", operation=operation)

    return MemoryStore(fault=fault)


@fails("_access")
def _(_: Patch, __: Path) -> Iterator[Check]:
    yield from of_store(refusing("check"), "access")


@fails("_small_object")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Other(MemoryStore):
        def get(self, key: str) -> bytes:
            return bytes(len(super().get(key)))

    yield from of_store(Other(), "put, get, delete")


@fails("_small_object")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Keeps(MemoryStore):
        def delete(self, keys: Any) -> list[Refusal]:
            return [Refusal(key, "not allowed") for key in keys]

    yield from of_store(Keeps(), "put, get, delete")


@fails("_small_object")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Hides(MemoryStore):
        def walk(self, prefix: str = "") -> Iterator[ObjectInfo]:
            yield from ()

    yield from of_store(Hides(), "put, get, delete")


@fails("_access")
def _(_: Patch, __: Path) -> Iterator[Check]:
    """An error of the system; then a store that was silent before, which is not asked again."""

    def probe() -> str:
        raise PermissionError("not allowed")

    yield from asked("store main: access", probe)
    yield Shared(silent={"store main"}).asked("store main", "store main: access", lambda: "it answers")


@fails("_lock")
def _(_: Patch, __: Path) -> Iterator[Check]:
    yield from of_store(refusing("begin"), "lock")


@fails("_lock")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Locks(MemoryStore):
        def put(self, key: str, data: bytes, *, retain_until: datetime | None = None) -> None:
            if retain_until:
                raise StoreError("the bucket has no Object Lock", hint="set it to 0", operation="put")
            super().put(key, data)

    yield from of_store(Locks(), "lock")


@fails("_lock")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Forgets(MemoryStore):
        def put(self, key: str, data: bytes, **_: Any) -> None:
            super().put(key, data)

    yield from of_store(Forgets(), "lock")


@fails("_multipart")
def _(_: Patch, __: Path) -> Iterator[Check]:
    class Shortens(MemoryStore):
        def stream(self, key: str, *, start: int = 0) -> Iterator[bytes]:
            pieces = list(super().stream(key, start=start))
            yield from pieces[:-1]

    yield from of_store(Shortens(), "multipart")


@fails("_multipart")
def _(_: Patch, __: Path) -> Iterator[Check]:
    yield from of_store(refusing("complete"), "multipart")


@fails("_clock")
def _(_: Patch, __: Path) -> Iterator[Check]:
    yield from of_store(MemoryStore(clock=lambda: datetime.now(UTC) - timedelta(minutes=1)), "clock")


@fails("_clock")
def _(_: Patch, __: Path) -> Iterator[Check]:
    yield from of_store(MemoryStore(clock=lambda: datetime.now(UTC) + timedelta(minutes=1)), "clock")


def asked(name: str, probe: Callable[[], str | Check]) -> Iterator[Check]:
    yield carried_out(name, probe)


@fails("encryption")
def _(_: Patch, __: Path) -> Iterator[Check]:
    """Backups for one key, and the identity of another."""
    ours, theirs = x25519.Identity.generate(), x25519.Identity.generate()
    wiring: Any = SimpleNamespace(
        packing=SimpleNamespace(recipients=parse_recipients([str(theirs.to_public())])),
        identities=parse_identities(str(ours)),
    )
    yield from asked("encryption", lambda: protection.encryption(wiring))


@fails("_programs")
def _(_: Patch, __: Path) -> Iterator[Check]:
    versions = {
        "initdb": "16.4",
        "postgres": "16.4",
        "pg_restore": "18.1",
        "pg_dump": "18.1",
        "pg_dumpall": "18.1",
    }
    programs = SimpleNamespace(version=versions.__getitem__)
    wiring: Any = SimpleNamespace(programs=programs, settings=SimpleNamespace(verify_url=None))
    yield from asked("programs", lambda: host._programs(wiring))


@fails("_user")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    patch.setattr(os, "geteuid", lambda: 1_000_660_000)
    yield from asked("user", host._user)


@fails("_discovered")
def _(_: Patch, __: Path) -> Iterator[Check]:
    wiring: Any = SimpleNamespace(discover=lambda: None, targets=())
    yield from asked("databases", lambda: examination._discovered(wiring))


TARGET: Any = SimpleNamespace(name="shop", kind="postgres", address=None)
REDIS: Any = SimpleNamespace(name="broker", kind="redis", address=None)


def connected_to(patch: Patch, answer: Any = None) -> None:
    """Connections answer every statement with one row of one value."""

    @contextmanager
    def session(_: Any) -> Iterator[Any]:
        info = SimpleNamespace(server_version=180001)
        yield SimpleNamespace(execute=lambda _: SimpleNamespace(fetchone=lambda: (answer,)), info=info)

    patch.setattr(postgres, "session", session)


@fails("_postgres")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    def preflight(*_: Any, **__: Any) -> None:
        raise PreflightError("a connection pooler is between us and the database", hint="connect directly")

    patch.setattr(postgres, "preflight", preflight)
    wiring: Any = SimpleNamespace(programs=None, exclusion=None)
    yield from asked("postgres shop", lambda: postgres._postgres(wiring, TARGET, Shared()))


@fails("_postgres")
def _(_: Patch, __: Path) -> Iterator[Check]:
    """Each condition of a dump."""
    server = Server(version="18.1", version_number=180001)
    address = Address({"host": "db"})
    for probe in (
        lambda: conditions._check_revoked(
            [("EXECUTE ON FUNCTION", "pg_catalog.pg_export_snapshot()")], address
        ),
        lambda: conditions._check_versions(server, "17.4"),
        lambda: conditions._check_connections([("the role backup", 1)]),
        lambda: conditions._check_needed(["public.a refers to public.b"]),
        lambda: conditions._check_rights([("table", "public.posts")], address, ""),
    ):
        yield from asked("postgres shop", probe)  # type: ignore[arg-type]


@fails("_locked_tables")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    """A prepared transaction, and a session that stays longer than a dump waits."""
    connected_to(patch)
    patch.setattr(postgres, "LOCK_SECONDS", 0)
    patch.setattr(postgres, "resolve", lambda *_: SimpleNamespace(tables={}))
    wiring: Any = SimpleNamespace(exclusion=None)
    for who, prepared in (("prepared transaction old", True), ("server process 7", False)):
        patch.setattr(inventory, "locked", lambda *_, found=(who, prepared): [("public.posts", *found)])
        for check in asked("postgres shop: locked tables", lambda: postgres._locked_tables(wiring, TARGET)):
            assert f"public.posts is locked by {who}" in check.detail
            yield check


@fails("_members")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    """Each has its own advice; that of the first one is shown."""
    connected_to(patch)
    patch.setattr(postgres, "unrestorable", lambda *_: ["it cannot restore f: add it", "nor g: add that"])
    wiring: Any = None
    for check in asked("postgres shop: objects of extensions", lambda: postgres._members(wiring, TARGET)):
        assert (check.detail, check.fix) == ("it cannot restore f; nor g: add that", "add it")
        yield check


@fails("_options")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    def cluster(*_: Any, **__: Any) -> None:
        raise VerificationError("the throwaway server did not start", hint="look at it")

    patch.setattr(host, "cluster", cluster)
    settings = SimpleNamespace(verify_options="work_mem=banana", work_dir=None)
    wiring: Any = SimpleNamespace(settings=settings, programs=None)
    yield from asked("BACKUP_VERIFY_OPTIONS", lambda: host._options(wiring))


@fails("_server_clock")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    for behind in (60, -60):
        connected_to(patch, time.time() - behind)
        yield from asked("postgres shop: clock", lambda: postgres._server_clock(TARGET))


@fails("_extensions")
def _(patch: Patch, folder: Path) -> Iterator[Check]:
    """One is here, the other is missing."""
    (folder / "vector.control").touch()
    connected_to(patch)
    wanted = [SimpleNamespace(name=name, version="1") for name in ("vector", "postgis")]
    patch.setattr(inventory, "extensions", lambda _: wanted)
    wiring: Any = SimpleNamespace(programs=SimpleNamespace(extension_folder=lambda: folder))
    for check in asked("postgres shop: extensions", lambda: postgres._extensions(wiring, TARGET)):
        assert "vector" not in check.detail
        yield check


@fails("_verifiable")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    """The programs are older than the server; then a locale is missing."""
    connected_to(patch)
    patch.setattr(inventory, "server", lambda _: None)
    wiring: Any = SimpleNamespace(settings=SimpleNamespace(verify_options=""), programs=None)
    for older, lacks in ((["the programs are older"], []), ([], [("a locale is missing", "install it")])):
        patch.setattr(postgres, "suspicions", lambda *_, older=older: iter(older))
        patch.setattr(postgres, "lacking", lambda *_, lacks=lacks: iter(lacks))
        yield from asked("postgres shop: verification", lambda: postgres._verifiable(wiring, TARGET))


@fails("_verifiable")
def _(patch: Patch, folder: Path) -> Iterator[Check]:
    """Each thing that this host may lack."""
    programs = folder / "postgres"
    programs.write_bytes(place._NO_ICU)
    patch.setattr(provable, "_locale_exists", lambda _: False)
    lacks: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
        "pg_cron must be loaded": ({}, [("pg_cron",)]),
        "locale cs_CZ.utf8 is missing": ({"collate": "cs_CZ.utf8", "ctype": "cs_CZ.utf8"}, []),
        "uses ICU": ({"locale_provider": "i"}, []),
        "locale cs_CZ of the setting lc_time": ({"locale_provider": "b"}, [("lc_time", "cs_CZ")]),
        "time zone Europe/Atlantis": ({"locale_provider": "b"}, [("TimeZone", "Europe/Atlantis")]),
        "library $libdir/odd of the function public.f": (
            {"locale_provider": "b"},
            [("$libdir/odd", "public.f")],
        ),
        "locale cs_CZ of the collation": ({"locale_provider": "b"}, [("odd", "c", "cs_CZ", "cs_CZ")]),
        "english.stop of the dictionary": (
            {"locale_provider": "b"},
            [("d", "simple", "stopwords = 'english'")],
        ),
    }
    for detail, (of_server, rows) in lacks.items():
        server = Server(version="18.2", version_number=180002, **of_server)
        answers = {
            1: "pg_extension",
            2: "pg_proc" if "library" in detail else "pg_db_role_setting",
            3: "pg_ts_dict",
            4: "pg_collation",
        }
        found = [table for columns, table in answers.items() if rows and len(rows[0]) == columns]

        @contextmanager
        def session(_: Any, found: list[str] = found, rows: Any = rows) -> Iterator[Any]:
            yield SimpleNamespace(
                execute=lambda text, *_: rows if any(f"FROM {one}" in text for one in found) else []
            )

        patch.setattr(postgres, "session", session)
        patch.setattr(inventory, "server", lambda _, server=server: server)
        wiring: Any = SimpleNamespace(
            settings=SimpleNamespace(verify_options=""),
            programs=SimpleNamespace(
                version=lambda _: "18.2",
                extension_folder=lambda: folder / "extension",
                library_folder=lambda: folder,
                path=lambda _: str(programs),
            ),
        )
        for check in asked("postgres shop: verification", partial(postgres._verifiable, wiring, TARGET)):
            assert detail in check.detail, check
            yield check
    server = Server(version="18.3", version_number=180003)
    patch.setattr(inventory, "server", lambda _: server)
    for check in asked("postgres shop: verification", lambda: postgres._verifiable(wiring, TARGET)):
        assert "update them" in check.detail
        yield check


@fails("_verifiable_there")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    connected_to(patch)
    for name in ("extensions", "owners"):
        patch.setattr(inventory, name, lambda _: ())
    patch.setattr(configured, "lacking", lambda *_: iter([("it may not create databases", "ALTER ROLE")]))
    wiring: Any = SimpleNamespace(programs=None)
    yield from asked(
        "postgres shop: verification", lambda: postgres._verifiable_there(wiring, TARGET, Address({}))
    )


@fails("_rdb")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    """The server sends something else; then a version that the programs here cannot read."""
    patch.setattr(engine, "info_of", lambda _: {})
    patch.setattr(engine, "replica_of", lambda *_: None)
    patch.setattr(product, "product_of", lambda _: "redis")
    patch.setattr(product, "product_here", lambda *_: "redis")
    patch.setattr(product, "refusal", lambda *_: "it is newer than the programs here")
    wiring: Any = SimpleNamespace(redis_programs=None)
    for first, detail in ((b"<html>", "not an RDB"), (b"REDIS0012", "it is newer")):

        @contextmanager
        def source(*_: Any, first: bytes = first) -> Iterator[Any]:
            yield SimpleNamespace(read=lambda: first)

        patch.setattr(rdb, "RdbSource", source)
        for check in asked("redis broker: RDB", lambda: redis._rdb(wiring, REDIS)):
            assert detail in check.detail
            yield check


@fails("_redis")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    def preflight() -> None:
        raise PreflightError("cannot connect to Redis", hint="start it")

    patch.setattr(redis, "engine_for", lambda *_: SimpleNamespace(preflight=preflight))
    wiring: Any = SimpleNamespace()
    yield from redis.checks(wiring, REDIS, Shared())


@fails("look")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    def connect(_: Any) -> None:
        raise PreflightError("replication is not allowed", hint="GRANT it")

    patch.setattr(WalSender, "connect", connect)
    server: Any = SimpleNamespace(name="main", address=Address({}))
    yield from postgres.server_checks(server, Shared())


@fails("look")
def _(patch: Patch, _: Path) -> Iterator[Check]:
    """Each setting of a server that would let the stream disturb production."""
    well = {
        "max_slot_wal_keep_size": "10240",
        "synchronous_standby_names": "",
        "wal_level": "replica",
        "max_wal_senders": str(fitness.SENDERS),
        "max_replication_slots": "1",
    }
    wrong = (
        {"max_slot_wal_keep_size": "-1"},
        {"synchronous_standby_names": "*"},
        {"wal_level": "minimal"},
        {"max_wal_senders": str(fitness.SENDERS - 1)},
        {"max_replication_slots": "0"},
    )
    for changed in ({}, *wrong):

        @contextmanager
        def connect(_: Any, changed: dict[str, str] = changed) -> Iterator[Any]:
            def query(text: str) -> list[tuple[str, ...]]:
                found = re.search(r"WHERE name = '(\w+)'", text)
                return [({**well, **changed}.get(found[1], ""),)] if found else [("true", "true")]

            yield SimpleNamespace(version=180001, query=query)

        patch.setattr(WalSender, "connect", connect)
        server: Any = SimpleNamespace(name="main", address=Address({}))
        found = [one for one in postgres.server_checks(server, Shared()) if one.ok is not True]
        assert len(found) == len(changed), (changed, found)
        yield from found


@fails("_hook")
def _(_: Patch, folder: Path) -> Iterator[Check]:
    without_interpreter = folder / "tell"
    without_interpreter.write_text("echo\n")
    without_interpreter.chmod(0o755)
    for command in ("/nowhere/tell now", str(without_interpreter)):
        yield from asked("BACKUP_AFTER_COMMAND", partial(host._hook, "BACKUP_AFTER_COMMAND", command))


@fails("usable")
def _(_: Patch, folder: Path) -> Iterator[Check]:
    for queries, program in ((folder / "nothing", None), (None, "/nowhere/check now")):
        yield from asked("checks", partial(checks.usable, queries, program))


def with_little_room(patch: Patch, folder: Path) -> Any:
    """The database alone would fit, but not with the additional space that is needed."""
    usage = shutil.disk_usage(folder)
    patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1100))
    settings = SimpleNamespace(work_dir=folder, spool_dir=folder, verify_url=None, work_dir_floor=0.0)
    of_each = [SimpleNamespace(name=name) for name in ("shop", "blog")]
    reader = SimpleNamespace(recent_manifests=lambda *_: [])
    return SimpleNamespace(settings=settings, everything=of_each, reader=lambda: reader)


@fails("_work_folder")
def _(patch: Patch, folder: Path) -> Iterator[Check]:
    patch.setattr(host, "too_long", lambda _: iter(()))
    wiring = with_little_room(patch, folder)
    yield from asked("work folder", lambda: host._work_folder(wiring, Shared({"shop": 1000, "blog": 10})))


@fails("_work_folder")
def _(patch: Patch, folder: Path) -> Iterator[Check]:
    long = folder / ("x" * 100)
    long.mkdir()
    wiring: Any = SimpleNamespace(settings=SimpleNamespace(work_dir=long, verify_url=None))
    yield from asked("work folder", lambda: host._work_folder(wiring, Shared()))


@fails("_spool")
def _(patch: Patch, folder: Path) -> Iterator[Check]:
    wiring = with_little_room(patch, folder)
    yield from asked("spool", lambda: host._spool(wiring, Shared({"shop": 1000})))


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{name}-{at}") for name, cases in CASES.items() for at, case in enumerate(cases)],
)
def test_a_check_fails_and_says_what_to_do(case: Case, monkeypatch: Patch, tmp_path: Path) -> None:
    found = list(case(monkeypatch, tmp_path))
    assert found
    for check in found:
        assert check.ok is False, check
        assert check.fix
        assert check.detail


def test_the_lock_is_tried_with_both_ways_to_store_an_object() -> None:
    """A store may lock what is put at once, and not what is uploaded in parts."""
    store = MemoryStore()
    (check,) = of_store(store, "lock")
    assert check.ok
    assert set(store.locked) == set(store.objects)
    assert len(store.locked) == 2
    assert not store.uploads


RECIPIENT = x25519.Identity.generate().to_public()


@pytest.mark.parametrize(
    ("probe", "wiring", "remark"),
    [
        (protection.signatures, {"keys": ()}, "backups are NOT signed"),
        (protection.encryption, {"packing": SimpleNamespace(recipients=())}, "backups are NOT encrypted"),
        (
            protection.encryption,
            {"packing": SimpleNamespace(recipients=(RECIPIENT,)), "identities": ()},
            "no identity",
        ),
        *(
            (
                protection.own_key,
                {"settings": SimpleNamespace(offsite_s3_access_key_id=key, offsite_store_url=url)},
                remark,
            )
            for key, url, remark in (
                (None, "s3://copies", "anyone who has that key can delete both copies"),
                ("its own", "s3://copies", None),
                (None, "/mnt/copies", None),
            )
        ),
    ],
)
def test_a_choice_that_weakens_the_proof_is_remarked_on(
    probe: Callable[[Any], str | Check], wiring: dict[str, Any], remark: str | None
) -> None:
    found = probe(SimpleNamespace(**wiring))
    if remark is None:
        assert found == "separate"
    else:
        assert isinstance(found, Check)
        assert found.ok is None
        assert remark in found.detail
        assert found.fix


def test_short_secrets_and_open_connections_are_remarked_on(monkeypatch: Patch) -> None:
    wiring: Any = None
    for count, text in ((0, ""), (1, "one has"), (2, "2 have")):
        monkeypatch.setattr(protection, "short_secrets", lambda _, count=count: count)
        monkeypatch.setattr(protection, "unencrypted", lambda _, count=count: ["in the clear"] * count)
        for found in (protection.secrets(wiring), protection.connections(wiring)):
            assert isinstance(found, Check) == bool(count)
            assert not isinstance(found, Check) or (found.ok is None and found.fix)
        secrets = protection.secrets(wiring)
        assert not isinstance(secrets, Check) or secrets.detail.startswith(text)


def refuse(*_: object) -> str:
    raise PreflightError("it refuses the connection", hint="start it")


def test_a_store_or_server_that_cannot_be_reached_is_asked_nothing_else(monkeypatch: Patch) -> None:
    """Otherwise one fault is reported many times."""
    refusing_store, known = around(refusing("check")), Shared()
    found = list(stores.checks(in_a(MemoryStore()), refusing_store, known))
    assert [one.name for one in found] == ["store main: access"]
    monkeypatch.setattr(postgres, "_postgres", refuse)
    monkeypatch.setattr(redis, "_redis", refuse)
    address: Any = SimpleNamespace(public={})
    wiring = in_a(MemoryStore())
    found = [
        *postgres.checks(wiring, PostgresTarget("shop", address), known),
        *redis.checks(wiring, RedisTarget("broker", address), known),
    ]
    assert [(one.name, one.ok) for one in found] == [("postgres shop", False), ("redis broker", False)]


def test_a_server_that_was_silent_once_is_not_waited_for_again() -> None:
    def silent() -> str:
        raise OutOfTimeError("no answer came", hint="look at it")

    known = Shared()
    assert known.asked("store main", "store main: access", refuse).ok is False
    assert known.silent == set()
    assert known.asked("store main", "store main: access", silent).ok is False
    assert known.silent == {"store main"}


# What the probes call, and what gives each of their ✖.
SITES = (
    set().union(*(failing(module) | raising(module) for module in MODULES))
    | failing(fitness, "Finding")
    | raising(conditions)
    | yielding(provable.suspicions)
    | yielding(provable.too_long)
    | set().union(
        *(yielding(one) for one in (place.lacking, place._preloaded, place._locales, place._libraries))
    )
)


def test_every_failure_has_a_case(tmp_path: Path) -> None:
    """Also a further one of a check that has a case."""
    sites = Sites()
    for name, cases in CASES.items():
        for at, case in enumerate(cases):
            folder = tmp_path / f"{name}-{at}"
            folder.mkdir()
            with pytest.MonkeyPatch.context() as patch, sites.running(SITES):
                sites.watch(Check, patch)
                sites.watch(fitness.Finding, patch)
                list(case(patch, folder))
    assert sites.seen == SITES, "a ✖ without a case in this file"


def test_every_check_has_a_case_in_which_it_fails() -> None:
    known = CASES.keys() | REMARKS.keys()
    assert probes() == known, "give a new check a case in which it fails, or name it among REMARKS"
    assert not CASES.keys() & REMARKS.keys()


@pytest.mark.parametrize("name", REMARKS)
def test_a_check_that_only_remarks_never_fails(name: str) -> None:
    (check_of_it,) = (vars(module)[name] for module in MODULES if inspect.isfunction(vars(module).get(name)))
    tree = ast.parse(inspect.getsource(check_of_it))
    assert not any(isinstance(node, ast.Constant) and node.value is False for node in ast.walk(tree))


def probes() -> set[str]:
    """The functions that ``examine`` carries out."""
    trees = [ast.parse(inspect.getsource(module)) for module in MODULES]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    # The probe is the last argument but for what is done about a silent server.
    direct = [node.args[1] for node in calls if ast.unparse(node.func) in ("carried_out", "asked")]
    asked = [node.args[2] for node in calls if ast.unparse(node.func) == "known.asked"]
    return {_called(probe) for probe in (*direct, *asked) if ast.unparse(probe) != "probe"}


def _called(probe: ast.expr) -> str:
    """The first function in a probe: ``f``, ``lambda: module.f(…)``, ``partial(f, …)``."""
    names = [
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(probe)
        if isinstance(node, ast.Attribute | ast.Name)
    ]
    known = {name for module in MODULES for name, found in vars(module).items() if inspect.isfunction(found)}
    return next(name for name in names if name in known or name == "look")
