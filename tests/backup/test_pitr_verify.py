"""The proof of a base backup and its log: contiguous, whole, recovers, equal to a dump; and all damage is named."""

import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pyrage
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.cancellation import StoppedError
from backup.catalogue.document import encode
from backup.catalogue.manifest import Manifest
from backup.catalogue.manifest import Sequence as Position
from backup.catalogue.records import Difference, Report
from backup.catalogue.signatures import Keyring
from backup.errors import StoreError, VerificationError
from backup.physical import lsn
from backup.physical.archive import SUFFIX, Archive, Gap, Stored
from backup.physical.pack import pack
from backup.physical.segments import Segments
from backup.physical.spans import Span
from backup.physical.unpack import unpack
from backup.pipeline import PackingOptions
from backup.programs import Programs
from backup.run import run
from backup.settings import BackupSettings
from backup.store import MemoryStore
from backup.verify import server as server_proof
from backup.verify import verify
from backup.verify.compare import sequences_behind
from backup.wiring import Wiring, wire
from sidecar import OpsError
from stack.programs import SUPPORTED
from stack.servers import Postgres
from stack.wait import wait_for
from tests.backup.pitrkit import LEDGER, Archiver
from tests.conftest import PHYSICAL, programs_of

IDENTITY = pyrage.x25519.Identity.generate()


@dataclass(frozen=True)
class Proven:
    """A store with a base backup, the log after it, and a dump in between."""

    environ: dict[str, str]
    base: str
    server: Postgres
    store: Path

    def wired(self, store: Path, work: Path) -> Wiring:
        work.mkdir()
        more = {"BACKUP_STORE_URL": f"file://{store}", "BACKUP_WORK_DIR": str(work)}
        return wire(BackupSettings.load({**self.environ, **more}))

    def verified(self, store: Path, work: Path) -> Report:
        wiring = self.wired(store, work)
        entry = wiring.reader().read(wiring.clock(), ["main"]).history("main").find(self.base)
        assert entry is not None
        return verify(wiring, entry)


def made(version: int, folder: Path) -> Iterator[Proven]:
    store = folder / "store"
    store.mkdir()
    options = {**PHYSICAL, "max_prepared_transactions": "5"}
    with Postgres(folder / "server", programs=programs_of(version), options=options) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(LEDGER)
            connection.execute("CREATE UNLOGGED TABLE cached AS SELECT 1 AS n")
            connection.execute("CREATE SEQUENCE numbers")
            connection.execute("SELECT nextval('numbers')")
            connection.execute("INSERT INTO ledger SELECT n FROM generate_series(1, 500) n")
        environ = {
            "BACKUP_SERVERS": f"main={server.url}",
            "BACKUP_DATABASE_URLS": f"shop={server.url}",
            "BACKUP_STORE_URL": f"file://{store}",
            "BACKUP_POSTGRES_BIN": str(server.programs),
            "BACKUP_AGE_RECIPIENTS": str(IDENTITY.to_public()),
            "BACKUP_AGE_IDENTITY": str(IDENTITY),
            "BACKUP_MANIFEST_KEY": "k" * 32,
            "BACKUP_STORE_ATTEMPTS": "1",
        }
        wiring = wire(BackupSettings.load(environ))
        with Archiver(wiring, wiring.server("main")) as archiver:
            base = run(wiring, wiring.server("main"))
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("INSERT INTO ledger SELECT n FROM generate_series(501, 600) n")
            run(wiring, wiring.target("shop"))
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("INSERT INTO ledger SELECT n FROM generate_series(601, 700) n")
                connection.execute("SELECT nextval('numbers') FROM generate_series(1, 100)")
                connection.execute("BEGIN")
                connection.execute("INSERT INTO ledger VALUES (9000)")
                connection.execute("PREPARE TRANSACTION 'open'")
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("INSERT INTO ledger SELECT n FROM generate_series(701, 750) n")
                row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            assert row is not None
            archiver.wait_for(lsn.parse(row[0]))
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("ROLLBACK PREPARED 'open'")
        yield Proven(environ, base.id, server, store)


@pytest.fixture(scope="module", params=SUPPORTED, ids=lambda version: f"postgres{version}")
def proven(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proven]:
    yield from made(request.param, tmp_path_factory.mktemp(f"proven{request.param}"))


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proven]:
    yield from made(SUPPORTED[-1], tmp_path_factory.mktemp("newest"))


def test_a_healthy_base_is_proven_equal_to_the_dump(proven: Proven, tmp_path: Path) -> None:
    report = proven.verified(proven.store, tmp_path / "work")
    assert report.ok, (report.differences, report.unprovable)
    notes = "\n".join(report.notes)
    assert "compared with" in notes
    assert "601 rows in 2 tables" in notes, notes
    assert "recovered to" in notes
    assert "the prepared transaction open of posthub is open" in notes
    assert "not provable: rows of UNLOGGED tables" in notes
    assert report.restore_seconds > 0
    assert list((tmp_path / "work").iterdir()) == []


def objects(store: Path, pattern: str) -> list[Path]:
    found = sorted(store.glob(pattern))
    assert found, pattern
    return found


def log(store: Path) -> list[Path]:
    """The objects of the log that the base backup needs, in order."""
    [manifest] = objects(store, "main/2*/manifest.json")
    first = json.loads(manifest.read_bytes())["physical"]["start"] >> 24
    return [each for each in objects(store, ".wal/main/*/00000001/0*") if int(each.name[16:24], 16) >= first]


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def sealed(path: Path, plain: bytes, recipient: object = IDENTITY.to_public()) -> None:
    """Replace an object's bytes, packed like ours."""
    path.write_bytes(pyrage.encrypt(zstandard.compress(plain), [recipient]))


def gap(store: Path) -> None:
    """The log after the dump is recorded as lost."""
    [folder] = objects(store, ".wal/main/*/00000001")
    start = int(log(store)[-1].name[16:24], 16) << 24
    lost = Gap(
        server="main",
        system_identifier=folder.parent.name,
        timeline=1,
        start=start,
        end=start + (1 << 24),
        noticed=datetime.now(UTC),
        reason="a test",
    )
    (folder / "gaps").mkdir()
    path = folder / "gaps" / f"{start:016X}-{start + (1 << 24):016X}.json"
    path.write_bytes(encode(lost, Keyring.parse("k" * 32)))


BASE, LIST = "main/2*/base.tar.zst.age", "main/2*/backup_manifest.zst.age"
Damage = Callable[[Path], object]
# The damage to the store, and the expected report or error.
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a bit in the base": (lambda store: flip(objects(store, BASE)[0]), "SHA-256"),
    "a bit in its first bytes": (lambda store: flip(objects(store, BASE)[0], 0), "SHA-256"),
    "the base is cut off": (lambda store: cut_off(objects(store, BASE)[0]), "differ in size: base.tar"),
    "the base is gone": (lambda store: objects(store, BASE)[0].unlink(), "are missing or differ in size"),
    "the base is empty": (
        lambda store: objects(store, BASE)[0].write_bytes(b""),
        "differ in size: base.tar",
    ),
    "a bit in the list of files": (lambda store: flip(objects(store, LIST)[0]), "SHA-256"),
    "the list of files is gone": (
        lambda store: objects(store, LIST)[0].unlink(),
        "are missing or differ in size",
    ),
    "base and list are swapped": (
        lambda store: swap(objects(store, BASE)[0], objects(store, LIST)[0]),
        "differ in size: base.tar",
    ),
    "a bit in the first WAL": (lambda store: flip(log(store)[0]), "decryption failed|is damaged"),
    "a bit in the last WAL": (lambda store: flip(log(store)[-1]), "decryption failed|is damaged"),
    "the first WAL is gone": (lambda store: log(store)[0].unlink(), "lacks WAL that it needs"),
    "WAL in the middle is gone": (
        lambda store: log(store)[-3].unlink(),
        "WAL is missing from here on",
    ),
    "all WAL is gone": (lambda store: shutil.rmtree(store / ".wal"), "lacks WAL that it needs"),
    "the tail is gone, with a dump's place": (
        lambda store: list(map(Path.unlink, log(store)[1:])),
        "lacks WAL that it needs|the stored WAL ends here|WAL is missing from here on",
    ),
    "WAL is cut off": (lambda store: cut_off(log(store)[1]), "decryption failed|is damaged"),
    "WAL is empty": (lambda store: log(store)[1].write_bytes(b""), "decryption failed|is damaged"),
    "two pieces of WAL are swapped": (
        lambda store: swap(log(store)[0], log(store)[1]),
        "is damaged",
    ),
    "WAL of other bytes": (lambda store: sealed(log(store)[1], b"x" * 8192), "is damaged"),
    "WAL that unpacks to too much": (
        lambda store: sealed(log(store)[1], bytes(1 << 26)),
        "unpacks to more than|is damaged",
    ),
    "WAL for another key": (
        lambda store: sealed(log(store)[1], b"x", pyrage.x25519.Identity.generate().to_public()),
        "decryption failed",
    ),
    "WAL that is not encrypted": (
        lambda store: log(store)[1].write_bytes(zstandard.compress(b"x")),
        "decryption failed",
    ),
    "WAL of another timeline": (
        lambda store: [
            each.rename(each.with_name(each.name.replace("00000001", "00000002", 1)))
            for each in log(store)[:1]
        ],
        "lacks WAL that it needs",
    ),
    "WAL of another cluster": (
        lambda store: [each.rename(each.with_name("1234567890")) for each in objects(store, ".wal/main/*")],
        "lacks WAL that it needs",
    ),
    "WAL under another signature": (
        lambda store: [
            each.rename(each.with_name(each.name.replace(SUFFIX, "")[:-4] + "0000" + SUFFIX))
            for each in log(store)[:1]
        ],
        "lacks WAL that it needs",
    ),
    "WAL at another position": (
        lambda store: log(store)[0].rename(
            log(store)[0].with_name(log(store)[-1].name.replace("-", "1-", 1))
        ),
        "lacks WAL that it needs",
    ),
    "the record of a gap": (gap, "WAL is missing from here on|lacks WAL that it needs"),
}


def test_enough_kinds_of_damage_are_tried() -> None:
    assert len(DAMAGES) >= 25


@pytest.mark.parametrize("damage", DAMAGES)
def test_all_damage_is_named(newest: Proven, tmp_path: Path, damage: str) -> None:
    store = tmp_path / "store"
    shutil.copytree(newest.store, store)
    work, named = DAMAGES[damage]
    work(store)
    try:
        report = newest.verified(store, tmp_path / "work")
    except OpsError as error:
        reported = error.message
    else:
        assert not report.ok
        reported = "; ".join(map(str, report.differences))
    assert re.search(named, reported), reported
    assert list((tmp_path / "work").iterdir()) == []


def test_damaged_wal_is_not_damage_to_the_base(newest: Proven, tmp_path: Path) -> None:
    """PostgreSQL's own list of files does not contain the WAL, so a complete base says nothing about the WAL."""
    store = tmp_path / "store"
    shutil.copytree(newest.store, store)
    sealed(log(store)[0], b"x" * 8192)
    report = newest.verified(store, tmp_path / "work")
    assert {each.kind for each in report.differences} == {"recovery"}, report.differences


def test_programs_that_are_older_than_the_server_prove_nothing(
    newest: Proven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Programs, "version", lambda *_: f"{SUPPORTED[-1]}.0")
    report = newest.verified(newest.store, tmp_path / "work")
    assert not report.ok
    assert report.differences == ()
    assert any("update them" in why for why in report.unprovable), report.unprovable


def test_a_build_without_amcheck_is_noted(
    monkeypatch: pytest.MonkeyPatch, newest: Proven, tmp_path: Path
) -> None:
    """The extension cannot be created while the server waits at its target, and some builds do not have it at all."""
    monkeypatch.setattr(server_proof, "_AMCHECK", "SELECT 1 WHERE false")
    report = newest.verified(newest.store, tmp_path / "work")
    assert report.ok, report.differences
    assert "indexes were not compared with their tables: amcheck is missing here" in report.notes


def test_a_sequence_that_is_behind_the_dump_is_a_difference(
    monkeypatch: pytest.MonkeyPatch, newest: Proven, tmp_path: Path
) -> None:
    """It would return a number twice."""
    seen: list[dict[str, int | None]] = []

    def behind(
        manifest: Manifest, positions: Iterable[Position], advancing: Collection[str]
    ) -> Iterator[Difference]:
        seen.append({each.name: each.last_value for each in positions})
        more = [each.model_copy(update={"last_value": 1000}) for each in manifest.sequences]
        return sequences_behind(manifest.model_copy(update={"sequences": tuple(more)}), positions, advancing)

    monkeypatch.setattr(server_proof, "sequences_behind", behind)
    report = newest.verified(newest.store, tmp_path / "work")
    assert [(each.kind, each.object, each.expected) for each in report.differences] == [
        ("sequence", "public.numbers", "at least 1000")
    ]
    # Its value at the snapshot, or up to 32 more; not the hundred values taken afterwards.
    assert 1 <= (seen[0]["public.numbers"] or 0) <= 33


def test_a_damaged_manifest_is_reported_by_the_catalogue(newest: Proven, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(newest.store, store)
    flip(objects(store, "main/2*/manifest.json")[0])
    wiring = newest.wired(store, tmp_path / "work")
    history = wiring.reader().read(wiring.clock(), ["main"]).history("main")
    assert (history.backups, len(history.broken)) == ((), 1)


def test_a_store_that_fails_during_the_recovery_says_nothing_about_the_base(
    newest: Proven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiring = newest.wired(newest.store, tmp_path / "work")
    entry = wiring.reader().read(wiring.clock(), ["main"]).history("main").find(newest.base)
    assert entry is not None
    kept = wiring.store.get

    def get(key: str) -> bytes:
        if key.startswith(".wal/") and key.count("-") > 1 and ".json" not in key:
            raise StoreError("the store is gone", hint="wait", operation="get")
        return kept(key)

    monkeypatch.setattr(wiring.store, "get", get)
    with pytest.raises(StoreError, match="the store is gone"):
        verify(wiring, entry)


def archive(*members: tarfile.TarInfo) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as packed:
        for member in members:
            packed.addfile(member, io.BytesIO(bytes(member.size)) if member.isreg() else None)
    data.seek(0)
    return data


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, 10 if kind == tarfile.REGTYPE else 0
    return found


@pytest.mark.parametrize(
    "bad",
    [
        member("../outside"),
        member("/etc/outside"),
        member("base/../../outside"),
        member("link", tarfile.SYMTYPE, "/etc"),
        member("link", tarfile.LNKTYPE, "base/1"),
        member("device", tarfile.CHRTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda bad: f"{bad.name} {bad.type.decode()}",
)
def test_an_archive_leads_nowhere_else(bad: tarfile.TarInfo, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=re.escape(bad.name)):
        unpack(archive(member("base/1"), bad), tmp_path / "data", lambda: None)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    """512 bytes of an archive would become as large as the header claims."""
    sparse = tarfile.TarInfo("base/1")
    sparse.size = 0
    sparse.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.numblocks": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.realsize": str(1 << 40),
    }
    with pytest.raises(VerificationError, match="neither a plain file nor a folder"):
        unpack(archive(sparse), tmp_path / "data", lambda: None)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME], ids=["pax", "gnu"])
def test_endless_names_are_not_read(kind: bytes, tmp_path: Path) -> None:
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 1 << 30
    data = header.tobuf(tarfile.USTAR_FORMAT) + bytes(1 << 20)
    with pytest.raises(VerificationError, match="is damaged"):
        unpack(io.BytesIO(data), tmp_path / "data", lambda: None)


def test_a_check_ends_the_unpacking_of_one_large_file(tmp_path: Path) -> None:
    large = tarfile.TarInfo("base/1")
    large.size = 8 << 20
    calls: list[int] = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise StoppedError("stopped", hint="again")

    with pytest.raises(StoppedError):
        unpack(archive(large), tmp_path / "data", check)
    assert (tmp_path / "data" / "base" / "1").stat().st_size < large.size


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_bytes_are_an_archive_or_damaged(data: st.DataObject) -> None:
    whole = archive(
        member("base/1"), member("base/2", tarfile.DIRTYPE), member("global/pg_control")
    ).getvalue()[:4096]
    begin = data.draw(st.integers(0, len(whole)))
    odd = whole[:begin] + data.draw(st.binary(max_size=60)) + whole[begin + data.draw(st.integers(0, 60)) :]
    with TemporaryDirectory() as folder, suppress(VerificationError):
        unpack(io.BytesIO(odd), Path(folder) / "data", lambda: None)


def test_an_archive_that_ends_early_is_damaged(tmp_path: Path) -> None:
    data = archive(member("base/1"), member("base/2")).getvalue()
    with pytest.raises(VerificationError, match="is damaged"):
        unpack(io.BytesIO(data[:515]), tmp_path / "data", lambda: None)


def test_pieces_that_become_a_segment_meanwhile_are_found(tmp_path: Path) -> None:
    """A recovery to the latest state reads objects that the stream is replacing."""
    size, store = 1 << 24, MemoryStore()
    archive = Archive("main", "1234567890", size)
    packing = PackingOptions(recipients=(IDENTITY.to_public(),))
    plain = bytes(range(256)) * (size // 256)

    def put(start: int, end: int) -> str:
        packed = pack(plain[start:end], packing)
        key = archive.wal_key(1, size + start, size + end, packed.sha256)
        store.put(key, packed.data)
        return key

    pieces = [put(0, 5000), put(5000, 9000), put(9000, size)]
    listing = archive.listing(Stored(info.key, info.size, info.modified) for info in store.walk())
    segments = Segments(store, archive, listing, (Span(1, size, 2 * size),), 1, (IDENTITY,))
    put(0, size)
    store.delete(pieces)
    segments.fetch("000000010000000000000001", tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == plain
    store.delete([info.key for info in store.walk()])
    with pytest.raises(
        VerificationError, match="000000010000000000000001 is missing from the store from 0/1000000"
    ):
        segments.fetch("000000010000000000000001", tmp_path / "gone")


def test_a_lock_of_a_transaction_in_progress_does_not_hold_up_the_proof(
    newest: Proven, tmp_path: Path
) -> None:
    """A server that waits at its target keeps such locks, and a dump of it would wait for them forever."""
    store, server = tmp_path / "store", newest.server
    store.mkdir()
    wiring = newest.wired(store, tmp_path / "work")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE MATERIALIZED VIEW total AS SELECT count(*) FROM ledger")
    with Archiver(wiring, wiring.server("main")) as archiver:
        base = run(wiring, wiring.server("main"))
        with psycopg.connect(server.url) as refreshing, ThreadPoolExecutor(1) as pool:
            refreshing.execute("REFRESH MATERIALIZED VIEW total")
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("SELECT pg_logical_emit_message(true, 'test', 'a commit after the lock')")
            dump = pool.submit(run, wiring, wiring.target("shop"))
            wait_for(lambda: _waits(server), timeout=150, what="the dump waits", hint="look at its locks")
            refreshing.commit()
            dump.result()
        with psycopg.connect(server.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
            connection.execute("DROP MATERIALIZED VIEW total")
        assert row is not None
        archiver.wait_for(lsn.parse(row[0]))
    entry = wiring.reader().read(wiring.clock(), ["main"]).history("main").find(base.id)
    assert entry is not None
    report = verify(wiring, entry)
    assert report.ok, report.differences
    assert any("total was locked by a transaction in progress" in note for note in report.notes), report.notes


def _waits(server: Postgres) -> bool:
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = to_regclass('total')"
        ).fetchone()
    return row is not None
