"""A backup of a real database into real stores, restored, compared, and read with standard programs."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from backup.catalogue import layout
from backup.catalogue.history import Entry
from backup.catalogue.manifest import Manifest, StoredObject
from backup.doctor import examine
from backup.errors import BusyError, CatalogueError, PreflightError, VerificationError
from backup.postgres.dsn import Address
from backup.postgres.lock import advisory_lock
from backup.replication.merged import read
from backup.run import run
from backup.verify import verify
from backup.wiring import Wiring
from stack.servers import Postgres
from tests.backup.conftest import ROWS, NewDatabase, Wire

pyrage = pytest.importorskip("pyrage")


def latest(wiring: Wiring) -> Entry:
    entry = read(wiring).history(wiring.targets[0].name).latest
    assert entry is not None
    return entry


def archive(manifest: Manifest) -> StoredObject:
    [stored] = [each for each in manifest.objects if each.role == "archive"]
    return stored


def archive_key(manifest: Manifest) -> str:
    return f"{layout.folder(manifest.database, manifest.id)}/{archive(manifest).name}"


def test_a_backup_in_s3_passes(wired: Wire, bucket: dict[str, str], database: str) -> None:
    identity = pyrage.x25519.Identity.generate()
    wiring = wired(
        **bucket, BACKUP_AGE_RECIPIENTS=str(identity.to_public()), BACKUP_AGE_IDENTITY=str(identity)
    )
    seen: list[int] = []
    made = run(wiring, wiring.targets[0], seen.append)
    assert (made.rows, len(made.tables)) == (ROWS, 5)
    assert {extension.name for extension in made.extensions} == {"plpgsql", "vector"}
    assert sum(seen) >= sum(stored.raw_bytes for stored in made.objects if stored.role == "archive")
    assert made.encrypted
    entry = latest(wiring)
    assert (entry.id, entry.state) == (made.id, "unverified")
    report = verify(wiring, entry)
    assert report.differences == ()
    assert report.ok
    assert report.restore_seconds > 0
    entry = latest(wiring)
    assert entry.verified
    assert [record.outcome for record in read(wiring).history(database).attempts] == ["success", "success"]


def test_the_manifest_is_the_last_thing_written(wired: Wire) -> None:
    wiring = wired()
    made = run(wiring, wiring.targets[0])
    objects = {info.key: info.modified for info in wiring.store.walk(f"{made.database}/{made.id}/")}
    assert max(objects, key=lambda key: objects[key]).endswith("manifest.json")
    assert len(objects) == 3


def test_stock_programs_read_it(
    wired: Wire, tmp_path: Path, new_database: NewDatabase, postgres: Postgres
) -> None:
    """``age -d | zstd -d | pg_restore`` with the standard programs."""
    from stack.programs import find

    identity = pyrage.x25519.Identity.generate()
    wiring = wired(BACKUP_AGE_RECIPIENTS=str(identity.to_public()))
    made = run(wiring, wiring.targets[0])
    (tmp_path / "identity.txt").write_text(str(identity))
    empty = new_database("SELECT 1", "restored")
    file = tmp_path / "store" / archive_key(made)
    age = subprocess.Popen([find("age"), "-d", "-i", tmp_path / "identity.txt", file], stdout=subprocess.PIPE)
    zstd = subprocess.Popen([find("zstd"), "-d", "-q"], stdin=age.stdout, stdout=subprocess.PIPE)
    restore = subprocess.run(
        [wiring.programs.path("pg_restore"), "--exit-on-error", f"--dbname={postgres.url_for(empty)}"],
        stdin=zstd.stdout,
    )
    assert (age.wait(), zstd.wait(), restore.returncode) == (0, 0, 0)
    with psycopg.connect(postgres.url_for(empty)) as connection:
        assert connection.execute("SELECT count(*) FROM posts").fetchone() == (2000,)


def test_roles_and_grants_come_along(wired: Wire, new_database: NewDatabase, postgres: Postgres) -> None:
    name = new_database(
        "CREATE ROLE reader; CREATE ROLE boss; GRANT reader TO boss WITH ADMIN OPTION;"
        "CREATE TABLE t (id int); ALTER TABLE t OWNER TO boss; GRANT SELECT ON t TO reader; INSERT INTO t VALUES (1);"
    )
    wiring = wired(DATABASE_URL=postgres.url_for(name))
    made = run(wiring, wiring.targets[0])
    assert {"reader", "boss"} <= set(made.roles)
    assert verify(wiring, latest(wiring)).differences == ()


def test_a_wrong_key_says_nothing_about_the_backup(wired: Wire) -> None:
    """After a key rotation, older backups cannot be checked, which is not a failure."""
    old, new = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    wiring = wired(BACKUP_AGE_RECIPIENTS=str(old.to_public()), BACKUP_AGE_IDENTITY=str(old))
    made = run(wiring, wiring.targets[0])
    assert verify(wiring, latest(wiring)).ok
    rotated = wired(BACKUP_AGE_RECIPIENTS=str(new.to_public()), BACKUP_AGE_IDENTITY=str(new))
    with pytest.raises(VerificationError, match="decryption failed"):
        verify(rotated, latest(wiring))
    assert latest(wiring).verified
    # A change in the store is a failure, even if it looks like a wrong key.
    key, data = archive_key(made), bytearray(wiring.store.get(archive_key(made)))
    data[60] ^= 1
    wiring.store.put(key, bytes(data))
    report = verify(wiring, latest(wiring))
    assert report.differences[0].object == "database.dump.zst.age"


DAMAGES = {
    "flipped byte": lambda data: (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    ),
    "truncated": lambda data: data[:-7],
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_object_is_named(wired: Wire, damage: str) -> None:
    wiring = wired()
    made = run(wiring, wiring.targets[0])
    key, stored = archive_key(made), archive(made)
    wiring.store.put(key, DAMAGES[damage](wiring.store.get(key)))
    report = verify(wiring, latest(wiring))
    assert not report.ok
    [difference] = report.differences
    assert (difference.kind, difference.object) == ("object", "database.dump.zst")
    assert stored.sha256 in difference.expected or str(stored.stored_bytes) in difference.expected
    # An object of a different size is as good as missing.
    assert latest(wiring).state == ("FAILED" if damage == "flipped byte" else "incomplete")
    newest = read(wiring).history(made.database).newest("verification")
    assert newest is not None
    assert newest.totals == {"failure": 1}


def test_another_database_s_archive_is_found_out(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    """Right digest, wrong contents: the counts of the snapshot reveal it."""
    wiring = wired()
    made = run(wiring, wiring.targets[0])
    other = new_database("CREATE TABLE channels (id int, name text); INSERT INTO channels VALUES (1, 'x')")
    theirs = run(
        wired(DATABASE_URL=postgres.url_for(other)), wired(DATABASE_URL=postgres.url_for(other)).targets[0]
    )
    wiring.store.put(archive_key(made), wiring.store.get(archive_key(theirs)))
    objects = (theirs.objects[0], made.objects[1])
    wiring.store.put(
        layout.manifest(made.database, made.id), made.model_copy(update={"objects": objects}).encode()
    )
    found = {(each.kind, each.object): each for each in verify(wiring, latest(wiring)).differences}
    assert found["rows", "public.posts"].expected == "2000"
    assert found["rows", "public.posts"].found == "nothing"
    assert found["rows", "public.channels"].found == "1"
    assert ("extension", "vector") in found


def test_a_damaged_manifest_is_named(wired: Wire) -> None:
    wiring = wired()
    made = run(wiring, wiring.targets[0])
    key = layout.manifest(made.database, made.id)
    data = wiring.store.get(key)
    wiring.store.put(key, data.replace(b'"rows": 2000', b'"rows": 1000'))
    history = read(wiring).history(made.database)
    assert history.backups == ()
    assert [broken.id for broken in history.broken] == [made.id]
    assert "digest" in history.broken[0].error.message
    for wrong, message in (
        (b"{}", "format None"),
        (b"no", "not JSON"),
        (data.replace(b'"format": 2', b'"format": 9'), "9"),
    ):
        with pytest.raises(CatalogueError, match=message):
            Manifest.decode(wrong, key)


def test_one_run_at_a_time(wired: Wire) -> None:
    wiring = wired()
    target = wiring.targets[0]
    assert isinstance(target.address, Address)
    with (
        advisory_lock(target.address),
        pytest.raises(BusyError, match=r"another backup of shop_.* server process"),
    ):
        run(wiring, target)
    run(wiring, target)


def test_rows_that_may_not_be_read_are_found_before_the_dump(
    wired: Wire, new_database: NewDatabase, postgres: Postgres
) -> None:
    name = new_database(
        "CREATE TABLE mine (id int); CREATE ROLE weak LOGIN PASSWORD 'weak-password'; GRANT CREATE ON SCHEMA public TO weak;"
    )
    url = postgres.url_for(name).replace("posthub:posthub@", "weak:weak-password@")
    wiring = wired(DATABASE_URL=url)
    with pytest.raises(PreflightError, match=r"weak may not read public\.mine") as caught:
        run(wiring, wiring.targets[0])
    assert "pg_read_all_data" in caught.value.hint
    history = read(wiring).history(name)
    assert history.backups == ()
    assert [(record.kind, record.outcome) for record in history.attempts] == [("backup", "failure")]


def test_the_snapshot_is_of_one_moment(wired: Wire, new_database: NewDatabase, postgres: Postgres) -> None:
    """Rows that are inserted and deleted during the dump are both dumped and counted, or neither."""
    name = new_database(
        "CREATE TABLE t (id int, body text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 50000) i"
    )
    wiring = wired(DATABASE_URL=postgres.url_for(name))

    def write(_: int) -> None:
        with psycopg.connect(postgres.url_for(name), autocommit=True) as connection:
            connection.execute(
                "DELETE FROM t WHERE id <= 1000; INSERT INTO t SELECT i, 'new' FROM generate_series(1, 77) i"
            )

    made = run(wiring, wiring.targets[0], write)
    assert made.rows == 50000
    assert verify(wiring, latest(wiring)).ok


def test_the_command_line(environ: dict[str, str], bucket: dict[str, str], tmp_path: Path) -> None:
    """The commands of the demo and of operators."""
    env = {**os.environ, **environ, **bucket}

    def backup(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "backup", *arguments], env=env, capture_output=True, text=True
        )
        return done.returncode, done.stdout, done.stderr

    status, out, _ = backup("run", "--json")
    made = json.loads(out)
    assert status == 0
    assert {"id", "raw_bytes", "stored_bytes", "seconds", "bytes_per_second", "rows", "tables"} <= set(made)
    status, out, _ = backup("list", "--json", "--database", made["database"])
    assert json.loads(out)[0]["id"] == made["id"]
    status, out, _ = backup("verify", "latest", "--json")
    report = json.loads(out)
    assert (status, report["ok"], report["differences"]) == (0, True, [])
    assert report["restore_seconds"] > 0
    status, out, _ = backup("show", made["id"])
    assert status == 0
    assert "passed" in out
    status, out, _ = backup("prune", "--dry-run", "--json")
    assert json.loads(out)[made["database"]]["deleted"] == []
    status, out, _ = backup("doctor", "--json")
    assert status == 0, out
    status, _, err = backup("verify", "20200101T000000Z-000000")
    assert status == 2, err
    assert err.startswith("Error: backup")


def test_a_run_for_no_terminal_loads_only_what_it_needs(environ: dict[str, str]) -> None:
    """Imports are most of the time of a small backup."""
    program = (
        "import sys; from backup.cli import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "--json"],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "backup.postgres.engine" in loaded
    unwanted = {"rich", "botocore", "backup.physical", "backup.load", "backup.discovery", "backup.notify"}
    assert not unwanted & loaded


def test_doctor_looks_for_room(wired: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = wired(BACKUP_SPOOL_DIR=str(tmp_path / "spool"))
    usage = shutil.disk_usage(tmp_path)
    for free, ok in ((usage.free, True), (1000, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        found = {check.name: check.ok for check in examine(wiring)}
        assert (found["work folder"], found["spool"]) == (ok, ok)


def test_moments_are_utc(wired: Wire) -> None:
    wiring = wired()
    made = run(wiring, wiring.targets[0])
    assert abs((datetime.now(UTC) - made.taken).total_seconds()) < 60
    assert made.taken.utcoffset() is not None
